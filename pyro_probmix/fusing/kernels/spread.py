"""The spread beta of a label kernel: a number, or a tensor with a value for each replica; where it is 0 labels are points."""

from __future__ import annotations

__all__ = ["by_beta", "check_spread", "checked_beta", "trailing"]

import math
from collections.abc import Callable

import torch
from pyro.distributions import is_validation_enabled
from pyro.distributions.util import broadcast_shape
from torch import Tensor


def checked_beta(beta: float | Tensor) -> float | Tensor:
    """Beta, a float or a tensor.

    Raises:
        TypeError: if it is no number or tensor.
        ValueError: if it is negative or not finite.
    """
    if isinstance(beta, Tensor) and beta.layout is not torch.strided:
        raise TypeError("beta must be a number or a dense tensor, got a sparse one. Try beta.to_dense().")
    if isinstance(beta, Tensor):
        # Looking at values waits for the device, so it is done where Pyro validates arguments.
        if is_validation_enabled() and not bool(((beta >= 0) & torch.isfinite(beta)).all()):
            raise ValueError(f"beta must be finite and not negative, got {beta.tolist()}. Try beta=0.")
        return beta
    try:
        number = float(beta)
    except (TypeError, ValueError):
        kind = type(beta).__name__
        raise TypeError(f"beta must be a number or a tensor, got {kind}. Try torch.tensor(beta).") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"beta must be finite and not negative, got {number}. Try beta=0.")
    largest = torch.finfo(torch.get_default_dtype()).max
    if number > largest:
        raise ValueError(f"beta must be at most {largest:g} in {torch.get_default_dtype()}, got {number}. Try beta=0.")
    return number


def check_spread(beta: float | Tensor, batch_shape: torch.Size) -> None:
    """Raises ValueError unless beta broadcasts with the batch of the labels."""
    if not isinstance(beta, Tensor):
        return
    shape = tuple(beta.shape)
    try:
        broadcast_shape(shape, batch_shape)
    except ValueError:
        raise ValueError(
            f"beta has the shape {shape}, the labels the batch {tuple(batch_shape)}, expected shapes that broadcast. "
            "Try a number, or a beta for each replica, [R, 1]."
        ) from None


def by_beta(
    beta: float | Tensor, dims: int, positive: Callable[[float | Tensor], Tensor], zero: Callable[[], Tensor]
) -> Tensor:
    """``positive(beta)`` where beta is positive, ``zero()`` elsewhere.

    Args:
        beta: the spread; a tensor broadcasts over the batch.
        dims: the number of dimensions to the right of the batch.
        positive: given beta with these dimensions appended, all its values positive.
        zero: the values at the limit.
    """
    if not isinstance(beta, Tensor):
        return positive(beta) if beta > 0 else zero()
    beta = trailing(beta, dims)
    # Where beta is zero, one stands in for it: the branch not taken must be finite to have a gradient of zero.
    return torch.where(beta > 0, positive(torch.where(beta > 0, beta, 1.0)), zero())


def trailing(values: Tensor, dims: int) -> Tensor:
    """Appends dimensions of size one."""
    return values.reshape(values.shape + (1,) * dims)
