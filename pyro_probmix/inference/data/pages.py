"""When memory goes back to the system: at once where the allocator might keep it, after the fit where it is used again."""

from __future__ import annotations

__all__ = ["give_back", "kept_pages", "own_pages"]

import contextlib
import ctypes
import math
import mmap
import os
import sys
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

# Of mallopt(3), GNU's C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4

#: Beginnings of the names of environment variables that set them.
VARIABLES = ("GLIBC_TUNABLES", "MALLOC_MMAP", "MALLOC_TRIM")
#: What a process comes to by itself after it has freed a large array, and the library's own number of maps.
USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20, M_MMAP_MAX: 65536}

_lock = threading.Lock()
_users = 0


def own_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros in pages of its own, which go back to the system with it."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).reshape(shape)


def give_back() -> None:
    """Gives back what lies free between the pieces of memory in use; after many blocks of rows it would add up."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def kept_pages() -> Iterator[None]:
    """Within it, freed memory stays with the process, for the next step to take.

    A step frees its activations, and the next one takes as many. GNU's C library hands large arrays back to the system at
    once, which then fills every page with zeros again: at 8,192 rows of each of 20 models a third of the time of a compiled
    step, two thirds of an eager one. The price is memory: pieces that are kept fit together less well.

    The library's settings are those of the whole process, so they are changed once for all fits at a time in it, and left
    alone where the environment has some of its own. Other allocators are as they were.
    """
    global _users
    mallopt = _of_libc("mallopt")
    if mallopt is None or any(name.startswith(VARIABLES) for name in os.environ):
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for name, value in USUAL.items():
                    mallopt(name, value)
                give_back()


def _of_libc(name: str) -> ctypes._NamedFuncPointer | None:
    """A function of GNU's C library; None where that is another."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
