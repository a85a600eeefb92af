"""Where a distribution has its mass: bounds of supports, their union, and densities that are zero outside."""

from __future__ import annotations

__all__ = ["AnyOf", "bounds", "interior_point", "is_fixed", "supported_log_prob"]

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

Bound = float | Tensor | None


class AnyOf(constraints.Constraint):
    """The union of several supports."""

    def __init__(self, supports: Sequence[Any]) -> None:
        self.supports = tuple(supports)
        self.is_discrete = self.supports[0].is_discrete
        self.event_dim = self.supports[0].event_dim
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Return where the value is in any of the supports."""
        inside: Tensor = self.supports[0].check(value)
        for support in self.supports[1:]:
            inside = inside | support.check(value)
        return inside


def bounds(support: Any) -> tuple[Bound, Bound]:
    """Return the lower and upper bound of one coordinate, None where there is none; a tensor may hold infinite ones."""
    support = _coordinate(support)
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


def is_fixed(support: Any) -> bool:
    """Return whether the support depends on no parameter of the distribution."""
    return not isinstance(support, AnyOf) and not any(isinstance(bound, Tensor) for bound in bounds(support))


def supported_log_prob(p: td.Distribution, value: Tensor) -> Tensor:
    """Return ``p.log_prob(value)``, minus infinity outside a support that depends on parameters.

    Most families give NaN there, or raise. Outside, a point of the support takes the value's place, so that gradients
    are finite.
    """
    support: Any = p.support
    low, high = bounds(support)
    if not (isinstance(low, Tensor) or isinstance(high, Tensor)):
        return p.log_prob(value)
    safe = torch.where(_coordinate(support).check(value), value, interior_point(support))
    return torch.where(support.check(value), p.log_prob(safe), -torch.inf)


def interior_point(support: Any) -> float | Tensor:
    """Return a point of the support in one coordinate."""
    if isinstance(support, AnyOf):
        return interior_point(support.supports[0])
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


def _outermost(limits: Sequence[Bound], extreme: Callable[[Tensor, Tensor], Tensor]) -> Bound:
    """The most permissive of several bounds, None if one of them is none."""
    given = [limit for limit in limits if limit is not None]
    if len(given) < len(limits):
        return None
    like = next((limit for limit in given if isinstance(limit, Tensor)), torch.empty(()))
    return reduce(extreme, [limit if isinstance(limit, Tensor) else like.new_full((), limit) for limit in given])


def _is_infinite(bound: Bound) -> bool:
    return isinstance(bound, float) and math.isinf(bound)


def _coordinate(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support
