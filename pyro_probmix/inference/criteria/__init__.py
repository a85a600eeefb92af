"""Criteria: what a fit maximises, as ELBO classes of Pyro."""

from pyro_probmix.inference.criteria.beta_nll import BetaNLL
from pyro_probmix.inference.criteria.criteria import Criterion, ExpectedLogLikelihood, LogExpectedLikelihood
from pyro_probmix.inference.criteria.crps import CRPS

__all__ = ["CRPS", "BetaNLL", "Criterion", "ExpectedLogLikelihood", "LogExpectedLikelihood"]
