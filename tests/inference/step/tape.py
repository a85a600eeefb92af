"""A stand-in for CUDA graphs on a CPU: operations are noted as they run, and repeated in the same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: What is written though the operation's schema does not say so.
UNDECLARED = {torch.ops.aten.native_batch_norm.default: ("running_mean", "running_var")}


class Tape:
    """Records what CUDA graphs would: the operations on tensors, in order, with the memory that they read and write.

    As there, recording changes nothing (what it wrote is put back, random numbers included), numbers and branches of Python
    are frozen, and a look at a value is an error. Random operations draw anew at each replay.
    """

    def __init__(self) -> None:
        self.recordings: list[_Noting] = []
        self.replays = 0

    def aside(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        noting = _Noting()
        self.recordings.append(noting)
        state = torch.get_rng_state()
        with noting:
            work()
        noting.undo()
        torch.set_rng_state(state)

        def replay() -> None:
            self.replays += 1
            noting.repeat()

        return replay


class _Noting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Any, Any, Any, Any]] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value was looked at during the recording")
        written = [
            leaf
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if (argument.alias_info is not None and argument.alias_info.is_write)
            or argument.name in UNDECLARED.get(func, ())
            for leaf in tree_leaves(value)
            if isinstance(leaf, Tensor)
        ]
        self.overwritten += [(tensor, tensor.clone()) for tensor in written]
        result = func(*args, **kwargs)
        self.noted.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        with torch.no_grad():
            for tensor, before in reversed(self.overwritten):
                tensor.copy_(before)
        self.overwritten.clear()

    def repeat(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.noted:
                given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    # Views, and what is written in place, are there already.
                    if _is_tensor(old) and old.untyped_storage().data_ptr() not in given:
                        old.copy_(new)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)
