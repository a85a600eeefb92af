"""Checks of a family, pool, graph, label kernel, likelihood or method of your own, each of them one call."""

from pyro_probmix.testing.families import check_family
from pyro_probmix.testing.graphs import check_graph
from pyro_probmix.testing.invariants import BrokenInvariant
from pyro_probmix.testing.kernels import check_kernel
from pyro_probmix.testing.likelihoods import check_likelihood
from pyro_probmix.testing.methods import check_method
from pyro_probmix.testing.pools import check_pool

__all__ = [
    "BrokenInvariant",
    "check_family",
    "check_graph",
    "check_kernel",
    "check_likelihood",
    "check_method",
    "check_pool",
]
