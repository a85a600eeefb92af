"""Times one training step of ours beside plain PyTorch and NumPyro, on one core and on CUDA: ``python benchmarks/bench.py``.

Prints tables, and writes ``benchmarks/results.json`` (a list, one row for each engine and case), ``benchmarks/machine.json``
(what it ran on) and ``docs/speed.png``; where there is a CUDA device, its rows follow, and ``docs/speed-cuda.png``. ``--quick``
times a few tiny cases and writes nothing; ``--report`` prints and draws the last run again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few tiny cases; writes nothing")
    parser.add_argument("--report", action="store_true", help="print and draw the last run again")
    arguments = parser.parse_args()
    # Libraries read these when they are first imported, hence the import below.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.suite import run, show

    try:
        if arguments.report:
            show()
        else:
            run(quick=arguments.quick)
    except (OSError, ValueError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
