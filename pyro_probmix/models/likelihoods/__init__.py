"""Density heads: from features to the density of the response, p(y|x)."""

from pyro_probmix.models.likelihoods.base import FLOOR, Likelihood
from pyro_probmix.models.likelihoods.bayesian import BayesianLinear
from pyro_probmix.models.likelihoods.censored import Censored
from pyro_probmix.models.likelihoods.classes import Bernoulli, Categorical
from pyro_probmix.models.likelihoods.counts import (
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from pyro_probmix.models.likelihoods.positive import Gamma, Hurdle, LogNormal, LogNormalMixture, ZeroOneBeta
from pyro_probmix.models.likelihoods.reals import (
    Gaussian,
    GaussianMixture,
    HomoscedasticGaussian,
    Spline,
    StudentT,
    StudentTMixture,
)

__all__ = [
    "FLOOR",
    "LIKELIHOODS",
    "BayesianLinear",
    "Bernoulli",
    "Categorical",
    "Censored",
    "Gamma",
    "Gaussian",
    "GaussianMixture",
    "HomoscedasticGaussian",
    "Hurdle",
    "Likelihood",
    "LogNormal",
    "LogNormalMixture",
    "NegativeBinomial",
    "Poisson",
    "Spline",
    "StudentT",
    "StudentTMixture",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "ZeroOneBeta",
]

#: Name -> the head. A line here is all that a new one needs.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "homoscedastic": HomoscedasticGaussian,
    "student-t": StudentT,
    "gaussian-mixture": GaussianMixture,
    "student-t-mixture": StudentTMixture,
    "spline": Spline,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
    "zero-inflated-poisson": ZeroInflatedPoisson,
    "zero-inflated-negative-binomial": ZeroInflatedNegativeBinomial,
    "gamma": Gamma,
    "log-normal": LogNormal,
    "log-normal-mixture": LogNormalMixture,
    "hurdle": Hurdle,
    "zero-one-beta": ZeroOneBeta,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
}
