"""The devices on which a check runs a class."""

from __future__ import annotations

__all__ = ["each_device"]

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor


def each_device() -> list[AbstractContextManager[Tensor]]:
    """Contexts that give a float32 tensor on a device: on "meta", which any machine has, and on CUDA if there is one.

    Tensors on "meta" have a shape and no values. What makes a tensor elsewhere, or reads a value, fails there as on a GPU.
    """
    return [_on(name) for name in (["meta", "cuda"] if torch.cuda.is_available() else ["meta"])]


@contextmanager
def _on(name: str) -> Iterator[Tensor]:
    try:
        yield torch.zeros((), device=name)
    except NotImplementedError as error:
        # An operation of torch that has no kernel for "meta" says nothing about the class; one that reads a value does.
        said = str(error)
        reads = "_local_scalar_dense" in said or "no data" in said
        if name != "meta" or reads or "meta" not in said.lower():
            raise
