"""A fit keeps the memory of a step for the next one, and gives it back at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Page faults of the epoch of one step, whose activations take 49 MiB apiece, that had the fewest, and the resident memory's
# growth in pages by the fit; in a process of its own, since the allocator remembers what a process did before.
FIT = """
import resource
from pathlib import Path
import torch
from pyro_probmix import ProbMix, fit
from pyro_probmix.models import METHODS, Gaussian, build_density

torch.set_num_threads(1)
x = torch.randn(100_000, 8)
density = build_density(METHODS["ERM"], num_features=8, likelihood=Gaussian, widths=(128,))
seen = []
def faults(epoch, best):
    seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
def train(epochs):
    fit(ProbMix(density, at=None, batch_size=100_000), x, x[:, :1], epochs=epochs, compile=False, on_epoch=faults)
train(1)
before = resident()
train(6)
print(min(later - former for former, later in zip(seen[1:], seen[2:])), resident() - before)
"""


def run_fit(**variables: str) -> tuple[int, int]:
    """The fewest page faults of an epoch, and pages by which a fit grew the process."""
    if not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None:
        pytest.skip("GNU's C library is needed")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FIT]
    done = subprocess.run(command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    faults, grown = map(int, done.stdout.split())
    return faults, grown


def test_a_step_takes_the_memory_of_the_one_before() -> None:
    faults, grown = run_fit()
    assert faults < 1_000
    assert grown < 10_000  # less than an activation


def test_settings_from_outside_stay() -> None:
    faults, _ = run_fit(MALLOC_MMAP_THRESHOLD_="131072")
    assert faults > 12_500  # the pages of an activation, at least
