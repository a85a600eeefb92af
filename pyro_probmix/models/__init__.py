"""Networks, density heads, the generative process and the named methods."""

from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gamma,
    Gaussian,
    HomoscedasticGaussian,
    Likelihood,
    Poisson,
    StudentT,
)
from pyro_probmix.models.methods import METHODS, Method, build_density
from pyro_probmix.models.networks import MLP, Linear, initialise
from pyro_probmix.models.periodic import PeriodicFeatures
from pyro_probmix.models.process import ProbMix
from pyro_probmix.models.stacked import Stacked

__all__ = [
    "LIKELIHOODS",
    "METHODS",
    "MLP",
    "Bernoulli",
    "Categorical",
    "ConditionalDensity",
    "Gamma",
    "Gaussian",
    "GaussianEmbedding",
    "HomoscedasticGaussian",
    "Likelihood",
    "Linear",
    "Method",
    "PeriodicFeatures",
    "PointEmbedding",
    "Poisson",
    "ProbMix",
    "Stacked",
    "StudentT",
    "build_density",
    "initialise",
]
