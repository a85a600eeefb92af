"""Where a distribution has its mass: bounds of supports, their union, exchanged rows, and densities zero outside."""

from __future__ import annotations

__all__ = [
    "AnyOf",
    "RolledSupport",
    "bounds",
    "can_be_read",
    "common_support",
    "coordinate",
    "declared_support",
    "interior_point",
    "is_fixed",
    "is_interval",
    "one_turn",
    "supported_log_prob",
    "unvalidated",
]

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pyro_probmix.pooling.families import scores_as
from pyro_probmix.pooling.rolls import roll_tensor

Bound = float | Tensor | None
_Multinomial: type[Any] = constraints.multinomial


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
        """Return where the value is in the support of the row that it belongs to."""
        return self.check_rows(self.base.check, value)

    def check_rows(self, check: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        """Return what a check of the base's support says, each value checked at the row that it belongs to."""
        there = roll_tensor(value, -self.shift, self.dim, self.event_dim)
        return roll_tensor(check(there), self.shift, self.dim)

    def __repr__(self) -> str:
        return f"RolledSupport({self.base!r})"


def bounds(support: Any) -> tuple[Bound, Bound]:
    """Return the lower and upper bound of one coordinate, None where there is none; a tensor may hold infinite ones."""
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


def can_be_read(x: Tensor) -> bool:
    """Return whether values may be looked at: not in a traced step, and on a device only where arguments are validated."""
    if torch._C._get_tracing_state() or torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
        return False
    return x.device.type == "cpu" or bool(td.Distribution._validate_args)


def is_fixed(support: Any) -> bool:
    """Return whether the support depends on no parameter of the distribution."""
    return support is None or (not isinstance(support, (AnyOf, RolledSupport)) and not _holds_tensors(support))


def common_support(members: Sequence[Any]) -> Any:
    """Return the one support of distributions, :class:`AnyOf` where they have several, None where a class has none."""
    supports = [declared_support(p) for p in members]
    if any(support is None for support in supports):
        return None
    one = all(map(is_fixed, supports)) and all(bounds(support) == bounds(supports[0]) for support in supports)
    return supports[0] if one else AnyOf(supports)


def is_interval(support: Any) -> bool:
    """Return whether each coordinate of the support is the line, or an interval of it, by itself."""
    own = coordinate(support)
    return own is not None and own.event_dim == 0 and not own.is_discrete


def supported_log_prob(p: td.Distribution, value: Tensor, differing: bool | None = None) -> Tensor:
    """Return ``p.log_prob(value)``, minus infinity outside a support that differs from other members'.

    Most families give NaN there, or raise, or go by the value's own sum in the place of their total count. Outside, a point
    of the support takes the value's place, so that gradients are finite.

    Args:
        p: the distribution.
        value: where to score it.
        differing: whether others have another support; by default, whether its bounds depend on parameters.
    """
    support = declared_support(p)
    if differing is None:
        differing = any(isinstance(bound, Tensor) for bound in bounds(support))
    if not differing:
        return p.log_prob(value)
    holds, one = _holds(support, value), coordinate(support)
    if bounds(one) == (None, None) and not isinstance(_base(one), _Multinomial):  # no point that it holds is known
        return torch.where(holds, unvalidated(p).log_prob(value), -torch.inf)
    within = _holds(one, value)
    safe = torch.where(within.reshape(within.shape + (1,) * one.event_dim), value, interior_point(support))
    return torch.where(holds, p.log_prob(safe), -torch.inf)


def declared_support(p: Any) -> Any:
    """Return the support, None where the class does not tell.

    That of a monotone map of numbers is where it takes its base's bounds, which torch does not look at.
    """
    if scores_as(p, MaskedDistribution, ExpandedDistribution):
        return declared_support(p.base_dist)
    try:
        declared = p.support
    except NotImplementedError:
        return None
    if scores_as(p, td.Independent):
        inner = declared_support(p.base_dist)
        return declared if inner is None else constraints.independent(inner, p.reinterpreted_batch_ndims)
    if not scores_as(p, td.TransformedDistribution):
        return declared
    try:
        return _mapped_support(p, declared)
    except Exception:  # of any kind: a transform may be the user's own, which does not map one number
        return declared


def _mapped_support(p: Any, declared: Any) -> Any:
    """The support that the transforms make of their base's; the declared one where they are not monotone in each number."""
    declaring: Any = next(cls for cls in type(p).__mro__ if "support" in vars(cls))
    if declaring is not td.TransformedDistribution and type(p).__init__ is declaring.__init__:
        return declared
    own = declared_support(p.base_dist)
    if own is None or not is_interval(own):
        return declared
    low, high = bounds(own)
    strict = isinstance(coordinate(own), constraints.greater_than)
    for t in p.transforms:
        try:
            sign = t.sign
        except NotImplementedError:
            return declared
        if t.domain.event_dim or not t.bijective:
            return declared
        ends = bounds(t.codomain)
        strict = strict or (low is None and isinstance(t.codomain, constraints.greater_than))
        bounded = low is not None or high is not None
        if isinstance(sign, Tensor) and bounded:  # of each row: what is unbounded has an image too
            below, above = (
                torch.as_tensor(_mapped(t, free if bound is None else bound)).to(sign)
                for bound, free in ((low, sign.new_full((), -torch.inf)), (high, sign.new_full((), torch.inf)))
            )
            low, high = torch.where(sign > 0, below, above), torch.where(sign > 0, above, below)
            continue
        low, high = _mapped(t, low), _mapped(t, high)
        if not isinstance(sign, Tensor) and sign < 0:
            low, high = high, low
        low = ends[0] if low is None else low
        high = ends[1] if high is None else high
    if not any(isinstance(x, Tensor) for x in (low, high)) and (low, high) == bounds(declared):
        return declared
    if low is None:
        made: Any = constraints.less_than(high)
    elif high is None:
        made = (constraints.greater_than if strict else constraints.greater_than_eq)(low)
    else:
        made = constraints.interval(low, high)
    return constraints.independent(made, len(p.event_shape)) if p.event_shape else made


def _mapped(t: Any, bound: Bound) -> Bound:
    """Where a transform takes a bound, None where there is none."""
    if bound is None:
        return None
    if isinstance(bound, Tensor):
        made: Tensor = copy.copy(t)(bound)  # a copy, which caches for itself
        return made
    mapped: Tensor = copy.copy(t)(torch.tensor(float(bound), dtype=torch.float64))
    held = any(isinstance(x, Tensor) for x in vars(t).values())
    return mapped if held or mapped.dim() else float(mapped)


def _holds(support: Any, value: Tensor) -> Tensor:
    """Where the support holds a value; in counts of classes their sum is the total, and not only up to it."""
    if isinstance(support, RolledSupport):
        return support.check_rows(lambda there: _holds(support.base, there), value)
    inside: Tensor = support.check(value)
    return inside & (value.sum(-1) == support.upper_bound) if isinstance(support, _Multinomial) else inside


def unvalidated(p: Any) -> Any:
    """Return ``p``, and the distributions that it is made of, without the checks of values to be scored."""
    copied = copy.copy(p)
    for name, part in vars(p).items():
        if isinstance(part, td.Distribution):
            vars(copied)[name] = unvalidated(part)
        elif isinstance(part, tuple) and part and all(isinstance(member, td.Distribution) for member in part):
            vars(copied)[name] = tuple(map(unvalidated, part))
    vars(copied)["_validate_args"] = False
    return copied


def one_turn(members: Sequence[Any]) -> float | Tensor | None:
    """Return the period of densities whose mass is that of one turn, None where one has its mass on the whole line.

    Raises:
        TypeError: if their periods differ, or one is mapped by another transform than an affine one.
    """
    turns: list[Any] = [_turn(p) for p in members]
    if any(turn is None for turn in turns):
        return None
    for turn in turns[1:]:
        if not _equal(turn, turns[0]):
            raise TypeError(
                "Angles whose turns differ have no log-linear pool: their densities repeat themselves with other periods, "
                "expected one scale. Try an AffineTransform whose scale is one number, or the linear pool."
            )
    period: float | Tensor = turns[0]
    return period


def _turn(p: Any) -> Any:
    """The period of a von Mises density, shifted and scaled, or of a mixture of them; else None."""
    if isinstance(p, (td.VonMises, dist.SineSkewed)):
        return 2 * math.pi
    if isinstance(p, td.TransformedDistribution):
        turn = _turn(p.base_dist)
        return turn if turn is None else _scaled(turn, p.transforms)
    if hasattr(p, "shift") and hasattr(p, "base_dist"):  # exchanged rows
        turn = _turn(p.base_dist)
        return roll_tensor(turn, p.shift, p.dim) if isinstance(turn, Tensor) else turn
    held = [*vars(p).values(), *getattr(p, "members", ())]
    parts = [x for x in held if isinstance(x, td.Distribution) and not isinstance(x, td.Categorical)]
    turn = one_turn(parts) if parts else None
    if isinstance(p, td.MixtureSameFamily) and isinstance(turn, Tensor) and turn.dim():
        first = turn[..., :1]
        if not _equal(turn, first):
            raise TypeError(
                "A mixture of angles whose turns differ has no log-linear pool, expected one scale for all components. "
                "Try the linear pool."
            )
        return first.squeeze(-1)
    return turn


def _scaled(turn: Any, transforms: Sequence[Any]) -> Any:
    for t in transforms:
        inverse = isinstance(t, td.transforms._InverseTransform)
        affine = t.inv if inverse else t
        if isinstance(affine, td.ComposeTransform) and not inverse:
            turn = _scaled(turn, affine.parts)
        elif isinstance(affine, td.AffineTransform):
            scale = abs(affine.scale)
            turn = turn / scale if inverse else turn * scale
        else:
            raise TypeError(
                f"An angle behind a {type(t).__name__} has no log-linear pool: its density repeats itself, in turns of no one "
                "length, expected affine transforms. Try transforms that are the same for all rows, or the linear pool."
            )
    return turn


def _equal(a: Any, b: Any) -> bool:
    """Whether two periods are known to be equal."""
    if a is b:
        return True
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)):
        return bool(a == b)
    tensors = [x for x in (a, b) if isinstance(x, Tensor)]
    return all(map(can_be_read, tensors)) and bool(torch.as_tensor(a == b).all())


def interior_point(support: Any) -> float | Tensor:
    """Return a point of the support in one coordinate."""
    if isinstance(support, AnyOf):
        return interior_point(support.supports[0])
    if isinstance(_base(support), _Multinomial):
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


def _base(support: Any) -> Any:
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


def coordinate(support: Any) -> Any:
    """Return the support of one coordinate of an event, its batch that of the coordinates."""
    if isinstance(support, RolledSupport):
        base = coordinate(support.base)
        inner = support.base.event_dim - base.event_dim
        return RolledSupport(base, support.shift, support.dim - inner, support.event_dim - inner)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support
