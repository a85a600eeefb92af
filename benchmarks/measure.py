"""How engines are compared: checked to agree, timed in turns on one core, their memory read in processes of their own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.cases import Case, make_draws, make_problem
from benchmarks.engines import Engine, load

__all__ = ["Timing", "check_equal", "peak_memory", "time_in_turns"]

#: Largest difference allowed, relative to the largest entry of the loss or of the parameter's gradient.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}


def check_equal(case: Case, names: Sequence[str]) -> None:
    """Checks that all engines have the same losses and gradients, given the same data, weights and random numbers.

    Raises:
        ValueError: names the engine, and what differs.
    """
    problem, draws = make_problem(case), make_draws(case)
    expected_loss, expected = load("torch-batched")(case, problem, "float64").loss_and_gradients(draws)
    for precision, tolerance in TOLERANCES.items():
        for name in names:
            loss, gradients = load(name)(case, problem, precision).loss_and_gradients(draws)
            found, wanted = {"loss": loss, **gradients}, {"loss": expected_loss, **expected}
            if found.keys() != wanted.keys() or any(value.dtype != precision for value in found.values()):
                raise ValueError(f"{name} gives {sorted(found)} for {case}, expected {sorted(wanted)} in {precision}.")
            for what, value in wanted.items():
                error = float(np.abs(found[what] - value).max() / np.abs(value).max())
                if not error < tolerance:
                    raise ValueError(
                        f"{name} differs from torch-batched in {what} by {error:.1e} (relative, {precision}) for {case}, "
                        f"expected less than {tolerance:.0e}."
                    )


@dataclass(frozen=True)
class Timing:
    """Milliseconds a step in each block: of the processor's time, and of the clock on the wall."""

    processor: tuple[float, ...]
    wall: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.processor))

    @property
    def spread(self) -> float:
        """Interquartile range."""
        low, high = np.quantile(self.processor, [0.25, 0.75])
        return float(high - low)


def time_in_turns(engines: Mapping[str, Engine], steps: int, blocks: int) -> dict[str, Timing]:
    """Times blocks of steps of all engines in turns, so that whatever disturbs the machine disturbs all of them.

    On one core the processor's time of a process is what the clock shows on a machine with nothing else to do; the clock
    itself also counts what other processes take.
    """
    for engine in engines.values():
        engine.train(steps)  # compiles, and fills caches
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    order = list(engines)
    for _ in range(blocks):
        order = order[1:] + order[:1]  # no engine always runs after the same one
        for name in order:
            processor, wall = time.process_time(), time.perf_counter()
            engines[name].train(steps)
            processor, wall = time.process_time() - processor, time.perf_counter() - wall
            seen[name].append((1e3 * processor / steps, 1e3 * wall / steps))
    return {name: Timing(*zip(*times, strict=True)) for name, times in seen.items()}


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


def _report_growth(name: str, case: Case, sender: Connection) -> None:
    engine = load(name)
    small = Case(case.method, min(case.replicas, 2), 2, 4)
    engine(small, make_problem(small)).train(2)
    problem = make_problem(case)
    _forget_garbage()
    before = _memory("VmRSS")
    trained = engine(case, problem)
    trained.train(2)
    _forget_garbage()  # what compilation took at its peak does not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
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
