"""Writes into the README, from the results that are kept, how good the defaults are and the table of all that is measured.

python docs/measured.py
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.report.numbers.comparison import comparison, counts
from pyro_probmix.experiments.report.numbers.paper import published_nll

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
#: The marks of a part, by its name.
BEGIN, END = "<!-- written by docs/measured.py: {} -->\n", "<!-- end -->"
ESTIMATORS = "docs/tutorials/table.md#how-good-the-defaults-are"
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


def _untuned() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series[int]]:
    """Mean scores of the untuned regressors, [dataset, (metric, model)], the NLLs of a constant variance, and the splits."""
    rows = pd.DataFrame(json.loads((ROOT / "benchmarks" / "estimators.json").read_text("utf-8")))
    scores = rows.pivot_table(["rmse", "nll"], ["dataset", "split"], ["model"])
    complete = scores[scores["rmse"].notna().all(axis="columns")]
    constant = rows.pivot_table("nll cv", ["dataset", "split"], "model").loc[complete.index]
    groups = complete.groupby("dataset")
    return groups.mean(), constant.groupby("dataset").mean(), groups.size()


def defaults() -> str:
    """In a sentence, how the regressor with its defaults compares with what is published on the same splits."""
    scores, _, splits = _untuned()
    lowest = published_nll().min()[scores.index]
    reached = int((scores["nll", "ProbMix"] <= lowest).sum())
    most = int(splits.max())
    fewer = [f"{name} {count}" for name, count in splits[splits < most].items()]
    words = (
        f"**Good with nothing tuned.** With a Gaussian likelihood `ProbMixRegressor` has a test NLL at or below the lowest of "
        f"{len(published_nll())} published results on {reached} of {len(scores)} UCI sets. Each is a mean over published "
        f"splits of training and test rows, {most} of them, or fewer for sets that have not all been run yet "
        f"({', '.join(fewer)})."
    )
    return textwrap.fill(words, 128) + f"\n[The numbers, and what was compared]({ESTIMATORS})."


def _regressors() -> Iterator[tuple[str, ...]]:
    scores, constant, _ = _untuned()
    by = f"[`benchmarks/estimators.py`]({ESTIMATORS})"
    of = f"{len(scores)} UCI sets"
    for model, name in (("MLP", "`MLPRegressor`"), ("HGB", "`HistGradientBoostingRegressor`")):
        ratio = (scores["rmse", "ProbMix"] / scores["rmse", model]).mean()
        yield (f"RMSE, untuned, mean of {of}", f"scikit-learn's {name}", f"{ratio:.2f} of it", by)
    own = scores["nll", "ProbMix"]
    reached = int((own <= published_nll().min()[scores.index]).sum())
    yield ("NLL, untuned", f"the lowest of {len(published_nll())} published", f"no worse on {reached} of {of}", by)
    below = int((own < scores["nll", "NGBoost"]).sum())
    yield ("NLL, untuned", "NGBoost", f"lower on {below} of {of}", by)
    below = int((own.to_numpy()[:, None] < constant).all(axis="columns").sum())
    other = "both of scikit-learn's with a Gaussian of constant variance, by cross-validation"
    yield ("NLL, untuned", other, f"lower on {below} of {of}", by)


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
