"""Linear and log-linear pools of distributions, and the pool of every row of a batch with other rows."""

from __future__ import annotations

__all__ = ["linear_pool", "log_linear_pool", "mask_rows", "pool_rows"]

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch.distributions as td
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_probmix.pooling.kinds import mask_with_partners, pool_linearly, pool_log_linearly, rolled_with_masks
from pyro_probmix.pooling.members import (
    Members,
    Roll,
    checked_members,
    checked_weights,
    describe,
)
from pyro_probmix.pooling.straight_through import StraightThrough, softened


def log_linear_pool(
    p: td.Distribution, q: td.Distribution | Sequence[td.Distribution], weight: float | Tensor
) -> TorchDistributionMixin:
    r"""The log-linear pool of distributions of one family.

    .. math:: g_\lambda(p, q)(y) = \frac{1}{Z}\, p(y)^\lambda\, q(y)^{1 - \lambda}

    For an exponential family it has the natural parameters :math:`\lambda \phi_p + (1 - \lambda) \phi_q`; see
    :func:`~pyro_probmix.pooling.families.register_family` for one's own. A pool of ``Delta`` is the limit of normals of one
    vanishing variance. Through ``to_event``, ``mask``, ``expand`` and shared bijective transforms the distributions
    inside are pooled. Other families of one continuous number give a
    :class:`~pyro_probmix.pooling.numerical.NumericalPool`, and other counts, such as binomials whose totals differ, a
    :class:`~pyro_probmix.pooling.counts.CountPool`.

    A row is masked in the pool if it is masked in a member of positive weight.

    Args:
        p: a distribution, of torch or Pyro.
        q: another of its family, or a sequence of k - 1 others; batch shapes broadcast.
        weight: the weight of ``p`` in [0, 1], a float or a tensor that broadcasts with the batch shape. For more than
            two members a tensor ``[..., k]`` on the simplex, the weight of ``p`` first.

    Returns:
        A Pyro distribution of the same family.

    Raises:
        TypeError: if the members are of different families, or have no closed pool and are not univariate continuous.
        ValueError: if a weight is outside [0, 1] or weights do not sum to one (tensors are checked where validation is
            on), or the members' shapes or supports do not fit each other.

    References:
        El-Laham et al., 2025, eq. (18), Theorem C.1 and eq. (38).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix import log_linear_pool
        >>> p, q = dist.Normal(torch.tensor(0.0), 1.0), dist.Normal(torch.tensor(5.0), 0.5)
        >>> pool = log_linear_pool(p, q, 0.5)
        >>> pool.loc, pool.variance
        (tensor(4.), tensor(0.4000))
    """
    members = checked_members(p, q)
    weights = checked_weights(weight, members, len(members))
    return _hard(members, lambda members: pool_log_linearly(members, weights, None))


def linear_pool(
    p: td.Distribution, q: td.Distribution | Sequence[td.Distribution], weight: float | Tensor
) -> TorchDistributionMixin:
    r"""The linear pool of distributions of one family, a :class:`~pyro_probmix.pooling.linear.LinearPool`.

    .. math:: g_\lambda(p, q)(y) = \lambda\, p(y) + (1 - \lambda)\, q(y)

    Members that are masked give a pool that is masked where a member of positive weight is.

    Args:
        p: a distribution, of torch or Pyro.
        q: another of its family, or a sequence of k - 1 others; batch shapes broadcast.
        weight: the weight of ``p`` in [0, 1], a float or a tensor that broadcasts with the batch shape. For more than
            two members a tensor ``[..., k]`` on the simplex, the weight of ``p`` first.

    Raises:
        TypeError: if the members are of different families.
        ValueError: if a weight is outside [0, 1] or weights do not sum to one (tensors are checked where validation is
            on), or the members' shapes do not fit each other.

    References:
        El-Laham et al., 2025, eq. (17).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix import linear_pool
        >>> pool = linear_pool(dist.Poisson(torch.tensor(1.0)), dist.Poisson(torch.tensor(5.0)), 0.75)
        >>> pool.mean
        tensor(2.)
    """
    members = checked_members(p, q)
    weights = checked_weights(weight, members, len(members))
    return _hard(members, lambda members: pool_linearly(members, weights))


