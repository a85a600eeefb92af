"""Heads of counts: Poisson, negative binomial, and both with more zeros."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_probmix.models.distributions.zeros import ZeroInflatedNegativeBinomial as ZeroInflatedNegativeBinomialCounts
from pyro_probmix.models.distributions.zeros import ZeroInflatedPoisson as ZeroInflatedPoissonCounts
from pyro_probmix.models.likelihoods.base import Likelihood, positive

__all__ = ["Counts", "NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial", "ZeroInflatedPoisson"]


class Counts(Likelihood):
    """Base of the heads of counts, whose means are in multiples of ``unit``, [d_y]; 1 unless set."""

    unit: Tensor

    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.register_buffer("unit", torch.ones(num_outputs))


class Poisson(Counts):
    """Head of a Poisson likelihood: counts, with rates from a softplus of the features.

    The rates are in multiples of ``unit``, [d_y]; 1 unless set.
    """

    def density(self, raw: Tensor) -> Any:
        return dist.Poisson(self.unit * positive(raw)).to_event(1)


class NegativeBinomial(Counts):
    r"""Head of a negative binomial likelihood: counts of mean m(x) and variance :math:`m + m^2 / r(x)`.

    The means are in multiples of ``unit``, [d_y]; 1 unless set.
    """

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        mean, count = positive(raw).chunk(2, -1)
        return dist.NegativeBinomial(count, logits=(self.unit * mean).log() - count.log()).to_event(1)


class ZeroInflatedPoisson(Counts):
    """Head of a zero-inflated Poisson likelihood: 0 with a probability of its own, else a Poisson count."""

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        rate, gate = raw.chunk(2, -1)
        return dist.Independent(ZeroInflatedPoissonCounts(self.unit * positive(rate), gate), 1)


class ZeroInflatedNegativeBinomial(Counts):
    """Head of a zero-inflated negative binomial likelihood: 0 with a probability of its own, else a negative binomial count."""

    parameters_per_output = 3

    def density(self, raw: Tensor) -> Any:
        mean, count, gate = raw.chunk(3, -1)
        count = positive(count)
        logits = (self.unit * positive(mean)).log() - count.log()
        return dist.Independent(ZeroInflatedNegativeBinomialCounts(count, logits, gate), 1)
