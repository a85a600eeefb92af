"""Criteria, trainer and prediction."""

from pyro_probmix.inference.checkpoint import Checkpoint, ForeignCheckpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.prediction import PredictiveMixture, negative_log_likelihood, predict
from pyro_probmix.inference.quantile import quantiles
from pyro_probmix.inference.training import Fit, fit

__all__ = [
    "Checkpoint",
    "Criterion",
    "ExpectedLogLikelihood",
    "Fit",
    "ForeignCheckpoint",
    "LogExpectedLikelihood",
    "PredictiveMixture",
    "fit",
    "negative_log_likelihood",
    "predict",
    "quantiles",
]
