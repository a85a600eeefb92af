"""What may be pooled: checks of the members, of their weights, and of the transforms and attributes they share."""

from __future__ import annotations

__all__ = [
    "Members",
    "Roll",
    "Weights",
    "check_continuous",
    "check_supports",
    "checked_members",
    "checked_weights",
    "describe",
    "same_kind",
    "share_attributes",
    "share_transforms",
]

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.distributions.torch_transform import ComposeTransformModule
from pyro.distributions.util import broadcast_shape
from torch import Tensor, nn
from torch.distributions import transforms
from torch.distributions.transforms import AffineTransform, ComposeTransform, IndependentTransform, Transform

from pyro_probmix.pooling.families import Family, find_family
from pyro_probmix.pooling.rows.batches import RolledRows
from pyro_probmix.pooling.rows.declared import declared_support
from pyro_probmix.pooling.rows.rolls import roll_tensor, varies
from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.supports import bounds, interior_point
from pyro_probmix.pooling.rows.tensors import can_be_read, floating_tensor

Members = tuple[td.Distribution, ...]
Weights = tuple[float | Tensor, ...]


class Roll(NamedTuple):
    """Stands for further members: the first one with its batch rolled, so that what is mapped is mapped once.

    Of ``num_fused`` members, member m has the batch rolled by m times the shift.
    """

    shift: int
    dim: int
    num_fused: int = 2

    def each(self) -> list[tuple[int, int]]:
        """Shift and dim of each further member."""
        return [(m * self.shift, self.dim) for m in range(1, self.num_fused)]


def checked_members(p: td.Distribution, q: td.Distribution | Sequence[td.Distribution]) -> Members:
    members = (p, *q) if isinstance(q, list | tuple) else (p, q)
    for member in members:
        if not isinstance(member, td.Distribution):
            raise TypeError(
                f"A pool got a member of type {type(member).__name__}, expected a distribution, or a list of them. "
                "Try Pyro's distributions."
            )
    if len(members) < 2:
        raise ValueError(f"A pool got {describe(p)} alone, expected at least one further member. Try a list of one.")
    for member in members[1:]:
        if member.event_shape != p.event_shape or not _broadcast(p.batch_shape, member.batch_shape):
            raise ValueError(
                f"Cannot pool {describe(p)} with {describe(member)}: expected equal event shapes, and batch shapes "
                "that broadcast. Try to_event and expand."
            )
    return members


def checked_weights(weight: float | Tensor, members: Members, count: int) -> Weights:
    """The weight of the first of two members, or of each of more, which broadcasts with the batch."""
    if isinstance(weight, int | float):
        if count > 2 or not 0 <= weight <= 1:
            expected = "a value in [0, 1]" if count == 2 else f"{count} weights that sum to one"
            raise ValueError(f"A pool got the weight {weight}, expected {expected}. Try 0.5.")
        return (float(weight),)
    try:
        w = torch.as_tensor(weight)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"A pool got a weight of type {type(weight).__name__}, expected a number or a tensor. Try 0.5."
        ) from None
    if w.is_complex():
        raise TypeError(f"A pool got weights of {w.dtype}, expected real numbers. Try 0.5.")
    w = w if w.is_floating_point() else w.to(torch.get_default_dtype())
    shape = w.shape if count == 2 else w.shape[:-1]
    if not _broadcast(shape, *(p.batch_shape for p in members)) or (count > 2 and w.shape[-1:] != (count,)):
        raise ValueError(
            f"A pool of {count} members got weights of shape {tuple(w.shape)}, expected a shape that broadcasts with "
            f"the batch shape {tuple(members[0].batch_shape)}{'' if count == 2 else f' followed by {count}'}. "
            "Try one weight per row."
        )
    if td.Distribution._validate_args:
        if not bool(((w >= 0) & (w <= 1)).all()):
            raise ValueError(f"A pool got the weights {w}, expected values in [0, 1]. Try draws from a Beta.")
        if count > 2 and not bool(((w.sum(-1) - 1).abs() < 1e-5).all()):
            raise ValueError(f"A pool got weights that sum to {w.sum(-1)}, expected 1. Try weights.softmax(-1).")
    return (w,) if count == 2 else w.unbind(-1)


