"""Writes into the README, from the results that are kept, how good the defaults are and the table of all that is measured.

python docs/measured.py
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_probmix.experiments.report.numbers.comparison import comparison, counts

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.published_splits import read  # noqa: E402 # after the path to the benchmarks
from benchmarks.uci import MODELS, NAMES, RESULTS, Summary, complete  # noqa: E402 # likewise

PAGE = ROOT / "README.md"
#: The marks of a part, by its name.
BEGIN, END = "<!-- written by docs/measured.py: {} -->\n", "<!-- end -->"
UNTUNED = "docs/tutorials/table.md#how-good-the-defaults-are"
#: The published scores of the UCI sets: table of the paper -> metric.
TABLES = {1: "NLL", 3: "RMSE"}


def table() -> str:
    """What is measured, against what, and how it came out, in Markdown."""
    lines = [*_paper(), *_step(), *_regressors()]
    return "\n".join(
        ["| what | against | measured | by |", "| --- | --- | --- | --- |", *(_row(*line) for line in lines)]
    )


def _paper() -> Iterator[tuple[str, ...]]:
    results = pd.read_parquet(ROOT / "results" / "uci" / "results.parquet")
    for number, metric in TABLES.items():
        found = counts(comparison(results, number), number).loc["fixed"]
        measured = (
            f"no worse in {found['cells']} of {found['cells_measured']} cells, "
            f"the best of a set in {found['rows']} of {found['rows_measured']}"
        )
        yield (f"{metric} on the UCI sets", "the paper's table", measured, "[`probmix run uci`](docs/results.md)")


def _step() -> Iterator[tuple[str, ...]]:
    rows = pd.DataFrame(json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8")))
    rows = rows[(rows["method"] == "M-ProbMix") & (rows["K"] == 1) & (rows["S"] == 1) & (rows["device"] == "cpu")]
    times = rows.pivot_table("ms_per_step", ["R", "B"], "engine")
    for engine, name in (("numpyro", "NumPyro's jitted scan"), ("torch-loop", "a loop over models in PyTorch")):
        ratios = [
            f"{times.loc[case, 'ours-compiled'] / times.loc[case, engine]:.2f} (R = {case[0]}, B = {case[1]})"
            for case in ((20, 32), (20, 222), (1, 32))
        ]
        yield ("time of a step, R models at once, batch B", name, ", ".join(ratios), "[`make bench`](docs/speed.md)")


def _untuned() -> Any:
    """The scores of the untuned regressors, [dataset, split, model, metric]."""
    return complete(read(RESULTS), MODELS[:-1])


def defaults() -> str:
    """In a paragraph, how the regressor with its defaults compares with others."""
    table = _untuned()
    splits, found = table.groupby("dataset")["split"].nunique(), Summary.of(table)
    number = str(splits.min()) if splits.min() == splits.max() else f"{splits.min()} to {splits.max()}"
    crps = ", ".join(
        f"of {NAMES[model]} on {count}" for (metric, model), count in found.lower.items() if metric == "crps"
    )
    narrowest, widest = (f"{100 * share:.0f}" for share in (found.coverage.min(), found.coverage.max()))
    words = (
        f"**Good with nothing tuned.** `ProbMixRegressor()` as it comes has a test NLL at or below the lowest of "
        f"{found.published} published results on {found.reached} of {found.sets} UCI sets, and a CRPS below that {crps}. Its "
        f"90 % intervals hold {narrowest} to {widest} % of the targets. Each is a mean over {number} published splits of "
        "training and test rows."
    )
    return textwrap.fill(words, 128) + f"\n[The numbers, and what was compared]({UNTUNED})."


def _regressors() -> Iterator[tuple[str, ...]]:
    for what, other, value in Summary.of(_untuned()).lines():
        yield (f"{what}, untuned", other, value, f"[`benchmarks/uci.py`]({UNTUNED})")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def page(text: str) -> str:
    """The page's text with its two parts as the results are now."""
    for name, part in (("defaults", defaults()), ("table", table())):
        before, rest = text.split(BEGIN.format(name))
        text = before + BEGIN.format(name) + "\n" + part + "\n\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
