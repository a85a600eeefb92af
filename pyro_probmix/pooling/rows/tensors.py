"""The tensors that a distribution holds, and whether their values may be looked at."""

from __future__ import annotations

__all__ = ["can_be_read", "floating_tensor", "requires_grad"]

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode


def floating_tensor(p: td.Distribution) -> Tensor:
    """Some floating-point tensor of a distribution, whose dtype and device its densities have."""
    device = None
    for tensor in _tensors(p, set()):
        if tensor.is_floating_point():
            return tensor
        device = tensor.device
    return torch.empty((), device=device)


def requires_grad(p: td.Distribution) -> bool:
    """Whether some tensor of a distribution requires a gradient."""
    return any(tensor.requires_grad for tensor in _tensors(p, set()))


def can_be_read(x: Tensor) -> bool:
    """Whether values may be looked at: not in a traced step, and on a device only where arguments are validated."""
    if torch._C._get_tracing_state() or torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:  # in torch.vmap, say
        return False
    return x.device.type == "cpu" or bool(td.Distribution._validate_args)


def _tensors(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors that a distribution holds, wherever; not a module's parameters, nor what transforms cache."""
    if id(thing) in seen or isinstance(thing, (type, FunctionType, MethodType, nn.Module)):
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
        return
    parts = thing if isinstance(thing, (dict, list, tuple)) else getattr(thing, "__dict__", {})
    if isinstance(parts, dict):  # one after the other: most who ask need the first tensor alone
        parts = (value for name, value in parts.items() if "cache" not in str(name))
    for part in parts:
        yield from _tensors(part, seen)