def same_kind(members: Sequence[Any]) -> Family | type | None:
    """The family, the wrapper, or None for a type that is neither; all members must agree."""
    unrolled: list[Any] = [q.base_dist if isinstance(q, RolledRows) else q for q in members]
    p = unrolled[0]
    for q in unrolled[1:]:
        related = issubclass(type(p), type(q)) or issubclass(type(q), type(p))
        if _kind(p) is not _kind(q) or not (related or isinstance(_kind(p), Family)):
            raise TypeError(
                f"Cannot pool {describe(p)} with {describe(q)}: expected distributions of one family. "
                "Try the same class, and the same to_event and mask, for all members."
            )
        if _kind(p) is td.Independent and p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
            raise ValueError(
                f"Cannot pool {describe(p)} with {describe(q)}: they take {p.reinterpreted_batch_ndims} and "
                f"{q.reinterpreted_batch_ndims} batch dimensions into the event. Try to_event of the same number."
            )
    return _kind(p)


def _kind(p: Any) -> Family | type | None:
    # One that has a density of its own is none of the wrappers, whatever it inherits from.
    family = find_family(p)
    if family is not None:
        return family
    wrappers = (td.Independent, MaskedDistribution, td.TransformedDistribution)
    return next((wrapper for wrapper in wrappers if scores_as(p, wrapper)), None)


def share_transforms(members: Sequence[Any], roll: Roll | None) -> bool:
    """Whether all members apply the same bijections, with which log-linear pooling commutes."""
    p = members[0]
    if not all(t.bijective for t in p.transforms):
        return False
    if roll is not None:
        shape = p.base_dist.batch_shape + p.base_dist.event_shape
        place = len(p.batch_shape) + roll.dim
        return _shared_by_rows(p.transforms, shape, place, floating_tensor(p.base_dist))
    return all(
        len(q.transforms) == len(p.transforms)
        and all(s is t or s == t for s, t in zip(p.transforms, q.transforms, strict=True))
        for q in members[1:]
    )


def _shared_by_rows(chain: Sequence[Transform], shape: torch.Size, place: int, like: Tensor) -> bool:
    """Whether transforms, the first of which is applied first, are the same for all rows.

    Args:
        chain: the transforms.
        shape: of the batch that the first one maps, B at ``place``.
        place: the batch dimension, counted from the left, where it stays as the number of event dimensions changes.
        like: a tensor of the dtype and on the device of what is mapped.
    """
    for t in chain:
        if not _is_shared(t, shape, place, like):
            return False
        shape = t.forward_shape(shape)
    return True


def _is_shared(t: Any, shape: torch.Size, place: int, like: Tensor) -> bool:
    """Of one transform, or of what it is made of, each by its forward map: not every flow has another."""
    if type(t) is AffineTransform:
        parameters = [x for x in (t.loc, t.scale) if isinstance(x, Tensor)]
        return not any(varies(x.shape, place - len(shape)) for x in parameters)
    if type(t) in (ComposeTransform, ComposeTransformModule):
        return _shared_by_rows(t.parts, shape, place, like)
    if type(t) is IndependentTransform:
        return _is_shared(t.base_transform, shape, place, like)
    if type(t) is transforms._InverseTransform:
        return _is_shared(t.inv, t.forward_shape(shape), place, like)
    return _maps_any_batch(t, shape, place, like)


