"""Memory that goes back to the system when it is no longer used, where the allocator might keep it."""

from __future__ import annotations

__all__ = ["give_back", "own_pages"]

import ctypes
import math
import mmap
import sys

import torch
from torch import Tensor


def own_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros in pages of its own, which go back to the system with it."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).reshape(shape)


def give_back() -> None:
    """Gives back what lies free between the pieces of memory in use; after many blocks of rows it would add up."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # GNU's C library has it
        if trim is not None:
            trim(0)
