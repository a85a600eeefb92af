"""The pool of members of one kind: a family, a wrapper around others, or any class."""

from __future__ import annotations

__all__ = ["mask_with_partners", "pool_linearly", "pool_log_linearly", "rolled_with_masks"]

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
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


def pool_log_linearly(members: Members, weights: Weights, roll: Roll | None) -> td.Distribution:
    pooled = _log_linear_node(tuple(_stripped(p) for p in members), weights, roll)
    return _expand_over(pooled, members)


def _log_linear_node(members: Members, weights: Weights, roll: Roll | None) -> td.Distribution:
    """Pools members without expansion around them: of a registered family, of one wrapper, or of neither."""
    p: Any = members[0]
    family = same_kind(members)
    if isinstance(family, Family):
        alike = share_attributes(members, roll, family, surely=True)
        if alike or not is_count(p):
            check_supports(members, roll, family, alike)
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
    if not isinstance(p, MaskedDistribution) and any(any(masks_inside(member)) for member in members):
        raise _masked_within(p)
    check_continuous(p)
    if roll is not None:
        members = _rolled(p, roll)
    if all(map(is_count, members)):
        return CountPool(members, simplex_weights(members, weights), validate_args=p.__dict__.get("_validate_args"))
    return numerical_pool(members, simplex_weights(members, weights), validate_args=p.__dict__.get("_validate_args"))


def _log_linear_bases(members: Sequence[Any], weights: Weights, roll: Roll | None) -> td.Distribution:
    """Pools what is inside of one wrapper, whose batch may go on to the right where the wrapper's ends."""
    bases = tuple(p.base_dist for p in members)
    extra = _extra(members[0])
    inner = tuple(_over(w, extra) for w in weights)
    return pool_log_linearly(bases, inner, roll and Roll(roll.shift, roll.dim - extra, roll.num_fused))


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


def rolled_with_masks(p: Any, roll: Roll) -> Members:
    """The same, with the rows exchanged within transforms that all share, where masks inside are to be made alike."""
    if not any(masks_inside(p)):
        return _rolled(p, roll)
    if scores_as(p, ExpandedDistribution) and len(p.base_dist.batch_shape) >= -roll.dim:
        return tuple(expand_batch(member, p.batch_shape) for member in rolled_with_masks(p.base_dist, roll))
    if scores_as(p, td.Independent):
        n = p.reinterpreted_batch_ndims
        inner = rolled_with_masks(p.base_dist, roll._replace(dim=roll.dim - n))
        return tuple(dist.Independent(member, n) for member in inner)
    if not scores_as(p, td.TransformedDistribution):
        return _rolled(p, roll)
    if not share_transforms((p,), roll):
        raise _masked_within(p)
    inner = rolled_with_masks(p.base_dist, roll._replace(dim=roll.dim - _extra(p)))
    return tuple(dist.TransformedDistribution(member, p.transforms) for member in inner)


def mask_with_partners(p: Any, weights: Weights, roll: Roll) -> Any:
    """The same distribution of rows, whose masks inside of it hold for a row's partners of positive weight, too."""
    if not hasattr(p, "base_dist") or not any(masks_inside(p)):
        return p
    extra = 0 if scores_as(p, ExpandedDistribution) else _extra(p)
    base = mask_with_partners(p.base_dist, tuple(_over(w, extra) for w in weights), roll._replace(dim=roll.dim - extra))
    if scores_as(p, MaskedDistribution):
        return MaskedDistribution(base, _pooled_mask((p,), weights, roll))
    if scores_as(p, td.Independent):
        return dist.Independent(base, p.reinterpreted_batch_ndims)
    if scores_as(p, td.TransformedDistribution):
        return dist.TransformedDistribution(base, p.transforms)
    return expand_batch(base, p.batch_shape) if scores_as(p, ExpandedDistribution) else p


def _masked_within(p: td.Distribution) -> TypeError:
    return TypeError(
        f"Cannot pool {describe(p)} with others: it has a mask inside of transforms that differ between the members, "
        "expected ones that all share. Try the mask around the transformed distribution."
    )


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


def pool_linearly(members: Members, weights: Weights) -> td.Distribution:
    inner: tuple[Any, ...] = tuple(_stripped(p) for p in members)
    if same_kind(inner) is MaskedDistribution:
        base = pool_linearly(tuple(p.base_dist for p in inner), weights)
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
    """Lets a weight broadcast over further dimensions on the right."""
    if not isinstance(weight, Tensor) or extra == 0 or weight.dim() == 0:
        return weight
    return weight.reshape(weight.shape + (1,) * extra)


def _expand_over(pooled: td.Distribution, members: Members) -> td.Distribution:
    """Expands a pool of stripped members to the batch that the members had."""
    if all(p.batch_shape == pooled.batch_shape for p in members):
        return pooled
    return expand_batch(pooled, broadcast_shape(pooled.batch_shape, *(p.batch_shape for p in members)))


def _stripped(p: td.Distribution) -> td.Distribution:
    while isinstance(p, ExpandedDistribution) and scores_as(p, ExpandedDistribution):
        p = p.base_dist
    return p
