"""Networks, density heads, the generative process and the named methods."""

from pyro_probmix.models.beyond import BEYOND, find_method
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
from pyro_probmix.models.recurrent import LSTM, LSTMLayer
from pyro_probmix.models.stacked import Stacked
from pyro_probmix.models.transformer import Attention, Transformer

__all__ = [
    "BEYOND",
    "LIKELIHOODS",
    "LSTM",
    "METHODS",
    "MLP",
    "Attention",
    "Bernoulli",
    "Categorical",
    "ConditionalDensity",
    "Gamma",
    "Gaussian",
    "GaussianEmbedding",
    "HomoscedasticGaussian",
    "LSTMLayer",
    "Likelihood",
    "Linear",
    "Method",
    "PeriodicFeatures",
    "PointEmbedding",
    "Poisson",
    "ProbMix",
    "Stacked",
    "StudentT",
    "Transformer",
    "build_density",
    "find_method",
    "initialise",
]
