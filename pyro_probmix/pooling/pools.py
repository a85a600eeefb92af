"""Linear and log-linear pools of distributions, and the pool of every row of a batch with other rows."""

from __future__ import annotations

__all__ = ["linear_pool", "log_linear_pool", "pool_rows"]

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import pyro.distributions as dist
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.counts import CountPool, is_count
from pyro_probmix.pooling.families import Family
from pyro_probmix.pooling.linear import LinearPool, masks_inside, simplex_weights
from pyro_probmix.pooling.members import (
    Members,
    Roll,
    Weights,
    check_continuous,
    check_supports,
    checked_members,
    checked_weights,
    describe,
    same_kind,
    share_attributes,
    share_transforms,
)
from pyro_probmix.pooling.numerical import numerical_pool
from pyro_probmix.pooling.rows.batches import expand_batch, roll_batch
from pyro_probmix.pooling.rows.convex import are_absent, combined, guarded_sum, may_have_gaps, weighted_sum
from pyro_probmix.pooling.rows.rebuilding import settled
from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.tensors import can_be_read, floating_tensor
from pyro_probmix.pooling.straight_through import StraightThrough, softened


def log_linear_pool(
    p: td.Distribution, q: td.Distribution | Sequence[td.Distribution], weight: float | Tensor
) -> TorchDistributionMixin:
    r"""Return the log-linear pool of distributions of one family.

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
    return _hard(members, lambda members: _log_linear(members, weights, None))


def linear_pool(
    p: td.Distribution, q: td.Distribution | Sequence[td.Distribution], weight: float | Tensor
) -> TorchDistributionMixin:
    r"""Return the linear pool of distributions of one family, a :class:`~pyro_probmix.pooling.linear.LinearPool`.

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
    return _hard(members, lambda members: _linear(members, weights))


def pool_rows(
    p: td.Distribution,
    weight: float | Tensor,
    shift: int,
    dim: int = -1,
    pool: Literal["log-linear", "linear"] = "log-linear",
    num_fused: int = 2,
) -> TorchDistributionMixin:
    """Pool each row of a batch with the row ``shift`` away.

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
    roll = Roll(shift, dim, num_fused)
    if pool == "log-linear":
        return _hard((p,), lambda members: _log_linear(members, weights, roll))
    return _hard((p,), lambda members: _linear(_rolled_with_masks(members[0], roll), weights))


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


def _log_linear(members: Members, weights: Weights, roll: Roll | None) -> td.Distribution:
    pooled = _log_linear_node(tuple(_stripped(p) for p in members), weights, roll)
    return _expand_over(pooled, members)


def _log_linear_node(members: Members, weights: Weights, roll: Roll | None) -> td.Distribution:
    """Pool members without expansion around them: of a registered family, of one wrapper, or of neither."""
    p: Any = members[0]
    family = same_kind(members)
    if isinstance(family, Family) and (share_attributes(members, roll, family, surely=True) or not is_count(p)):
        check_supports(members, roll, family)
        return _combined(members, weights, roll, family)
    if family is td.Independent:
        n = p.reinterpreted_batch_ndims
        return dist.Independent(_log_linear_bases(members, weights, roll), n)
    if family is MaskedDistribution:
        base = _log_linear_bases(members, weights, roll)
        return MaskedDistribution(base, _pooled_mask(members, weights, roll))
    if family is td.TransformedDistribution and share_transforms(members, roll):
        transformed: td.Distribution = dist.TransformedDistribution(
            _log_linear_bases(members, weights, roll), p.transforms
        )
        return transformed
    check_continuous(p)
    if roll is not None:
        members = _rolled(p, roll)
    if all(map(is_count, members)):
        return CountPool(members, simplex_weights(members, weights), validate_args=p.__dict__.get("_validate_args"))
    return numerical_pool(members, simplex_weights(members, weights), validate_args=p.__dict__.get("_validate_args"))


def _log_linear_bases(members: Sequence[Any], weights: Weights, roll: Roll | None) -> td.Distribution:
    """Pool what is inside of one wrapper, whose batch may go on to the right where the wrapper's ends."""
    bases = tuple(p.base_dist for p in members)
    extra = _extra(members[0])
    inner = tuple(_over(w, extra) for w in weights)
    return _log_linear(bases, inner, roll and roll._replace(dim=roll.dim - extra))