def _maps_any_batch(t: Transform, shape: torch.Size, place: int, like: Tensor) -> bool:
    """Whether a transform maps B + 1 rows, and rows that are alike to rows that are alike.

    What it holds for each of B rows does not fit B + 1, wherever it is held and in whatever shape; what it holds in common
    does, though a width or a number of event dimensions be B. Values are looked at where Pyro validates arguments, which no
    traced or captured step does: one that slices a table of more than B rows is found there alone.
    """
    more = torch.Size((*shape[:place], shape[place] + 1, *shape[place + 1 :]))
    point = interior_point(t.domain) if any(bound is not None for bound in bounds(t.domain)) else 0.37
    try:
        with torch.no_grad(), _evaluating(t):
            mapped = copy.copy(t)(like.new_zeros(more) + point)  # a copy, which caches for itself
            fits = bool(mapped.shape == t.forward_shape(more))
    except Exception:  # of any kind: the transform may be the user's own
        return False
    if fits and td.Distribution._validate_args:
        return torch.allclose(mapped, mapped.narrow(place, 0, 1), rtol=1e-5, atol=1e-5, equal_nan=True)
    return fits


@contextmanager
def _evaluating(t: Transform) -> Iterator[None]:
    """Lets the transform's modules keep running statistics as they are, and drop no units."""
    modules = [m for thing in (t, *vars(t).values()) if isinstance(thing, nn.Module) for m in thing.modules()]
    training = [m for m in modules if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True


def share_attributes(members: Sequence[Any], roll: Roll | None, family: Family, surely: bool = False) -> bool:
    """Whether what the family takes from one member, such as a total count, is the same in all.

    Numbers that are expanded over the rows are seen to be equal; of other tensors the values are looked at. With ``surely``
    they are not where they cannot be read, or have gradients: members that agree by chance have gradients of their own.
    """
    p = members[0]
    for name in family.shared:
        own = getattr(p, name, None)
        others = [getattr(q, name, None) for q in members[1:]]
        if roll is not None and isinstance(own, Tensor) and varies(own.shape, roll.dim) and own.stride(roll.dim):
            others = [roll_tensor(own, *by) for by in roll.each()]
        if surely and isinstance(own, Tensor) and not all(other is own for other in others):
            gradients = any(x.requires_grad for x in (own, *others) if isinstance(x, Tensor))
            if gradients or not can_be_read(own):
                return False
        if not all(other is own or bool(torch.as_tensor(other == own).all()) for other in others):
            return False
    return True


def check_supports(members: Sequence[Any], roll: Roll | None, family: Family, alike: bool) -> None:
    """Refuses closed pools over different supports, such as binomials with different counts.

    Args:
        members, roll, family: see :func:`share_attributes`.
        alike: whether what the family takes from one member is known to be the same in all.
    """
    alike = alike or share_attributes(members, roll, family)
    if alike and td.Distribution._validate_args and roll is None:
        first, *others = (bounds(p.support) for p in members)
        pairs = [(a, b) for other in others for a, b in zip(first, other, strict=True)]
        alike = all(a is b or bool(torch.as_tensor(a == b).all()) for a, b in pairs)
    if not alike:
        raise ValueError(
            f"Cannot pool {describe(members[0])} with {describe(members[-1])}: their supports differ, expected "
            "one (such as the same total_count). Try the linear pool."
        )


def check_continuous(p: td.Distribution) -> None:
    """Refuses what has no density on the line that could be normalised numerically."""
    inner: Any = p.base_dist if isinstance(p, RolledRows) else p
    support, name = declared_support(inner), type(inner).__name__
    if support is None:
        raise TypeError(
            f"The class {name} has no closed log-linear pool, and declares no support over which a numerical one could be "
            "taken, expected a support. Try the linear pool, or support = constraints.real in the class."
        )
    if not inner.event_shape and inner.has_enumerate_support and not support.is_discrete:
        raise TypeError(
            f"The class {name} has no log-linear pool: it is of point masses, of which two members need not share "
            "any, expected a density. Try the linear pool."
        )
    if isinstance(inner, dist.ImproperUniform):
        raise ValueError(
            f"The log-linear pool of {name} does not exist: its density has no finite mass, expected a proper density. "
            "Try a wide one, such as Normal(0, 1000)."
        )


def _broadcast(*shapes: Sequence[int]) -> bool:
    try:
        broadcast_shape(*shapes)
    except ValueError:
        return False
    return True


def describe(p: td.Distribution) -> str:
    return f"{type(p).__name__}(batch_shape={tuple(p.batch_shape)}, event_shape={tuple(p.event_shape)})"
