"""What may be pooled: checks of the members, of their weights, and of what they have in common."""

from __future__ import annotations

__all__ = [
    "Members",
    "Roll",
    "Weights",
    "check_supports",
    "checked_members",
    "checked_weights",
    "describe",
    "same_kind",
    "share_transforms",
]

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pyro_probmix.pooling.batches import rolled_transforms
from pyro_probmix.pooling.families import Family, find_family
from pyro_probmix.pooling.rolls import roll_tensor
from pyro_probmix.pooling.supports import bounds

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
    members = (p, q) if isinstance(q, td.Distribution) else (p, *q)
    for member in members:
        if not isinstance(member, td.Distribution):
            raise TypeError(f"A pool got the member {member!r}, expected a distribution. Try Pyro's distributions.")
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
    if count == 2 and not isinstance(weight, Tensor):
        if not 0 <= weight <= 1:
            raise ValueError(f"A pool got the weight {weight}, expected a value in [0, 1]. Try 0.5.")
        return (float(weight),)
    w = torch.as_tensor(weight)
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
    p = members[0]
    for q in members[1:]:
        related = issubclass(type(p), type(q)) or issubclass(type(q), type(p))
        if _kind(p) is not _kind(q) or not (related or isinstance(_kind(p), Family)):
            raise TypeError(
                f"Cannot pool {describe(p)} with {describe(q)}: expected distributions of one family. "
                "Try the same class, and the same to_event and mask, for all members."
            )
        if isinstance(p, td.Independent) and p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
            raise ValueError(
                f"Cannot pool {describe(p)} with {describe(q)}: they take {p.reinterpreted_batch_ndims} and "
                f"{q.reinterpreted_batch_ndims} batch dimensions into the event. Try to_event of the same number."
            )
    return _kind(p)


def _kind(p: Any) -> Family | type | None:
    family = find_family(type(p))
    wrappers = (td.Independent, MaskedDistribution, td.TransformedDistribution)
    return family or next((wrapper for wrapper in wrappers if isinstance(p, wrapper)), None)


def share_transforms(members: Sequence[Any], roll: Roll | None) -> bool:
    """Whether all members apply the same bijections, with which log-linear pooling commutes."""
    p = members[0]
    if not all(t.bijective for t in p.transforms):
        return False
    if roll is not None:
        try:
            return all(map(operator.is_, rolled_transforms(p, roll.shift, roll.dim), p.transforms))
        except TypeError:  # one differs from row to row
            return False
    return all(
        len(q.transforms) == len(p.transforms)
        and all(s is t or s == t for s, t in zip(p.transforms, q.transforms, strict=True))
        for q in members[1:]
    )


def check_supports(members: Sequence[Any], roll: Roll | None) -> None:
    """Refuse closed pools over different supports, such as binomials with different counts."""
    if not td.Distribution._validate_args:
        return
    limits: list[tuple[Any, ...]] = [bounds(p.support) for p in members]
    if roll is not None:
        first = limits[0]
        limits += [tuple(roll_tensor(b, *by) if isinstance(b, Tensor) else b for b in first) for by in roll.each()]
    for other in limits[1:]:
        if not all(a is b or bool(torch.as_tensor(a == b).all()) for a, b in zip(limits[0], other, strict=True)):
            raise ValueError(
                f"Cannot pool {describe(members[0])} with {describe(members[-1])}: their supports differ, expected "
                "one (such as the same total_count). Try the linear pool."
            )


def _broadcast(*shapes: Sequence[int]) -> bool:
    try:
        broadcast_shape(*shapes)
    except ValueError:
        return False
    return True


def describe(p: td.Distribution) -> str:
    return f"{type(p).__name__}(batch_shape={tuple(p.batch_shape)}, event_shape={tuple(p.event_shape)})"