def pool_rows(
    p: td.Distribution,
    weight: float | Tensor,
    shift: int,
    dim: int = -1,
    pool: Literal["log-linear", "linear"] = "log-linear",
    num_fused: int = 2,
) -> TorchDistributionMixin:
    """Pools each row of a batch with the row ``shift`` away.

    The rows of any class of distributions can be exchanged: the linear pool and the numerical one score the partner's
    density at a value by :class:`~pyro_probmix.pooling.rows.batches.RolledRows`. Where the pool has a closed form, natural
    parameters are computed once and rolled.

    Args:
        p: a distribution with batch shape ``[..., B, ...]``.
        weight: the weight of the row itself in [0, 1], a float or a tensor that broadcasts with the batch shape. For
            more than two rows a tensor ``[..., k]`` on the simplex, the weight of the row itself first.
        shift: row *b* is pooled with row *b* - ``shift`` (mod B), and for more rows with *b* - 2 ``shift`` and so on.
        dim: the batch dimension of the rows, negative.
        pool: ``"log-linear"`` (eq. 18) or ``"linear"`` (eq. 17).
        num_fused: the number k of rows that are pooled.

    Raises:
        TypeError: if the rows have no pool; see :func:`log_linear_pool`.
        ValueError: if there is no such pool or dimension, or a weight is outside [0, 1].

    References:
        El-Laham et al., 2025, eq. (17), (18) and (38).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_probmix.pooling.pools import pool_rows
        >>> rows = dist.Poisson(torch.tensor([1.0, 4.0, 9.0, 16.0]))
        >>> pool_rows(rows, 0.5, shift=2).rate
        tensor([3., 8., 3., 8.])
    """
    if not isinstance(p, td.Distribution):
        raise TypeError(f"pool_rows got a {type(p).__name__}, expected a distribution. Try Pyro's distributions.")
    if not (isinstance(num_fused, int) and num_fused > 1 and isinstance(shift, int) and isinstance(dim, int)):
        raise TypeError(
            f"pool_rows got shift={shift!r}, dim={dim!r} and num_fused={num_fused!r}, expected integers, at least 2 rows to "
            "a pool. Try shift=1, dim=-1, num_fused=2."
        )
    if not isinstance(pool, str) or pool not in ("log-linear", "linear"):
        raise ValueError(f"pool_rows got pool={pool!r}, expected 'log-linear' or 'linear'. Try pool='log-linear'.")
    if not p.batch_shape:
        raise ValueError(
            f"pool_rows got {describe(p)}, a distribution without a batch, expected rows to pool with each other. "
            "Try linear_pool or log_linear_pool of two of them."
        )
    if not -len(p.batch_shape) <= dim < 0:
        raise ValueError(
            f"pool_rows got dim={dim} for a {describe(p)}, expected a negative dimension of its batch. Try dim=-1."
        )
    weights = checked_weights(weight, (p,), num_fused)
    roll = Roll(shift % max(1, p.batch_shape[dim]), dim, num_fused)  # of any size, in a tensor's own integers
    if pool == "log-linear":
        return _hard((p,), lambda members: pool_log_linearly(members, weights, roll))
    return _hard((p,), lambda members: pool_linearly(rolled_with_masks(members[0], roll), weights))


def mask_rows(p: Any, weight: Tensor, shift: int, dim: int, num_fused: int) -> Any:
    """A distribution whose masks, those that it holds itself, are those of each row and its partners of positive weight.

    Args:
        p, weight, shift, dim, num_fused: see :func:`pool_rows`; nothing is pooled.
    """
    weights = (weight,) if num_fused == 2 else weight.unbind(-1)
    return mask_with_partners(p, weights, Roll(shift, dim, num_fused))


def _hard(members: Members, pooled: Callable[[Members], td.Distribution]) -> TorchDistributionMixin:
    """The pool of members, of the relaxed ones behind straight-through ones, whose draws are made hard again."""
    soft = [softened(p) for p in members]
    if all(quantize is None for _, quantize in soft):
        return cast(TorchDistributionMixin, pooled(members))
    if len({quantize for _, quantize in soft}) > 1:
        raise TypeError(
            f"Cannot pool {describe(members[0])} with {describe(members[-1])}: only some are straight-through, expected "
            "distributions of one family. Try the same class for all members."
        )
    quantize = soft[0][1]
    assert quantize is not None
    return StraightThrough(pooled(tuple(p for p, _ in soft)), quantize)
