"""The support that a distribution declares, and its density, which is zero outside."""

from __future__ import annotations

__all__ = ["common_support", "declared_support", "supported_log_prob", "unvalidated"]

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.distributions.transforms import ELUTransform
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.pooling.rows.scoring import scores_as
from pyro_probmix.pooling.rows.supports import (
    AnyOf,
    Bound,
    Multinomial,
    RolledSupport,
    bounds,
    coordinate,
    interior_point,
    is_fixed,
    is_interval,
    row_support,
)


def declared_support(p: Any) -> Any:
    """The support, None where the class does not tell.

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


def common_support(members: Sequence[Any]) -> Any:
    """The one support of distributions, :class:`AnyOf` where they have several, None where a class has none."""
    supports = [declared_support(p) for p in members]
    if any(support is None for support in supports):
        return None
    one = all(map(is_fixed, supports)) and all(bounds(support) == bounds(supports[0]) for support in supports)
    return supports[0] if one else AnyOf(supports)


def supported_log_prob(p: td.Distribution, value: Tensor, differing: bool | None = None) -> Tensor:
    """``p.log_prob(value)``, minus infinity outside a support that differs from other members'.

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
    if bounds(one) == (None, None) and not isinstance(row_support(one), Multinomial):  # no point that it holds is known
        return torch.where(holds, unvalidated(p).log_prob(value), -torch.inf)
    within = _holds(one, value)
    safe = torch.where(within.reshape(within.shape + (1,) * one.event_dim), value, interior_point(support))
    return torch.where(holds, p.log_prob(safe), -torch.inf)


def _holds(support: Any, value: Tensor) -> Tensor:
    """Where the support holds a value; in counts of classes their sum is the total, and not only up to it."""
    if isinstance(support, RolledSupport):
        return support.check_rows(lambda there: _holds(support.base, there), value)
    inside: Tensor = support.check(value)
    return inside & (value.sum(-1) == support.upper_bound) if isinstance(support, Multinomial) else inside


def unvalidated(p: Any) -> Any:
    """``p``, and the distributions that it is made of, without the checks of values to be scored."""
    copied = copy.copy(p)
    for name, part in vars(p).items():
        if isinstance(part, td.Distribution):
            vars(copied)[name] = unvalidated(part)
        elif isinstance(part, tuple) and part and all(isinstance(member, td.Distribution) for member in part):
            vars(copied)[name] = tuple(map(unvalidated, part))
    vars(copied)["_validate_args"] = False
    return copied


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
        codomain = constraints.greater_than(-1) if isinstance(t, ELUTransform) else t.codomain  # Pyro's is positive
        ends = bounds(codomain)
        strict = strict or (low is None and isinstance(codomain, constraints.greater_than))
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
