"""Memory does not grow with the steps of a fit, nor with fits; a complete graph's not with its rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_probmix import CompleteGraph

ROOT = Path(__file__).resolve().parents[2]

# The resident memory of a process that does nothing else, with what was freed given back: a peak, or a process that other tests
# have filled, says little. Three times over, since allocators take memory now and then that stays the same afterwards: a
# leak grows every time. The graph is run as it was traced, or compiled.
GROWTH = """
import ctypes, gc, sys
from pathlib import Path
import torch
from pyro_probmix import fit
from pyro_probmix.inference.step import programs
from tests.inference.test_training import data, process

torch.set_num_threads(1)
steps, fits, really = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "compiled"
if not really:
    programs._compile = lambda graph, varying: torch.fx.Interpreter(graph.module).run
x, y = data()

def train(epochs):
    fit(process("ERM"), x, y, epochs=epochs, validation=(x, y) if really else None, compile=True)

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20

train(10)
of_steps, of_fits = [], []
for _ in range(3):
    before = resident()
    train(-(-steps // 9))
    after = resident()
    for _ in range(fits // 3):
        train(1)
    of_steps.append(after - before)
    of_fits.append(resident() - after)
print(min(of_steps), min(of_fits))
"""


def growth(steps: int, fits: int, how: str) -> tuple[float, float]:
    """MiB that a process grows by in a third of the steps and in a third of the fits, the least of three times."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm, which Linux has")
    command = [sys.executable, "-c", GROWTH, str(steps), str(fits), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    of_steps, of_fits = re.findall(r"-?[0-9.e-]+", done.stdout)
    return float(of_steps), float(of_fits)


def test_steps_and_fits_leak_no_memory() -> None:
    """1 KiB a step, or 0.05 MiB a fit (torch keeps more of each graph module that is made runnable), would be seen."""
    of_steps, of_fits = growth(900, 24, "traced")
    assert of_steps < 0.25 and of_fits < 0.4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_compiled_steps_leak_no_memory() -> None:
    of_steps, of_fits = growth(10_000, 24, "compiled")
    assert of_steps < 0.25 and of_fits < 0.4


def test_a_complete_graph_takes_the_same_memory_whatever_its_rows() -> None:
    """What torch allocates to make the graph, and to draw and score 1,000 edges."""

    def allocated(n: int) -> int:
        with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
            edges = CompleteGraph(n).edges()
            edges.log_prob(edges.sample((1_000,)))
        return sum(max(0, event.self_cpu_memory_usage) for event in profile.events())

    allocated(10)  # what is loaded at first use
    few = allocated(1_000)
    assert 0 < few == allocated(1_000_000_000)
