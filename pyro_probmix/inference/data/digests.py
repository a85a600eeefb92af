"""Checksums of tensors: shapes, types and values."""

from __future__ import annotations

__all__ = ["digest", "digest_of"]

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(*tensors: Tensor) -> str:
    """A checksum of tensors in their order."""
    return digest_of({str(k): tensor.detach().cpu() for k, tensor in enumerate(tensors)})


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of tensors on the CPU and of their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
