"""The batch of any distribution: exchange its rows, and expand it."""

from __future__ import annotations

__all__ = ["RolledRows", "expand_batch", "roll_batch"]

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.pooling.rows.declared import declared_support
from pyro_probmix.pooling.rows.rolls import roll_tensor, varies
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.supports import RolledSupport, is_fixed


class RolledRows(TorchDistribution):
    r"""The rows of any batch of distributions in another order: row *b* is row *b* - ``shift`` of ``base_dist``.

    A value goes to the row that it belongs to, and what is computed there comes back,

    .. math:: \log p_b(y_b) = \log p^{\text{base}}_{b - s}(y_b),

    so that nothing has to be known of the class but its batch and event shapes.

    Args:
        base_dist: a distribution of any class with batch shape ``[..., B, ...]``.
        shift: number of rows to roll by, as in ``torch.roll``.
        dim: the batch dimension of the rows, negative.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.rows.batches import RolledRows
        >>> p = dist.DirichletMultinomial(torch.tensor([[1.0, 1.0], [3.0, 1.0]]), total_count=4)
        >>> RolledRows(p, 1, -1).mean
        tensor([[3., 1.],
                [2., 2.]])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as in every torch distribution

    def __init__(self, base_dist: td.Distribution, shift: int, dim: int) -> None:
        self.base_dist, self.shift, self.dim = base_dist, shift, dim
        super().__init__(base_dist.batch_shape, base_dist.event_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> RolledRows:
        """The rows with their batch expanded."""
        return RolledRows(expand_batch(self.base_dist, batch_shape), self.shift, self.dim)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # a plain attribute in the base, as in torch's wrappers
        """Whether the rows have draws that carry a gradient."""
        return bool(self.base_dist.has_rsample)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the rows have a finite support."""
        return bool(self.base_dist.has_enumerate_support)

    @constraints.dependent_property
    def support(self) -> Any:
        """Each row's own support."""
        own: Any = declared_support(self.base_dist)
        return own if is_fixed(own) else RolledSupport(own, self.shift, self.dim, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density, shape ``sample_shape + batch_shape``."""
        return self._of_own_rows(self.base_dist.log_prob, value)

    def cdf(self, value: Tensor) -> Tensor:
        """The distribution function."""
        return self._of_own_rows(self.base_dist.cdf, value)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantiles."""
        return self._of_own_rows(self.base_dist.icdf, value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws from each row."""
        return self._rolled(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws from each row with the gradient of its parameters."""
        return self._rolled(self.base_dist.rsample(torch.Size(sample_shape)))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Each row's finite support, in the first dimension."""
        return self._rolled(self.base_dist.enumerate_support(expand))

    @property
    def mean(self) -> Tensor:
        """The mean of each row."""
        return self._rolled(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each row."""
        return self._rolled(self.base_dist.variance)

    def _rolled(self, x: Tensor) -> Tensor:
        return roll_tensor(x, self.shift, self.dim, len(self.event_shape))

    def _of_own_rows(self, function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        there = roll_tensor(value, -self.shift, self.dim, len(self.event_shape))
        return roll_tensor(function(there), self.shift, self.dim)


def roll_batch(p: td.Distribution, shift: int, dim: int = -1) -> td.Distribution:
    """``p`` with its batch rolled: row *b* becomes row *b* - ``shift``, as by ``torch.roll``.

    Any class gives :class:`RolledRows`, inside of ``to_event``, ``mask`` and ``expand``.

    Args:
        p: a distribution with batch shape ``[..., B, ...]``.
        shift: number of rows to roll by.
        dim: the batch dimension, negative and counted from the right of the batch shape. Where ``p`` has no such
            dimension, or one of size 1, its rows are all alike and nothing changes.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.rows.batches import roll_batch
        >>> p = dist.Normal(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), 1.0).to_event(1)
        >>> roll_batch(p, 1).mean
        tensor([[4., 5.],
                [0., 1.],
                [2., 3.]])
    """
    wrapper: Any = p
    if scores_as(p, td.Independent):
        n = wrapper.reinterpreted_batch_ndims
        rolled: td.Distribution = dist.Independent(roll_batch(wrapper.base_dist, shift, dim - n), n)
        return rolled
    if scores_as(p, MaskedDistribution):
        mask = wrapper._mask if isinstance(wrapper._mask, bool) else roll_tensor(wrapper._mask, shift, dim)
        return MaskedDistribution(roll_batch(wrapper.base_dist, shift, dim), mask)
    if scores_as(p, ExpandedDistribution):
        return ExpandedDistribution(roll_batch(wrapper.base_dist, shift, dim), p.batch_shape)
    return RolledRows(p, shift, dim) if varies(p.batch_shape, dim) else p


def expand_batch(p: td.Distribution, batch_shape: Sequence[int]) -> td.Distribution:
    """Expands any distribution; unlike ``ExpandedDistribution.expand``, never in place."""
    if p.batch_shape == batch_shape:
        return p
    batch_shape = torch.Size(batch_shape)
    if isinstance(p, ExpandedDistribution) and scores_as(p, ExpandedDistribution):
        return ExpandedDistribution(p.base_dist, batch_shape)
    if isinstance(p, ExpandedDistribution):
        p = copy.copy(p)  # which its expand changes in place
    try:
        expanded: td.Distribution = p.expand(batch_shape)
        return expanded
    except (NotImplementedError, ValueError):  # as of Pyro's zero-inflated counts once they have been drawn from
        return ExpandedDistribution(p, batch_shape)
