"""Relaxed distributions whose draws are made hard, with a straight-through gradient."""

from __future__ import annotations

__all__ = ["StraightThrough", "softened"]

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions import constraints
from pyro.distributions.relaxed_straight_through import QuantizeBernoulli, QuantizeCategorical
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions.utils import clamp_probs

from pyro_probmix.pooling.rows.batches import expand_batch
from pyro_probmix.pooling.rows.scoring import scores_as

Quantize = Callable[[Tensor], Tensor]

# Each class, the relaxed one that it extends, and what makes a relaxed draw hard.
_CLASSES: tuple[tuple[type[Any], type[Any], Quantize], ...] = (
    (dist.RelaxedBernoulliStraightThrough, dist.RelaxedBernoulli, QuantizeBernoulli.apply),
    (dist.RelaxedOneHotCategoricalStraightThrough, dist.RelaxedOneHotCategorical, QuantizeCategorical.apply),
)


class StraightThrough(TorchDistribution):
    """A pool of relaxed distributions whose draws are hard, as those of Pyro's straight-through classes.

    The gradient of a draw is that of its relaxed value, whose density is the draw's. A value that was not drawn here is
    taken for a relaxed one.

    Args:
        base_dist: the pool of the relaxed distributions.
        quantize: makes a relaxed draw hard, and keeps it with the hard one.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as in every torch distribution

    def __init__(self, base_dist: td.Distribution, quantize: Quantize) -> None:
        self.base_dist, self.quantize = base_dist, quantize
        super().__init__(base_dist.batch_shape, base_dist.event_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> StraightThrough:
        """The distribution with its batch expanded."""
        return StraightThrough(expand_batch(self.base_dist, batch_shape), self.quantize)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # a plain attribute in the base, as in torch's wrappers
        """Whether the relaxed draws carry a gradient."""
        return bool(self.base_dist.has_rsample)

    @constraints.dependent_property
    def support(self) -> Any:
        """That of the relaxed values, which holds the hard ones."""
        return self.base_dist.support

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density of the relaxed value that a hard one was made from."""
        return self.base_dist.log_prob(getattr(value, "_unquantize", value))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws hard values."""
        with torch.no_grad():
            return self.quantize(clamp_probs(self.base_dist.sample(torch.Size(sample_shape)).detach()))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws hard values with the gradient of the relaxed ones."""
        return self.quantize(clamp_probs(self.base_dist.rsample(torch.Size(sample_shape))))


def softened(p: Any) -> tuple[td.Distribution, Quantize | None]:
    """The relaxed distribution behind a straight-through one, and what makes its draws hard; else ``p`` and None."""
    leaf = p
    while scores_as(leaf, td.Independent, MaskedDistribution, ExpandedDistribution):
        leaf = leaf.base_dist
    if not scores_as(leaf, StraightThrough, *(cls for cls, _, _ in _CLASSES)):
        return p, None
    if isinstance(p, StraightThrough):
        return p.base_dist, p.quantize
    for cls, relaxed, quantize in _CLASSES:
        if scores_as(p, cls):
            soft: td.Distribution = object.__new__(relaxed)
            soft.__dict__.update(vars(p))
            return soft, quantize
    base, found = softened(p.base_dist)
    if isinstance(p, td.Independent):
        return dist.Independent(base, p.reinterpreted_batch_ndims), found
    if isinstance(p, MaskedDistribution):
        return MaskedDistribution(base, p._mask), found
    return ExpandedDistribution(base, p.batch_shape), found
