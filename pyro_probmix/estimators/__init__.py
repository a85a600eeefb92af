"""Estimators in the way of scikit-learn: fit, predict, and a calibrated density."""

from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.estimators.regressor import ProbMixRegressor

__all__ = ["ProbMixClassifier", "ProbMixRegressor"]
