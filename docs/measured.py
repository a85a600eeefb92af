"""Writes the table of the README, what the project is measured against, from the results that are kept.

python docs/measured.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.report.numbers.comparison import comparison, counts

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
BEGIN, END = "<!-- written by docs/measured.py -->\n", "<!-- end -->"
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


def _regressors() -> Iterator[tuple[str, ...]]:
    rows = pd.DataFrame(json.loads((ROOT / "benchmarks" / "estimators.json").read_text("utf-8")))
    scores = rows.pivot_table(["rmse", "nll"], ["dataset", "split"], ["model"])
    complete = scores[scores["rmse"].notna().all(axis="columns")]
    scores = complete.groupby("dataset").mean()
    by = "[`benchmarks/estimators.py`](docs/tutorials/table.md#how-good-the-defaults-are)"
    what = f"RMSE, untuned, mean of {len(scores)} UCI sets"
    for model, name in (("MLP", "`MLPRegressor`"), ("HGB", "`HistGradientBoostingRegressor`")):
        ratio = (scores["rmse", "ProbMix"] / scores["rmse", model]).mean()
        yield (what, f"scikit-learn's {name}", f"{ratio:.2f} of it", by)
    below = int((scores["nll", "ProbMix"] < scores["nll", "NGBoost"]).sum())
    yield ("NLL, untuned", "NGBoost", f"lower on {below} of {len(scores)} UCI sets", by)
    constant = rows.pivot_table("nll cv", ["dataset", "split"], "model").loc[complete.index].groupby("dataset").mean()
    below = int((scores["nll", "ProbMix"].to_numpy()[:, None] < constant).all(axis="columns").sum())
    other = "both of scikit-learn's with a Gaussian of constant variance, by cross-validation"
    yield ("NLL, untuned", other, f"lower on {below} of {len(scores)} UCI sets", by)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def page(text: str) -> str:
    """The page's text with its table as the results are now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
