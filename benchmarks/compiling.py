"""What compiling costs a fit, with caches and without: ``python benchmarks/compiling.py``.

A fit of one epoch (20 replicas of 364 rows, minibatches of 32, 41 validation rows, MLP 8-128-32), its time less that of the
eager fit: in a first run, whose cache on disk is an empty folder; for another chunk of replicas in the same process; and in a
next run, a process of its own that finds the first one's cache. Prints the processor's seconds, those of the C++ compiler
included, and the seconds on the wall.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHUNK = ("ERM", "ProbMix", "M-ProbMix")
ROOT = Path(__file__).resolve().parents[1]


def fit_once(method: str, seed: int, compile: bool) -> tuple[float, float]:
    """Processor's and wall seconds of a fit."""
    import torch

    from pyro_probmix import METHODS, ProbMix, build_density, fit
    from pyro_probmix.models import Gaussian

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    x, y = torch.randn(20, 405, 8), torch.randn(20, 405, 1)
    density = build_density(METHODS[method], num_features=8, likelihood=Gaussian, replicas=20)
    process = ProbMix(density, at=METHODS[method].site, alpha=0.1, batch_size=32)
    held_out = x[:, 364:].contiguous(), y[:, 364:].contiguous()
    start, wall = os.times(), time.perf_counter()
    fit(process, x[:, :364].contiguous(), y[:, :364].contiguous(), epochs=1, validation=held_out, compile=compile)
    return sum(os.times()[:4]) - sum(start[:4]), time.perf_counter() - wall


def _in_this_run(method: str) -> None:
    eager = [fit_once(method, seed, compile=False) for seed in (0, 1)][1]  # the first loads libraries, too
    for chunk in (0, 1):
        seconds = fit_once(method, chunk, compile=True)
        print(*(took - base for took, base in zip(seconds, eager, strict=True)))


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", metavar="METHOD", help=argparse.SUPPRESS)
    if (method := parser.parse_args().run) is not None:
        _in_this_run(method)
        return
    print(f"{'':10} {'first run':>18} {'its next chunk':>18} {'next run':>18}   processor's seconds (wall)")
    for method in CHUNK:
        with tempfile.TemporaryDirectory() as cache:
            settings = {"TORCHINDUCTOR_CACHE_DIR": cache, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            command = [sys.executable, __file__, "--run", method]
            (first, chunk), (again, _) = (
                [
                    tuple(map(float, line.split()))
                    for line in subprocess.run(
                        command, env=os.environ | settings, check=True, capture_output=True, text=True
                    ).stdout.splitlines()
                ]
                for _ in range(2)
            )
        cells = [f"{processor:8.1f} ({wall:6.1f})" for processor, wall in (first, chunk, again)]
        print(f"{method:10}" + "".join(f" {cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
