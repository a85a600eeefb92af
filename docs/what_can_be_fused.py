"""Writes the tables of what can be fused, from the classes that the tests walk; with --measure times them first.

python docs/what_can_be_fused.py [--measure]
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pyro
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the classes are placed in the tests

from pyro_probmix.pooling import pool_rows  # noqa: E402 # after the path to the tests
from tests.pooling.placed import PLACED, Placed, Refused  # noqa: E402 # likewise

PAGE = ROOT / "docs" / "what_can_be_fused.md"
TIMES = ROOT / "benchmarks" / "pools.json"
BEGIN, END = "<!-- written by docs/what_can_be_fused.py -->\n", "<!-- end -->"
POOLS = ("log-linear", "linear")
ROWS = 256
WORDS = {"closed": "closed form", "sum": "sum over counts", "quadrature": "quadrature", "any": "any class"}


def tables() -> str:
    """One table of each section, in Markdown."""
    times = json.loads(TIMES.read_text("utf-8"))
    parts = []
    for section in dict.fromkeys(placed.section for placed in PLACED.values()):
        lines = [f"### {section}", "", "| distribution | log-linear pool | cost | linear pool | cost |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for name, placed in PLACED.items():
            if placed.section == section:
                cells = [cell for pool in POOLS for cell in (_how(placed, pool), _cost(placed, times, name, pool))]
                lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _how(placed: Placed, pool: str) -> str:
    how = placed.how(pool)
    if isinstance(how, Refused):
        return f"no: {how.why}"
    return f"{WORDS[how]}, {placed.note}" if placed.note and pool == "log-linear" else WORDS[how]


def _cost(placed: Placed, times: dict[str, dict[str, float]], name: str, pool: str) -> str:
    if isinstance(placed.how(pool), Refused):
        return ""
    if not placed.batched:
        return "no rows"
    if not placed.scored:
        return "no density"
    if pool not in times.get(name, {}):
        return "not timed"
    return f"{times[name][pool]:g}"


def measure() -> None:
    """Time a step of each class, fused over unfused, for 256 rows: construction, log density and gradient."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    times = {}
    for name, placed in PLACED.items():
        if placed.batched and placed.scored and not placed.value_alone:
            own = _seconds(placed, None)
            pools = [pool for pool in POOLS if not isinstance(placed.how(pool), Refused)]
            times[name] = {pool: float(f"{_seconds(placed, pool) / own:.2g}") for pool in pools}
    TIMES.write_text(json.dumps(times, indent=1) + "\n", "utf-8")


def _seconds(placed: Placed, pool: str | None) -> float:
    """The shortest time of a step over rows that repeat the three that are placed."""
    index = torch.arange(ROWS) % 3
    leaves = [x[index].clone().requires_grad_() for x in placed.arguments]
    value = placed.values(placed.make(*(x.detach() for x in leaves)))[0]
    weight = torch.rand(ROWS)

    def step() -> None:
        p = placed.make(*leaves)
        score = (p if pool is None else pool_rows(p, weight, ROWS // 2, pool=pool)).log_prob(value)  # type: ignore[arg-type] # a name
        if score.requires_grad:
            score[score.isfinite()].sum().backward()

    return _shortest(step)


def _shortest(step: Callable[[], None]) -> float:
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.03 and len(times) < 100):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def page(text: str) -> str:
    """The page's text with the tables as the tests have them now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n\n" + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    if "--measure" in sys.argv[1:]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pyro.validation_enabled(False):
                measure()
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
