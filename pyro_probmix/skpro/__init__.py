"""The regressor for skpro, a `BaseProbaRegressor`, and its predictive distribution; needs the package skpro."""

from pyro_probmix.skpro.distribution import PredictiveDistribution
from pyro_probmix.skpro.regressor import ProbMixProbaRegressor

__all__ = ["PredictiveDistribution", "ProbMixProbaRegressor"]
