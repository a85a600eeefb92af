"""Networks, density heads, the generative process and the named methods."""

from pyro_probmix.models.beyond import BEYOND, find_method
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Censored,
    Gamma,
    Gaussian,
    GaussianMixture,
    HomoscedasticGaussian,
    Hurdle,
    Likelihood,
    LogNormal,
    LogNormalMixture,
    NegativeBinomial,
    Poisson,
    Spline,
    StudentT,
    StudentTMixture,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
    ZeroOneBeta,
)
from pyro_probmix.models.methods import METHODS, Method, build_density
from pyro_probmix.models.networks import MLP, initialise
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
    "Censored",
    "ConditionalDensity",
    "Gamma",
    "Gaussian",
    "GaussianEmbedding",
    "GaussianMixture",
    "HomoscedasticGaussian",
    "Hurdle",
    "LSTMLayer",
    "Likelihood",
    "Linear",
    "LogNormal",
    "LogNormalMixture",
    "Method",
    "NegativeBinomial",
    "PeriodicFeatures",
    "PointEmbedding",
    "Poisson",
    "ProbMix",
    "Spline",
    "Stacked",
    "StudentT",
    "StudentTMixture",
    "Transformer",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "ZeroOneBeta",
    "build_density",
    "find_method",
    "initialise",
]
