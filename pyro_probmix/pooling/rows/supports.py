"""Supports of rows: their bounds, their union, exchanged rows, and points inside."""

from __future__ import annotations

__all__ = [
    "AnyOf",
    "Bound",
    "Multinomial",
    "RolledSupport",
    "bounds",
    "coordinate",
    "interior_point",
    "is_fixed",
    "is_interval",
    "row_support",
]

import itertools
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.pooling.rows.rolls import roll_tensor
from pyro_probmix.pooling.rows.tensors import can_be_read

Bound = float | Tensor | None
Multinomial: type[Any] = constraints.multinomial


class AnyOf(constraints.Constraint):
    """The union of several supports."""

    def __init__(self, supports: Sequence[Any]) -> None:
        self.supports = tuple(supports)
        self.is_discrete = self.supports[0].is_discrete
        self.event_dim = self.supports[0].event_dim
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Where the value is in any of the supports."""
        inside: Tensor = self.supports[0].check(value)
        for support in self.supports[1:]:
            inside = inside | support.check(value)
        return inside

    def __repr__(self) -> str:
        return f"AnyOf({', '.join(map(repr, self.supports))})"


def _onto_union(union: AnyOf) -> Any:
    """The map onto a union of intervals that overlap."""
    low, high = bounds(union)
    if union.is_discrete or not is_interval(union) or (low is None and high is None):
        raise NotImplementedError(f"Cannot map the line onto {union}, expected a union of intervals. Try one support.")
    own = [bounds(support) for support in union.supports]
    for (one, end), (other, last) in itertools.combinations(own, 2):
        gaps = [torch.as_tensor(b > c) for b, c in ((one, last), (other, end)) if b is not None and c is not None]
        if any(bool(gap.any()) for gap in gaps if can_be_read(gap)):
            raise NotImplementedError(
                "Cannot map the line onto the support of a linear pool whose members' supports do not overlap, expected an "
                "interval. Try a log-linear pool, or members whose supports overlap."
            )
    if high is None:
        hull: Any = constraints.greater_than_eq(low)
    else:
        hull = constraints.less_than(high) if low is None else constraints.interval(low, high)
    return td.biject_to(constraints.independent(hull, union.event_dim) if union.event_dim else hull)


for _registry in (td.biject_to, td.transform_to):
    _registry.register(AnyOf, _onto_union)


class RolledSupport(constraints.Constraint):
    """A support that depends on parameters, its rows exchanged as by ``torch.roll``.

    The event's dimensions are those of the distribution: a support may declare fewer, as that of Pyro's coalescent times does.
    """

    def __init__(self, base: Any, shift: int, dim: int, event_dim: int) -> None:
        self.base, self.shift, self.dim = base, shift, dim
        self.is_discrete = base.is_discrete
        self.event_dim = event_dim
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Where the value is in the support of the row that it belongs to."""
        return self.check_rows(self.base.check, value)

    def check_rows(self, check: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        """What a check of the base's support says, each value checked at the row that it belongs to."""
        there = roll_tensor(value, -self.shift, self.dim, self.event_dim)
        return roll_tensor(check(there), self.shift, self.dim)

    def __repr__(self) -> str:
        return f"RolledSupport({self.base!r})"


def bounds(support: Any) -> tuple[Bound, Bound]:
    """The lower and upper bound of one coordinate, None where there is none; a tensor may hold infinite ones."""
    support = coordinate(support)
    if isinstance(support, RolledSupport):
        low, high = (
            roll_tensor(bound, support.shift, support.dim) if isinstance(bound, Tensor) else bound
            for bound in bounds(support.base)
        )
        return low, high
    if isinstance(support, AnyOf):
        lows, highs = zip(*map(bounds, support.supports), strict=True)
        return _outermost(lows, torch.minimum), _outermost(highs, torch.maximum)
    if isinstance(support, constraints.MixtureSameFamilyConstraint):
        # torch takes the intersection of the components' supports for the mixture's.
        low, high = bounds(support.base_constraint)
        return (
            low.amax(-1) if isinstance(low, Tensor) and low.dim() else low,
            high.amin(-1) if isinstance(high, Tensor) and high.dim() else high,
        )
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    return None if _is_infinite(low) else low, None if _is_infinite(high) else high


def coordinate(support: Any) -> Any:
    """The support of one coordinate of an event, its batch that of the coordinates."""
    if isinstance(support, RolledSupport):
        base = coordinate(support.base)
        inner = support.base.event_dim - base.event_dim
        return RolledSupport(base, support.shift, support.dim - inner, support.event_dim - inner)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def is_fixed(support: Any) -> bool:
    """Whether the support depends on no parameter of the distribution."""
    return support is None or (not isinstance(support, (AnyOf, RolledSupport)) and not _holds_tensors(support))


def is_interval(support: Any) -> bool:
    """Whether each coordinate of the support is the line, or an interval of it, by itself."""
    own = coordinate(support)
    return own is not None and own.event_dim == 0 and not own.is_discrete


def interior_point(support: Any) -> float | Tensor:
    """A point of the support in one coordinate."""
    if isinstance(support, AnyOf):
        return interior_point(support.supports[0])
    if isinstance(row_support(support), Multinomial):
        return 0.0
    low, high = bounds(support)
    points: list[float | Tensor] = [0.0]
    if high is not None:
        points.append(high - 1)
    if low is not None:
        points.append(low + 1)
    if low is not None and high is not None:
        points.append(low if support.is_discrete else (low + high) / 2)
    point = points[0]
    for other in points[1:]:  # a bound may be infinite in some rows
        point = torch.where(other.isfinite(), other, point) if isinstance(other, Tensor) else other
    return point


def row_support(support: Any) -> Any:
    """The support whose rows are exchanged, or itself."""
    return getattr(support, "base", support)


def _holds_tensors(support: Any) -> bool:
    parts = support if isinstance(support, (list, tuple)) else vars(support).values()
    nested = (list, tuple, constraints.Constraint)
    return any(isinstance(x, Tensor) or (isinstance(x, nested) and _holds_tensors(x)) for x in parts)


def _outermost(limits: Sequence[Bound], extreme: Callable[[Tensor, Tensor], Tensor]) -> Bound:
    """The most permissive of several bounds, None if one of them is none."""
    given = [limit for limit in limits if limit is not None]
    if len(given) < len(limits):
        return None
    like = next((limit for limit in given if isinstance(limit, Tensor)), torch.empty(()))
    return reduce(extreme, [limit if isinstance(limit, Tensor) else like.new_full((), limit) for limit in given])


def _is_infinite(bound: Bound) -> bool:
    return isinstance(bound, float) and math.isinf(bound)
