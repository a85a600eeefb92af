"""Heads of classes."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor

from pyro_probmix.models.likelihoods.base import Likelihood

__all__ = ["Bernoulli", "Categorical"]


class Categorical(Likelihood):
    r"""Head of a categorical likelihood: classes 0 to ``num_outputs`` - 1, with logits from the features."""

    def density(self, raw: Tensor) -> Any:
        return dist.Categorical(logits=raw)


class Bernoulli(Likelihood):
    """Head of a Bernoulli likelihood: binary responses in {0., 1.}, with logits from the features."""

    def density(self, raw: Tensor) -> Any:
        return dist.Bernoulli(logits=raw).to_event(1)
