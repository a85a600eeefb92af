"""Which engines and cases are compared, and in which order they run."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.cases import METHODS, Case, make_problem
from benchmarks.engines import ENGINES, load
from benchmarks.measure import Timing, check_equal, peak_memory, time_in_turns
from benchmarks.report import Row, comparison, cost_of_fusing, machine, write_json

__all__ = ["make_row", "run"]

FOLDER = Path(__file__).parent

#: The step that counts: minibatches of 32 of a small table, and a whole small table at once.
HEADLINE = [Case("M-ProbMix", 20, 32, 277), Case("M-ProbMix", 20, 222, 222), Case("M-ProbMix", 1, 32, 277)]
#: Each method, to see what fusing costs.
FUSING = [Case(method, 20, 32, 277) for method in METHODS]


def run(*, quick: bool) -> None:
    """Checks, times and reports all cases."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    names = _installed()
    rows: list[Row] = []
    busy: list[float] = []
    for case in HEADLINE:
        timings = _measure(case, names, blocks=5 if quick else 11)
        memory = {name: None if quick else peak_memory(name, case) for name in names}
        found = [make_row(name, case, timing, memory[name]) for name, timing in timings.items()]
        rows += found
        busy += [sum(t.wall) / sum(t.processor) for t in timings.values()]
        print(comparison(case, found), flush=True)
    slowdown = sum(busy) / len(busy)
    if not quick:
        # NumPyro's compiler takes too long for a side show.
        some = [name for name in names if name == "torch-batched" or name.startswith("ours-")]
        fusing = [make_row(n, c, t, None) for c in FUSING for n, t in _measure(c, some, blocks=11).items()]
        print(cost_of_fusing(fusing), flush=True)
        rows += [row for row in fusing if row["method"] != "M-ProbMix"]
        write_json(FOLDER / "results.json", rows)
        write_json(FOLDER / "machine.json", machine() | {"wall_over_processor": slowdown})
    print(
        f"Processor's time on one core, float32, median and interquartile range; the clock on the wall took "
        f"{slowdown:.2f} times as long. All engines agreed in loss and gradients. "
        f"{time.perf_counter() - started:.0f} s in all."
    )
    if slowdown > 1.2:
        print("The machine was busy with other things, so the numbers are rough. Try again when it is quiet.")


def _installed() -> list[str]:
    names = []
    for name in ENGINES:
        try:
            load(name)
        except ImportError as error:
            print(f"{name} is left out: {error}. Try pip install 'pyro_probmix[bench]'.")
        else:
            names.append(name)
    return names


def _measure(case: Case, names: list[str], blocks: int) -> dict[str, Timing]:
    check_equal(case, names)
    problem = make_problem(case)
    return time_in_turns({name: load(name)(case, problem) for name in names}, case.steps_per_block, blocks)


def make_row(name: str, case: Case, timing: Timing, memory: float | None) -> Row:
    """An engine's timing of a case as a row of the results."""
    return {
        "engine": name,
        "method": case.method,
        "R": case.replicas,
        "B": case.batch_size,
        "K": 1,
        "S": 1,
        "device": "cpu",
        "threads": 1,
        "ms_per_step": timing.median,
        "spread": timing.spread,
        "peak_mib": memory,
    }
