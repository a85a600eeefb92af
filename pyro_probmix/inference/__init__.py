"""Criteria, trainer and prediction."""

from pyro_probmix.inference.checkpoint import Checkpoint, ForeignCheckpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.memory_map import ArrayStream
from pyro_probmix.inference.parquet import ParquetStream
from pyro_probmix.inference.prediction import PredictiveMixture, negative_log_likelihood, predict
from pyro_probmix.inference.streaming import RowStream
from pyro_probmix.inference.training import Fit, fit

__all__ = [
    "ArrayStream",
    "Checkpoint",
    "Criterion",
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
]