def _combined(members: Members, weights: Weights, roll: Roll | None, family: Family) -> td.Distribution:
    """Theorem C.1: the member of the family at the convex combination of the natural parameters."""
    pairs = _naturals(members, weights, roll, family)
    sums = [weighted_sum(*pair) for pair in pairs]
    if any(map(may_have_gaps, sums)):
        pairs = _naturals(_settled(members, weights, roll), weights, roll, family)
        sums = [guarded_sum(*pair) for pair in pairs]
    return family.member(members[0], tuple(sums))


def _naturals(members: Members, weights: Weights, roll: Roll | None, family: Family) -> list[tuple[Any, Any]]:
    """For each natural parameter, those of all members, and the weights in their shape."""
    batch_dim = len(members[0].batch_shape)
    naturals = [family.naturals(member) for member in members]
    if roll is not None:
        own = [(eta, eta.dim() - batch_dim) for eta in naturals[0]]
        naturals += [tuple(roll_tensor(eta, *by, event_dim) for eta, event_dim in own) for by in roll.each()]
    return [(etas, _shaped(weights, etas[0], batch_dim)) for etas in zip(*naturals, strict=True)]


def _settled(members: Members, weights: Weights, roll: Roll | None) -> Members:
    """The members with standard parameters in the rows that have no weight in any pool, as far as values can be read."""
    like = floating_tensor(members[0])
    if not can_be_read(like):
        return members
    absent = are_absent(like, weights, len(members) if roll is None else roll.num_fused)
    if roll is None:
        return tuple(settled(p, none) for p, none in zip(members, absent, strict=True))
    first, *others = (none.expand(broadcast_shape(none.shape, members[0].batch_shape)) for none in absent)
    for (shift, dim), none in zip(roll.each(), others, strict=True):
        first = first & roll_tensor(none, -shift, dim)
    return (settled(members[0], first),)


def _rolled(p: td.Distribution, roll: Roll) -> Members:
    return (p, *(roll_batch(p, *by) for by in roll.each()))


def _rolled_with_masks(p: Any, roll: Roll) -> Members:
    """The same, with the rows exchanged within transforms that all share, where masks inside are to be made alike."""
    if not any(masks_inside(p)):
        return _rolled(p, roll)
    if scores_as(p, ExpandedDistribution) and len(p.base_dist.batch_shape) >= -roll.dim:
        return tuple(expand_batch(member, p.batch_shape) for member in _rolled_with_masks(p.base_dist, roll))
    if scores_as(p, td.Independent):
        n = p.reinterpreted_batch_ndims
        inner = _rolled_with_masks(p.base_dist, roll._replace(dim=roll.dim - n))
        return tuple(dist.Independent(member, n) for member in inner)
    if not scores_as(p, td.TransformedDistribution):
        return _rolled(p, roll)
    if not share_transforms((p,), roll):
        raise TypeError(
            f"Cannot pool {describe(p)} with its rows exchanged: it has a mask inside of transforms that differ between rows, "
            "expected ones that all rows share. Try the mask around the transformed distribution."
        )
    inner = _rolled_with_masks(p.base_dist, roll._replace(dim=roll.dim - _extra(p)))
    return tuple(dist.TransformedDistribution(member, p.transforms) for member in inner)


def _extra(p: Any) -> int:
    """How many dimensions the batch of what is inside goes on to the right of that of a wrapper."""
    return len(p.base_dist.batch_shape) - len(p.batch_shape)


def _convex(values: Sequence[Tensor], weights: Weights, batch_dim: int) -> Tensor:
    """Convex combination of tensors of shape ``batch_shape`` (of ``batch_dim`` dimensions) and further dimensions."""
    return combined(values, _shaped(weights, values[0], batch_dim))


