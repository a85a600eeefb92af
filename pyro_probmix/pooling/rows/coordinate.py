"""The one coordinate of a distribution of event shape (1,)."""

from __future__ import annotations

__all__ = ["Coordinate"]

from typing import Any

import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pyro_probmix.pooling.rows.declared import declared_support
from pyro_probmix.pooling.rows.supports import coordinate


class Coordinate(TorchDistribution):
    """A distribution of event shape ``(1,)`` as one of event shape ``()``, whose batch shape ends in 1 instead."""

    arg_constraints = {}  # noqa: RUF012  # as in every torch distribution

    def __init__(self, base_dist: td.Distribution) -> None:
        self.base_dist = base_dist
        super().__init__(torch.Size((*base_dist.batch_shape, 1)), torch.Size(), validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return coordinate(declared_support(self.base_dist))

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value).unsqueeze(-1)
