"""Counts with more zeros, made of logits alone: Pyro's score by the probability once it was asked for."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

__all__ = ["ZeroInflatedNegativeBinomial", "ZeroInflatedPoisson"]


_Base: Any = dist.ZeroInflatedDistribution  # which is annotated in part


class _OfLogits(_Base):  # type: ignore[misc] # and so is of type Any
    @property
    def gate(self) -> Tensor:
        """The probability of a zero that is none of the counts'."""
        logits: Tensor = self.gate_logits
        return logits.sigmoid()

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self.__new__(type(self)) if _instance is None else _instance)


class ZeroInflatedPoisson(_OfLogits):
    """0 with a probability of its own, else a Poisson count.

    Args:
        rate: of the Poisson distribution.
        gate_logits: of that probability.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"rate": constraints.nonnegative, "gate_logits": constraints.real}

    def __init__(self, rate: Tensor, gate_logits: Tensor, validate_args: bool | None = None) -> None:
        base = dist.Poisson(rate, validate_args=False)
        super().__init__(base, gate_logits=gate_logits, validate_args=validate_args)

    @property
    def rate(self) -> Tensor:
        rate: Tensor = self.base_dist.rate
        return rate


class ZeroInflatedNegativeBinomial(_OfLogits):
    """0 with a probability of its own, else a negative binomial count.

    Args:
        total_count, logits: of the negative binomial distribution, as torch's.
        gate_logits: of that probability.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "total_count": constraints.positive,
        "logits": constraints.real,
        "gate_logits": constraints.real,
    }

    def __init__(
        self, total_count: Tensor, logits: Tensor, gate_logits: Tensor, validate_args: bool | None = None
    ) -> None:
        base = dist.NegativeBinomial(total_count, logits=logits, validate_args=False)
        super().__init__(base, gate_logits=gate_logits, validate_args=validate_args)

    @property
    def total_count(self) -> Tensor:
        count: Tensor = self.base_dist.total_count
        return count

    @property
    def logits(self) -> Tensor:
        logits: Tensor = self.base_dist.logits
        return logits
