"""Which engines and cases are compared, and in which order they run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import METHODS, Case, make_problem
from benchmarks.engines import DEVICES, load
from benchmarks.measure import (
    OWN_DRAWS,
    MatrixProduct,
    Timing,
    check_equal,
    peak_device_memory,
    peak_memory,
    time_in_turns,
)
from benchmarks.plot import draw
from benchmarks.report import Row, machine, read_json, report, write_json

__all__ = ["make_row", "run", "show"]

FOLDER = Path(__file__).parent

CENTRE = Case("M-ProbMix", 20, 32, 277)
#: Cases that are timed in turns with each other: all methods, then one size at a time.
GRID = [
    [Case(method, 20, 32, 277) for method in METHODS],
    *([replace(CENTRE, replicas=r)] for r in (1, 5, 80, 320)),
    *([replace(CENTRE, batch_size=b, num_rows=max(b, 222))] for b in (128, 222, 512, 2048, 8192)),
    *([replace(CENTRE, draws=k)] for k in (2, 4, 16)),
    *([replace(CENTRE, embeddings=s)] for s in (2, 4, 16)),
]
#: Where memory is read: at the ends, and at a small table's whole batch.
MEMORY = [
    CENTRE,
    *(replace(CENTRE, replicas=r) for r in (1, 320)),
    *(replace(CENTRE, batch_size=b, num_rows=max(b, 222)) for b in (222, 2048, 8192)),
    replace(CENTRE, draws=16),
    replace(CENTRE, embeddings=16),
]
QUICK = [[Case(method, 2, 8, 20) for method in METHODS]]
#: Rows past which a step takes so long that few blocks say enough.
MANY_ROWS = 30_000


def run(*, quick: bool) -> None:
    """Checks, times and reports all cases, on the CPU and on a CUDA device where there is one."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    about: dict[str, Any] = {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found, about[device] = _run_on(device, quick)
        rows += found
        if not quick:  # after each device, as the next one may fail
            write_json(FOLDER / "results.json", rows)
            write_json(FOLDER / "machine.json", about)
    if quick:
        print(report(rows, about))
    else:
        show()


def _run_on(device: str, quick: bool) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a device, and what they depend on besides the code."""
    started = time.perf_counter()
    if device == "cuda" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # one core is for what the CPU itself is timed at
    names = _installed(device)
    timings: dict[tuple[Case, str], Timing] = {}
    products: list[Timing] = []
    checked: set[Case] = set()
    for cases in QUICK if quick else GRID:
        for case in cases:
            check_equal(case, names, "float32", device)  # what is timed
            # In double precision a small one of the kind.
            small = replace(case, replicas=min(case.replicas, 2), batch_size=6, num_rows=11)
            if small not in checked:
                check_equal(small, [name for name in names if name not in OWN_DRAWS], "float64", device)
                checked.add(small)
        blocks = 2 if quick else 5 if cases[0].drawn_rows > MANY_ROWS else 9
        found, product = _time(cases, names, blocks, device)
        timings |= found
        products.append(product)
        print(f"{device} {time.perf_counter() - started:5.0f} s  {', '.join(map(str, cases))}", flush=True)
    memory = {} if quick else _memory(names, device)
    rows = [make_row(name, case, timing, memory.get((case, name))) for (case, name), timing in timings.items()]
    return rows, machine(device) | {
        "wall_over_processor": _mean([sum(t.wall) / sum(t.processor) for t in timings.values()]),
        # The fastest of the turns: a peak is what the core does at its best.
        "matrix_product_gflops": max(MatrixProduct.gflops(product) for product in products),
        "seconds": time.perf_counter() - started,
    }


def show() -> None:
    """Prints and draws what the last run left."""
    rows, about = read_json(FOLDER / "results.json"), read_json(FOLDER / "machine.json")
    print(report(rows, about))
    for device in about:
        own = [row for row in rows if row["device"] == device]
        name = "speed.png" if device == "cpu" else f"speed-{device}.png"
        draw(own, about[device]["matrix_product_gflops"], FOLDER.parent / "docs" / name)


def _installed(device: str) -> list[str]:
    names = []
    for name in DEVICES[device]:
        try:
            load(name)
        except ImportError as error:
            print(f"{name} is left out: {error}. Try pip install 'pyro_probmix[bench]'.")
        else:
            names.append(name)
    return names


def _time(
    cases: Sequence[Case], names: Sequence[str], blocks: int, device: str
) -> tuple[dict[tuple[Case, str], Timing], Timing]:
    engines: dict[Any, Any] = {}
    steps: dict[Any, int] = {}
    for case in cases:
        problem = make_problem(case, minibatches=case.steps_per_block)
        for name in names:
            engines[case, name] = load(name)(case, problem, device=device)
            # The loop takes as long for one model as others for some.
            steps[case, name] = max(1, case.steps_per_block // (case.replicas if name == "torch-loop" else 1))
    engines["product"], steps["product"] = MatrixProduct(device), 2
    timings = time_in_turns(engines, steps, blocks, device)
    product = timings.pop("product")
    return timings, product


def _memory(names: Sequence[str], device: str) -> dict[tuple[Case, str], float | None]:
    wanted = [(case, name) for case in MEMORY for name in names]
    if device == "cuda":
        return {(case, name): peak_device_memory(name, case) for case, name in wanted}
    with ThreadPoolExecutor(2) as pool:  # two at a time: memory does not depend on what else runs
        return dict(zip(wanted, pool.map(lambda key: peak_memory(key[1], key[0]), wanted), strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def make_row(name: str, case: Case, timing: Timing, memory: float | None) -> Row:
    """An engine's timing of a case as a row of the results."""
    return {
        "engine": name,
        "method": case.method,
        "R": case.replicas,
        "B": case.batch_size,
        "K": case.draws,
        "S": case.embeddings,
        "device": timing.device,
        "threads": 1,
        "ms_per_step": timing.median,
        "spread": timing.spread,
        "peak_mib": memory,
    }
