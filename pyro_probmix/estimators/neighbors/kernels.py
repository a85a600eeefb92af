"""A density pooled with narrower copies of itself, which stand where neighbors were off, by a rule of each family."""

from __future__ import annotations

__all__ = ["Copies", "Kernels", "can_pool", "with_kernels"]

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_probmix.models.distributions.mixtures import GaussianMixture, StudentTMixture
from pyro_probmix.models.distributions.student import StudentT


@dataclass(frozen=True, eq=False)
class Copies:
    """A kernel of each density, [*batch], around the target of the one training row with the same features.

    Attributes:
        errors: of that row.
        shares: of the kernel in the pool; 0 where there is no such row, or more of them.
        scale: of the kernel, which is never wider than the density.
    """

    errors: Tensor
    shares: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Kernels:
    """Kernels of each density, [*batch, K], around the density's location plus an error.

    Attributes:
        errors: of the neighbors, or nearer to their mean.
        square: of the distances to them.
        shares: of the kernels in their sum; all 0 where there are none.
        width: of a kernel of distance 0, in scales of the density.
        growth: of a kernel's scale, in units of the response, for each unit of the distance.
        copies: one kernel more, with which the pool of the others is pooled; None for none.
    """

    errors: Tensor
    square: Tensor
    shares: Tensor
    width: float
    growth: float
    copies: Copies | None = None

    def parts(self, loc: Tensor, scale: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, locations and scales of the density and the kernels, [*batch, 1 + K], with copies [*batch, 2 + K]."""
        loc, scale = loc.unsqueeze(-1), scale.unsqueeze(-1)
        kernels = ((self.width * scale).square() + self.growth**2 * self.square).sqrt()
        rest = (1 - weight * self.shares.sum(-1, keepdim=True)).clamp(min=0)
        shares, locs, scales = torch.cat([rest, weight * self.shares], -1), [loc, loc + self.errors], [scale, kernels]
        if self.copies is not None:
            copies, most = self.copies, torch.full_like(scale, self.copies.scale)
            share = copies.shares.unsqueeze(-1).expand(*shares.shape[:-1], 1)
            shares = torch.cat([(1 - share) * shares, share], -1)
            locs, scales = [*locs, loc + copies.errors.unsqueeze(-1)], [*scales, torch.minimum(most, scale)]
        shape = torch.broadcast_shapes(loc.shape[:-1], shares.shape[:-1])
        return shares.log().expand(*shape, -1), torch.cat(locs, -1), torch.cat(scales, -1)


@singledispatch
def with_kernels(p: Any, kernels: Kernels, weight: float) -> Any:
    r"""The linear pool of a density with kernels of its own shape.

    .. math::
        (1 - w)\, p(y) + w \sum_k a_k\, p_k(y)

    with :math:`p_k` moved by the error :math:`e_k` and of scale :math:`\sqrt{(s \sigma)^2 + (l d_k)^2}` in the place of
    :math:`\sigma`; that, with :class:`Copies`, pooled with the kernel of the row that a new one copies. Another family joins by
    ``@with_kernels.register``.

    Args:
        p: a density with batch shape [*batch].
        kernels: K of each, by :class:`Kernels`.
        weight: w, in [0, 1).

    Raises:
        TypeError: for a family that has not joined.
    """
    raise TypeError(f"kernels of a {type(p).__name__} are not known, expected a family that is registered.")


@with_kernels.register
def _normal(p: dist.Normal, kernels: Kernels, weight: float) -> Any:
    return GaussianMixture(*kernels.parts(p.loc, p.scale, weight), validate_args=False)


@with_kernels.register
def _student(p: StudentT, kernels: Kernels, weight: float) -> Any:
    logits, loc, scale = kernels.parts(p.loc, p.scale, weight)
    return StudentTMixture(logits, p.df.unsqueeze(-1).expand(loc.shape), loc, scale, validate_args=False)


def can_pool(p: Any) -> bool:
    """Whether densities are of a family that has joined, each response by itself."""
    while isinstance(p, dist.Independent):
        p = p.base_dist
    return with_kernels.dispatch(type(p)) is not with_kernels.dispatch(object)
