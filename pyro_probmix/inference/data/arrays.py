"""Tensors of what a caller gives: arrays, frames and lists of numbers are taken, anything else is refused in a sentence."""

from __future__ import annotations

__all__ = ["TensorLike", "as_array", "as_tensor", "in_dtype"]

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: A tensor, or what NumPy makes an array of: an array, a data frame, a list of numbers.
TensorLike: TypeAlias = Any


def as_tensor(who: str, name: str, value: Any) -> Tensor:
    """A tensor as it is, or one of what NumPy makes an array of numbers of.

    Raises:
        ValueError: for what holds no real numbers, or masked or sparse ones.

    Example:
        >>> as_tensor("fit", "y", [1, 2])
        tensor([1, 2])
    """
    if not isinstance(value, Tensor):
        return torch.from_numpy(as_array(who, name, value))
    if value.layout != torch.strided:
        raise ValueError(f"{who} got {name} as a sparse tensor, expected a dense one. Try {name}.to_dense().")
    if value.is_complex():
        raise ValueError(f"{who} got {name} of {value.dtype}, expected real numbers. Try {name}.real.")
    return value


def as_array(who: str, name: str, value: Any) -> npt.NDArray[Any]:
    """An array of real numbers in a type that tensors have, its memory its own unless it can be written to.

    Raises:
        ValueError: for what holds no real numbers, or masked ones.
    """
    if isinstance(value, Tensor):
        return as_tensor(who, name, value).detach().cpu().numpy()
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{who} got {name} with masked values, expected numbers. Try leaving out those rows.")
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and not isinstance(value, str | bytes | dict | set) and array.ndim:
            array = np.asarray(array.tolist())  # numbers in the guise of objects
    except Exception:  # whatever an object says when it is asked for its numbers
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{who} got {name} of type {type(value).__name__}, expected a tensor or an array of numbers. "
            f"Try torch.as_tensor({name})."
        )
    wanted = (
        np.dtype(np.int64) if array.dtype.kind == "u" and array.dtype.itemsize > 1 else array.dtype.newbyteorder("=")
    )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        wanted = np.dtype(np.float64)
    array = np.asarray(array, dtype=wanted)
    good = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return array if good else array.copy()


def in_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating-point numbers in the precision of a model's weights; others as they are."""
    return value.to(dtype) if value.is_floating_point() else value
