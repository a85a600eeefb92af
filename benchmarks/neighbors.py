"""What nearest-neighbour graphs cost and find, by number of rows: ``python benchmarks/neighbors.py``.

Prints, for tables of 20 features and K = 5, the seconds and the peak memory that building the graph takes, and its recall:
how many of a sample's found neighbours are no farther than its K-th nearest by exact search (equal distances count). Then,
for the complete graph and the neighbour graph, what drawing and scoring as many edges as there are rows takes.
``--sizes 10000 100000`` and ``--data gaussian`` choose tables, ``--search exact`` compares; ``--threads`` is 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FEATURES, NEIGHBORS, SAMPLE = 20, 5, 2_000
DATA = ("uniform", "gaussian", "clusters", "repeated")


def table(data: str, n: int, d: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    if data == "uniform":
        return rng.random((n, d), dtype=np.float32)
    if data == "repeated":  # each row some ten times, in no order
        return rng.standard_normal((max(n // 10, 1), d), dtype=np.float32)[rng.integers(max(n // 10, 1), size=n)]
    x = rng.standard_normal((n, d), dtype=np.float32)
    if data == "clusters":
        x += 10 * rng.standard_normal((100, d), dtype=np.float32)[rng.integers(100, size=n)]
    return x


def recall(x: Any, neighbors: Any) -> float:
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    rows = np.random.default_rng(1).choice(len(x), min(SAMPLE, len(x)), replace=False)
    x = x.astype(np.float64)
    # The nearest of all is the row itself (or a row equal to it, which is as far).
    exact = NearestNeighbors(n_neighbors=NEIGHBORS + 1, algorithm="brute").fit(x).kneighbors(x[rows])[0][:, -1]
    found = np.linalg.norm(x[neighbors[rows]] - x[rows, None], axis=-1)
    return float((found <= exact[:, None] + 1e-6).mean())


def resident_mib(field: str) -> float:
    """A figure of this process's memory, in MiB; not a number where the kernel does not say (it does on Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), float("nan"))


def build(data: str, n: int, d: int, search: Any, threads: int) -> dict[str, float]:
    import torch

    from pyro_probmix.graphs import NearestNeighborGraph

    torch.set_num_threads(threads)
    NearestNeighborGraph(torch.randn(500, d), NEIGHBORS, search)  # what is loaded at first use does not count
    x = table(data, n, d)
    before = resident_mib("VmRSS")
    wall, processor = time.perf_counter(), time.process_time()
    graph = NearestNeighborGraph(x, NEIGHBORS, search)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resident_mib("VmHWM") - before
    return {"wall": wall, "processor": processor, "peak": peak, "recall": recall(x, graph.neighbors.numpy())}


def edges(n: int) -> None:
    import torch

    from pyro_probmix.graphs import CompleteGraph, NearestNeighborGraph

    torch.set_num_threads(1)
    start = time.process_time()
    complete = CompleteGraph(n)
    built = 1e6 * (time.process_time() - start)
    # Few features: this is about edges, not about finding neighbours.
    for name, graph in (("complete", complete), ("nearest", NearestNeighborGraph(torch.randn(n, 2), NEIGHBORS))):
        seconds = []
        for _ in range(7):
            start = time.process_time()
            distribution = graph.edges()
            distribution.log_prob(distribution.sample((n,)))
            seconds.append(time.process_time() - start)
        median = sorted(seconds)[len(seconds) // 2]
        note = f"   (built in {built:.0f} us)" if graph is complete else ""
        print(f"{name:10} {n:10,} {1e3 * median:12.2f} {1e9 * median / n:12.1f}{note}", flush=True)


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--search", choices=["auto", "exact", "approximate"], default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Libraries read it when they are first imported, hence the imports inside functions.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if options.one:
        size, data = options.sizes[0], options.data[0]
        print(json.dumps(build(data, size, options.features, options.search, options.threads)))
        return
    print(f"{options.features} features, K = {NEIGHBORS}, search {options.search}, {options.threads} threads")
    print(f"{'data':10} {'rows':>10} {'seconds':>9} {'of CPU':>9} {'peak MiB':>9} {'recall':>8} {'load':>6}")
    for size in options.sizes:
        for data in options.data:
            # In a process of its own, for the peak of its memory.
            command = [
                sys.executable,
                __file__,
                "--one",
                "--sizes",
                str(size),
                "--data",
                data,
                "--search",
                options.search,
            ]
            command += ["--threads", str(options.threads), "--features", str(options.features)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
            print(
                f"{data:10} {size:10,} {found['wall']:9.1f} {found['processor']:9.1f} {found['peak']:9.0f} "
                f"{found['recall']:8.4f} {load:6.1f}",
                flush=True,
            )
    print(f"\n{'edges of':10} {'rows':>10} {'ms per epoch':>12} {'ns per edge':>12}")
    for size in options.sizes:
        edges(size)


if __name__ == "__main__":
    main()
