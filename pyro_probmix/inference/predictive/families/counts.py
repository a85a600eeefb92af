"""Families of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
from scipy import special, stats

from pyro_probmix.inference.predictive.families.family import Family, family_of, of_scipy


@family_of.register
def _poisson(p: dist.Poisson) -> Family:
    def at_least(real: Any) -> Any:
        # The regularised incomplete gamma functions interpolate between integers; rounding may put them on either side.
        return np.maximum(np.ceil(real) - 1, 0)

    return Family(
        (p.rate,),
        lambda y, rate: np.where(y < 0, 0.0, special.pdtr(np.maximum(np.floor(y), 0), rate)),
        lambda y, rate: np.where(y < 0, 1.0, special.pdtrc(np.maximum(np.floor(y), 0), rate)),
        lambda q, rate: at_least(special.pdtrik(q, rate)),
        lambda q, rate: np.where(q == 0, np.inf, at_least(special.pdtrik(1 - q, rate))),
        discrete=True,
    )


@family_of.register
def _bernoulli(p: dist.Bernoulli) -> Family:
    return Family(
        (p.probs,),
        lambda y, probs: np.where(y < 0, 0.0, np.where(y < 1, 1 - probs, 1.0)),
        lambda y, probs: np.where(y < 0, 1.0, np.where(y < 1, probs, 0.0)),
        lambda q, probs: np.where(q > 1 - probs, 1.0, 0.0),
        lambda q, probs: np.where(q < probs, 1.0, 0.0),
        discrete=True,
    )


@family_of.register
def _binomial(p: dist.Binomial) -> Family:
    return of_scipy(stats.binom, (p.total_count, p.probs), discrete=True)


@family_of.register
def _negative_binomial(p: dist.NegativeBinomial) -> Family:
    return of_scipy(stats.nbinom, (p.total_count, 1 - p.probs), discrete=True)  # torch counts successes, SciPy failures


@family_of.register
def _gamma_poisson(p: dist.GammaPoisson) -> Family:
    return of_scipy(stats.nbinom, (p.concentration, p.rate / (1 + p.rate)), discrete=True)


@family_of.register
def _geometric(p: dist.Geometric) -> Family:
    return of_scipy(stats.nbinom, (p.probs.new_ones(()), p.probs), discrete=True)
