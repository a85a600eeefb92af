"""What records the work of a device and repeats it: CUDA graphs, and what may not happen while they are made."""

from __future__ import annotations

__all__ = ["CudaGraphs", "NumbersThere", "Recorder", "no_waiting", "recorder_for"]

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


class Recorder(Protocol):
    """What records the work of a device and repeats it in the same memory."""

    def aside(self, work: Callable[[], T]) -> T:
        """Runs work where it will be recorded."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records work, and returns what repeats it; whether it is run, too, is left open."""
        ...


class CudaGraphs:
    """A :class:`Recorder` of CUDA graphs, on a stream of its own.

    Each graph has memory of its own, and the default generator of the device is registered with it by torch: its random
    numbers go on from where the generator stands at each replay, as those of the same kernels run one by one.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def aside(self, work: Callable[[], T]) -> T:
        """Runs work on the stream, after all that was asked of the device before and before all that will be."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream), NumbersThere(self.device):
                return work()
        finally:
            current.wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures work as a graph, and returns its replay; the work itself is not run."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self.device),
            torch.cuda.stream(self.stream),  # a capture that fails would leave it the current one
            _no_collection(),
            torch.cuda.graph(graph, stream=self.stream),
            NumbersThere(self.device),
        ):
            work()
        return graph.replay


class NumbersThere(TorchFunctionMode):
    """Makes a number's tensor on the device that it is for, where torch would copy it from the host and wait.

    A capture cannot wait, and ``dist.Normal(loc, 0.5)`` is how a model is written: the number becomes a tensor beside the
    other parameters.

    Args:
        device: the one that numbers are made on.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and len(args) == 1 and type(args[0]) in (bool, int, float):
            device = kwargs.get("device")
            if (
                device is not None
                and torch.device(device).type == self.device.type
                and kwargs.keys() <= {"device", "dtype"}
            ):
                return torch.full((), args[0], **kwargs)
        return func(*args, **kwargs)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection: what it frees may call what must not be called during a capture."""
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on this device; None where nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Whatever waits for the device raises RuntimeError."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
