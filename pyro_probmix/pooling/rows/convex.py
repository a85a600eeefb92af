"""Convex combinations of tensors, in which what has no weight has no part."""

from __future__ import annotations

__all__ = ["are_absent", "combined", "guarded_sum", "may_have_gaps", "weighted_sum"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.pooling.rows.tensors import can_be_read

Weight = float | Tensor


def combined(values: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    r"""Returns the convex combination :math:`\sum_m w_m x_m`, exact at the corners of the simplex.

    A value whose weight is exactly zero has no part in it, nor in its gradient, even if it is NaN or infinite.

    Args:
        values: tensors of one shape, or that broadcast.
        weights: that of the first of two values, or those of all of them; they broadcast with the values.
    """
    total = weighted_sum(values, weights)
    return guarded_sum(values, weights) if may_have_gaps(total) else total


def weighted_sum(values: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Returns the combination of values that are finite."""
    if len(values) == 2:
        return torch.lerp(values[1], values[0], weights[0])  # exact at both ends, and where the two are equal
    total: Tensor | float = 0.0
    for weight, value in zip(weights, values, strict=True):
        total = total + weight * value
    assert isinstance(total, Tensor)
    return total


def may_have_gaps(total: Tensor) -> bool:
    """Returns whether a value without weight, or on the way of ``lerp``, may not have been finite.

    Zero times an infinity is NaN. To look for one costs less than a guard on all values.
    """
    return not (can_be_read(total) and torch.equal(total, total))


def guarded_sum(values: Sequence[Tensor], weights: Sequence[Weight]) -> Tensor:
    """Returns the combination, with others in the place of the values without weight."""
    gone = are_absent(values[0], weights, len(values))
    absent = gone
    if isinstance(weights[0], Tensor) and weights[0].requires_grad:  # by the way between the values, if both are there
        absent = [none & ~value.isfinite() for none, value in zip(gone, values, strict=True)]
    # Of two, the other one: then the weight has no slope there, either.
    others: list[Any] = [value.detach() for value in reversed(values)] if len(values) == 2 else [0.0] * len(values)
    kept = [torch.where(none, other, value) for none, other, value in zip(absent, others, values, strict=True)]
    total = weighted_sum(kept, weights)
    if len(values) > 2 or not can_be_read(total):
        return total
    # Where a value with weight is infinite, the way between the two, by which lerp goes, has no length.
    shares = (weights[0], 1 - weights[0])
    own, other = (torch.where(none, 0.0, share * value) for none, share, value in zip(gone, shares, kept, strict=True))
    return torch.where(total.isfinite(), total, own + other)


def are_absent(like: Tensor, weights: Sequence[Weight], count: int) -> list[Any]:
    """Returns for each of the values, or members, where its weight is exactly zero.

    Args:
        like: a tensor on their device.
        weights: that of the first of two, or those of all.
        count: their number.
    """
    shares = (weights[0], 1 - weights[0]) if count == 2 else weights
    return [
        share == 0 if isinstance(share, Tensor) else torch.full((), share == 0, dtype=torch.bool, device=like.device)
        for share in shares
    ]
