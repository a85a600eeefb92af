"""Univariate families of distributions in NumPy, each exact in its own tails: for quantiles, and where torch has no cdf."""

from pyro_probmix.inference.predictive.families import composed, counts, numbers  # noqa: F401  # they register
from pyro_probmix.inference.predictive.families.family import Family, columns_of, family_of, marginals_of

__all__ = ["Family", "columns_of", "family_of", "marginals_of"]
