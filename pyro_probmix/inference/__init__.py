"""Criteria, trainer, prediction, and the way from there to the calibration checks."""

from pyro_probmix.inference.beta_nll import BetaNLL
from pyro_probmix.inference.checkpoint import Checkpoint, ForeignCheckpoint
from pyro_probmix.inference.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.handover import rescale, to_predictions
from pyro_probmix.inference.prediction import PredictiveMixture, negative_log_likelihood, predict
from pyro_probmix.inference.quantile import quantiles
from pyro_probmix.inference.training import Fit, fit

__all__ = [
    "BetaNLL",
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
    "rescale",
    "to_predictions",
]
