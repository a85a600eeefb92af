"""Tensors whose rows are exchanged along one batch dimension."""

from __future__ import annotations

__all__ = ["roll_tensor", "varies"]

from collections.abc import Sequence

from torch import Tensor


def varies(shape: Sequence[int], dim: int) -> bool:
    """Whether there is such a dimension, negative, and of another size than 1."""
    return -dim <= len(shape) and shape[dim] != 1


def roll_tensor(x: Tensor, shift: int, dim: int, event_dim: int = 0) -> Tensor:
    """Rolls a tensor along batch dimension ``dim``, its last ``event_dim`` dimensions being no batch dimensions."""
    return x.roll(shift, dim - event_dim) if varies(x.shape, dim - event_dim) else x
