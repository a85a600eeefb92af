"""Probabilistic mixup for Pyro: fuse the densities of two inputs instead of mixing the inputs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# Public name -> the module that defines it. A name is imported when it is first asked for, so that neither
# `import pyro_probmix` nor `probmix --help` waits for torch and Pyro. Type checkers read the imports below.
_HOMES = {
    "ArrayStream": "inference.data.memory_map",
    "BetaNLL": "inference.criteria.beta_nll",
    "BiasedBernoulliKernel": "fusing.kernels.kernels",
    "BiasedCategoricalKernel": "fusing.kernels.kernels",
    "BiasedOneHotKernel": "fusing.kernels.kernels",
    "Checkpoint": "inference.checkpoint",
    "CircularKernel": "fusing.kernels.directional",
    "CompleteGraph": "graphs.graphs",
    "ConditionalDensity": "models.density",
    "DiracKernel": "fusing.kernels.kernels",
    "ExpectedLogLikelihood": "inference.criteria.criteria",
    "GaussianKernel": "fusing.kernels.kernels",
    "LabelKernelGraph": "graphs.graphs",
    "LogExpectedLikelihood": "inference.criteria.criteria",
    "METHODS": "models.methods",
    "Method": "models.methods",
    "NearestNeighborGraph": "graphs.graphs",
    "ParquetStream": "inference.data.parquet",
    "PriorGuide": "fusing.guides",
    "ProbMix": "models.process",
    "ProbMixClassifier": "estimators.classifier",
    "ProbMixRegressor": "estimators.regressor",
    "SameClassGraph": "graphs.graphs",
    "SphericalKernel": "fusing.kernels.directional",
    "WeightedGraph": "graphs.graphs",
    "build_density": "models.methods",
    "check": "calibration.checking",
    "find_method": "models.beyond",
    "fit": "inference.training",
    "fuse": "fusing.handler",
    "linear_pool": "pooling.pools",
    "load": "estimators.loading",
    "log_linear_pool": "pooling.pools",
    "predict": "inference.predictive.prediction",
    "register_family": "pooling.families",
    "to_arviz": "calibration.arviz.data",
    "to_predictions": "inference.predictive.handover",
}

if TYPE_CHECKING:
    from pyro_probmix.calibration.arviz.data import to_arviz as to_arviz
    from pyro_probmix.calibration.checking import check as check
    from pyro_probmix.estimators.classifier import ProbMixClassifier as ProbMixClassifier
    from pyro_probmix.estimators.loading import load as load
    from pyro_probmix.estimators.regressor import ProbMixRegressor as ProbMixRegressor
    from pyro_probmix.fusing.guides import PriorGuide as PriorGuide
    from pyro_probmix.fusing.handler import fuse as fuse
    from pyro_probmix.fusing.kernels.directional import CircularKernel as CircularKernel
    from pyro_probmix.fusing.kernels.directional import SphericalKernel as SphericalKernel
    from pyro_probmix.fusing.kernels.kernels import BiasedBernoulliKernel as BiasedBernoulliKernel
    from pyro_probmix.fusing.kernels.kernels import BiasedCategoricalKernel as BiasedCategoricalKernel
    from pyro_probmix.fusing.kernels.kernels import BiasedOneHotKernel as BiasedOneHotKernel
    from pyro_probmix.fusing.kernels.kernels import DiracKernel as DiracKernel
    from pyro_probmix.fusing.kernels.kernels import GaussianKernel as GaussianKernel
    from pyro_probmix.graphs import CompleteGraph as CompleteGraph
    from pyro_probmix.graphs import LabelKernelGraph as LabelKernelGraph
    from pyro_probmix.graphs import NearestNeighborGraph as NearestNeighborGraph
    from pyro_probmix.graphs import SameClassGraph as SameClassGraph
    from pyro_probmix.graphs import WeightedGraph as WeightedGraph
    from pyro_probmix.inference.checkpoint import Checkpoint as Checkpoint
    from pyro_probmix.inference.criteria import ExpectedLogLikelihood as ExpectedLogLikelihood
    from pyro_probmix.inference.criteria import LogExpectedLikelihood as LogExpectedLikelihood
    from pyro_probmix.inference.criteria.beta_nll import BetaNLL as BetaNLL
    from pyro_probmix.inference.data.memory_map import ArrayStream as ArrayStream
    from pyro_probmix.inference.data.parquet import ParquetStream as ParquetStream
    from pyro_probmix.inference.predictive.handover import to_predictions as to_predictions
    from pyro_probmix.inference.predictive.prediction import predict as predict
    from pyro_probmix.inference.training import fit as fit
    from pyro_probmix.models.beyond import find_method as find_method
    from pyro_probmix.models.density import ConditionalDensity as ConditionalDensity
    from pyro_probmix.models.methods import METHODS as METHODS
    from pyro_probmix.models.methods import Method as Method
    from pyro_probmix.models.methods import build_density as build_density
    from pyro_probmix.models.process import ProbMix as ProbMix
    from pyro_probmix.pooling import linear_pool as linear_pool
    from pyro_probmix.pooling import log_linear_pool as log_linear_pool
    from pyro_probmix.pooling.families import register_family as register_family

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