def _shaped(weights: Weights, like: Tensor, batch_dim: int) -> Weights:
    """The weights as they broadcast with a tensor of the batch and further dimensions, and of its kind."""
    extra = like.dim() - batch_dim
    shaped = (_over(w, extra) for w in weights)
    return tuple(w.to(like) if isinstance(w, Tensor) else w for w in shaped)


def _linear(members: Members, weights: Weights) -> td.Distribution:
    inner: tuple[Any, ...] = tuple(_stripped(p) for p in members)
    if same_kind(inner) is MaskedDistribution:
        base = _linear(tuple(p.base_dist for p in inner), weights)
        pooled = MaskedDistribution(base, _pooled_mask(inner, weights, None))
        return _expand_over(pooled, members)
    alike = _masked_alike(inner, weights)
    pooled = LinearPool(members if alike is inner else alike, simplex_weights(members, weights))
    return _expand_over(pooled, members)


def _masked_alike(members: tuple[Any, ...], weights: Weights) -> Members:
    """Members of one kind, those with a mask inside the event masked where a member of positive weight is."""
    kind = same_kind(members)
    if kind not in (td.Independent, MaskedDistribution, td.TransformedDistribution):
        return members
    if kind is td.TransformedDistribution and not all(any(masks_inside(member)) for member in members):
        return members
    p = members[0]
    extra = _extra(p)
    bases = tuple(_stripped(member.base_dist) for member in members)
    inner = _masked_alike(bases, tuple(_over(w, extra) for w in weights))
    if kind is td.TransformedDistribution:
        pairs = zip(inner, members, strict=True)
        return tuple(dist.TransformedDistribution(base, member.transforms) for base, member in pairs)
    if kind is td.Independent:
        n = p.reinterpreted_batch_ndims
        return members if inner is bases else tuple(dist.Independent(base, n) for base in inner)
    mask = _pooled_mask(members, weights, None)
    if isinstance(mask, Tensor):  # of one shape for all, so that it is one object in all
        mask = mask.expand(broadcast_shape(mask.shape, *(base.batch_shape for base in inner)))
    return tuple(MaskedDistribution(base, mask) for base in inner)


def _pooled_mask(members: Sequence[Any], weights: Weights, roll: Roll | None) -> bool | Tensor:
    """Where every member of positive weight is unmasked."""
    masks = [p._mask for p in members]
    if all(isinstance(mask, bool) for mask in masks):
        if len(set(masks)) == 1:
            return bool(masks[0])
        raise ValueError("Cannot pool a distribution masked by False with one masked by True. Try masks as tensors.")
    if any(isinstance(mask, bool) for mask in masks):
        raise ValueError("Cannot pool a distribution masked by a bool with one masked by a tensor. Try only tensors.")
    missing = [(~mask).double() for mask in masks]  # an indicator of the infinite, as a natural parameter may be
    if roll is not None:
        missing += [roll_tensor(missing[0], *by) for by in roll.each()]
    return _convex(missing, weights, len(members[0].batch_shape)) == 0


def _over(weight: float | Tensor, extra: int) -> float | Tensor:
    """Let a weight broadcast over further dimensions on the right."""
    if not isinstance(weight, Tensor) or extra == 0 or weight.dim() == 0:
        return weight
    return weight.reshape(weight.shape + (1,) * extra)


def _expand_over(pooled: td.Distribution, members: Members) -> td.Distribution:
    """Expand a pool of stripped members to the batch that the members had."""
    if all(p.batch_shape == pooled.batch_shape for p in members):
        return pooled
    return expand_batch(pooled, broadcast_shape(pooled.batch_shape, *(p.batch_shape for p in members)))


def _stripped(p: td.Distribution) -> td.Distribution:
    while isinstance(p, ExpandedDistribution) and scores_as(p, ExpandedDistribution):
        p = p.base_dist
    return p
