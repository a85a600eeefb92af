"""Criteria, the trainer, predictions, and their hand-over to the calibration checks."""

from pyro_probmix.inference.checkpoint import Checkpoint, DamagedCheckpoint, ForeignCheckpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.criteria.beta_nll import BetaNLL
from pyro_probmix.inference.criteria.crps import CRPS
from pyro_probmix.inference.data.memory_map import ArrayStream
from pyro_probmix.inference.data.parquet import ParquetStream
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.inference.predictive.handover import rescale, to_predictions
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.prediction import negative_log_likelihood, predict
from pyro_probmix.inference.predictive.quantile import quantiles
from pyro_probmix.inference.training import Fit, fit

__all__ = [
    "CRPS",
    "ArrayStream",
    "BetaNLL",
    "Checkpoint",
    "Criterion",
    "DamagedCheckpoint",
    "ExpectedLogLikelihood",
    "Fit",
    "ForeignCheckpoint",
    "LogExpectedLikelihood",
    "ParquetStream",
    "PredictiveMixture",
    "RowStream",
    "fit",
    "negative_log_likelihood",
    "predict",
    "quantiles",
    "rescale",
    "to_predictions",
]
