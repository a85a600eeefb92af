"""Probabilistic mixup for Pyro: fuse the densities of two inputs instead of mixing the inputs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it. A name is imported when it is first asked for, so that neither
# `import pyro_probmix` nor `probmix --help` waits for torch and Pyro.
_HOMES = {
    "CompleteGraph": "graphs",
    "LabelKernelGraph": "graphs",
    "NearestNeighborGraph": "graphs",
    "SameClassGraph": "graphs",
    "WeightedGraph": "graphs",
    "BiasedCategoricalKernel": "kernels",
    "DiracKernel": "kernels",
    "GaussianKernel": "kernels",
    "METHODS": "models.methods",
    "ConditionalDensity": "models.density",
    "ExpectedLogLikelihood": "inference.criteria",
    "LogExpectedLikelihood": "inference.criteria",
    "Method": "models.methods",
    "PriorGuide": "guides",
    "ProbMix": "models.process",
    "build_density": "models.methods",
    "fit": "inference.training",
    "fuse": "handlers",
    "predict": "inference.prediction",
    "linear_pool": "pooling",
    "log_linear_pool": "pooling",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
