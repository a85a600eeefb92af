"""The common support of several continuous distributions of one number, and its bounds."""

from __future__ import annotations

__all__ = ["common_support"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_probmix.pooling.rows.declared import declared_support
from pyro_probmix.pooling.rows.supports import bounds, is_fixed
from pyro_probmix.pooling.rows.tensors import floating_tensor
from pyro_probmix.pooling.rows.turns import one_turn


def common_support(members: Sequence[Distribution], weights: Tensor) -> tuple[Any, Tensor | None, Tensor | None]:
    """The common support of the members of positive weight, and its lower and upper bound, None without one.

    Args:
        members: of event shape ``()``.
        weights: tensor ``[..., k]`` on the simplex.

    Raises:
        ValueError: for supports that are bounded on different sides.
    """
    supports: list[Any] = [declared_support(p) for p in members]
    turn = one_turn(members)
    if turn is not None:
        half = torch.as_tensor(turn).to(floating_tensor(members[0])) / 2
        return supports[0], -half, half
    lows, highs = zip(*map(bounds, supports), strict=True)
    lower, upper = _tightest(members, weights, lows, -torch.inf), _tightest(members, weights, highs, torch.inf)
    if all(map(is_fixed, supports)):
        return supports[0], lower, upper
    if lower is None:
        return constraints.less_than(upper), lower, upper
    if upper is None:
        return constraints.greater_than_eq(lower), lower, upper
    return constraints.interval(lower, upper), lower, upper


def _tightest(
    members: Sequence[Distribution], weights: Tensor, limits: Sequence[float | Tensor | None], free: float
) -> Tensor | None:
    """The largest lower or smallest upper bound, where a member of no weight sets none."""
    given = [limit for limit in limits if limit is not None]
    if not given:
        return None
    if len(given) < len(limits):
        raise ValueError(
            f"The supports of {' and '.join(type(p).__name__ for p in members)} are bounded on different "
            "sides, expected supports of one kind. Try members of one family, or the linear pool."
        )
    like = floating_tensor(members[0])
    stacked = torch.stack(
        [
            torch.where(weight == 0, free, limit if isinstance(limit, Tensor) else like.new_full((), limit))
            for weight, limit in zip(weights.unbind(-1), given, strict=True)
        ]
    )
    return stacked.amax(0) if free < 0 else stacked.amin(0)
