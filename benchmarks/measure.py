"""How engines are compared: checked to agree, timed in turns, their memory read."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cases import Case, make_draws, make_problem
from benchmarks.engines import load

__all__ = ["MatrixProduct", "Timing", "check_equal", "peak_device_memory", "peak_memory", "time_in_turns"]

#: Largest difference allowed, relative to the largest entry of the loss or of the parameter's gradient.
#: In single precision a ReLU whose input is 0 up to rounding may let a row through in one engine and not in another: among
#: five million of them that was seen to change a gradient by 1e-3.
TOLERANCES = {"float64": 1e-10, "float32": 5e-3}
#: Before each block, so that an engine finds its memory and caches as in the middle of a fit.
WARM_STEPS = 3
#: These draw random numbers of their own: they are held against the eager step from the same seed, so that what is checked is
#: the very graph that is timed.
OWN_DRAWS = ("ours-compiled", "ours-captured")


class _Trained(Protocol):
    def train(self, steps: int) -> None: ...


_Result = tuple[NDArray[Any], dict[str, NDArray[Any]]]


def check_equal(case: Case, names: Sequence[str], precision: str, device: str = "cpu") -> None:
    """Checks that all engines have the same losses and gradients, given the same data, weights and random numbers.

    Raises:
        ValueError: names the engine, and what differs.
    """
    problem, draws = make_problem(case, minibatches=1), make_draws(case)
    expected = load("torch-batched")(case, problem, "float64").loss_and_gradients(draws)
    for name in names:
        engine: Any = load(name)(case, problem, precision, device)
        if name in OWN_DRAWS:
            eager: Any = load("ours-eager")(case, problem, precision, device)
            own = eager.own_loss_and_gradients(0)
            _check(case, name, precision, engine.own_loss_and_gradients(0), "ours-eager", own)
        else:
            _check(case, name, precision, engine.loss_and_gradients(draws), "torch-batched", expected)


def _check(case: Case, name: str, precision: str, found: _Result, other: str, expected: _Result) -> None:
    ours, wanted = ({"loss": loss, **gradients} for loss, gradients in (found, expected))
    if ours.keys() != wanted.keys() or any(value.dtype != precision for value in ours.values()):
        raise ValueError(f"{name} gives {sorted(ours)} for {case}, expected {sorted(wanted)} in {precision}.")
    for what, value in wanted.items():
        error = float(np.abs(ours[what] - value).max() / np.abs(value).max())
        if not error < TOLERANCES[precision]:
            raise ValueError(
                f"{name} differs from {other} in {what} by {error:.1e} (relative, {precision}) for {case}, "
                f"expected less than {TOLERANCES[precision]:.0e}."
            )


@dataclass(frozen=True)
class Timing:
    """Milliseconds a step in each block: of the processor's time, and of the clock on the wall.

    On one core the processor's time of a process is what the clock shows on a machine with nothing else to do; the clock
    itself also counts what other processes take. What a CUDA device takes, only the clock shows.
    """

    processor: tuple[float, ...]
    wall: tuple[float, ...]
    device: str = "cpu"

    @property
    def times(self) -> tuple[float, ...]:
        return self.processor if self.device == "cpu" else self.wall

    @property
    def median(self) -> float:
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Interquartile range."""
        low, high = np.quantile(self.times, [0.25, 0.75])
        return float(high - low)


def time_in_turns(
    engines: Mapping[Any, _Trained], steps: Mapping[Any, int], blocks: int, device: str = "cpu"
) -> dict[Any, Timing]:
    """Times blocks of steps of all engines in turns, so that whatever disturbs the machine disturbs all of them."""
    for key, engine in engines.items():
        engine.train(steps[key])  # compiles, and fills caches
    seen: dict[Any, list[tuple[float, float]]] = {key: [] for key in engines}
    order = list(engines)
    for _ in range(blocks):
        order = order[1:] + order[:1]  # no engine always runs after the same one
        for key in order:
            with getattr(engines[key], "in_fit", contextlib.nullcontext)():
                for _ in range(-(-WARM_STEPS // steps[key])):
                    engines[key].train(steps[key])
                _wait(device)
                processor, wall = time.process_time(), time.perf_counter()
                engines[key].train(steps[key])
                _wait(device)
                processor, wall = time.process_time() - processor, time.perf_counter() - wall
            seen[key].append((1e3 * processor / steps[key], 1e3 * wall / steps[key]))
    by_clock = {key: tuple(zip(*times, strict=True)) for key, times in seen.items()}
    return {key: Timing(processor, wall, device) for key, (processor, wall) in by_clock.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class MatrixProduct:
    """A square product of float32 matrices, timed in turns with the engines: what a core or a device can do at most."""

    SIZES: ClassVar = {"cpu": 1024, "cuda": 8192}

    def __init__(self, device: str) -> None:
        size = self.SIZES[device]
        self.a, self.b = torch.randn(2, size, size, device=device)
        self.out = torch.empty(size, size, device=device)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            torch.mm(self.a, self.b, out=self.out)

    @classmethod
    def gflops(cls, timing: Timing) -> float:
        """Floating-point operations, in 10^9 a second."""
        return 2e-6 * cls.SIZES[timing.device] ** 3 / timing.median


def peak_memory(name: str, case: Case) -> float | None:
    """What training takes at its peak, in MiB: data, weights, optimizer and a step, not the libraries.

    Measured in a process of its own, whose memory after a very small fit is subtracted. None where the kernel does not say
    (it does on Linux).
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    # The server imports the libraries once; each child starts as a copy of it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyro", "torch", "pyro_probmix.inference"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report_growth, args=(name, case, sender))
    child.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:  # the child died
        return None
    finally:
        child.join()


def peak_device_memory(name: str, case: Case) -> float:
    """What training takes of a CUDA device at its peak, in MiB, capturing included."""
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    load(name)(case, make_problem(case, minibatches=2), device="cuda").train(5)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _report_growth(name: str, case: Case, sender: Connection) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # off the core that the timings were pinned to
    engine = load(name)
    small = replace(case, replicas=min(case.replicas, 2), batch_size=2, num_rows=4)
    engine(small, make_problem(small)).train(2)
    problem = make_problem(case, minibatches=2)
    _forget_garbage()
    before = _memory("VmRSS")
    trained = engine(case, problem)
    trained.train(2)
    _forget_garbage()  # what compilation took at its peak does not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    with getattr(trained, "in_fit", contextlib.nullcontext)():
        trained.train(2)
    sender.send(_memory("VmHWM") - before)


def _forget_garbage() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _memory(field: str) -> float:
    """A figure of this process's memory, in MiB."""
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024
