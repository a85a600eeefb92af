"""How the pages on which method when and on digits judge differences, and that what they say is what the results say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.experiments.report.claims.evidence import SHARED
from pyro_probmix.experiments.report.claims.paired import of_mean
from pyro_probmix.experiments.report.claims.verdicts import holm
from pyro_probmix.models import METHODS
from tests.test_docs import ROOT, load

RESULTS = ROOT / "results"
NEEDED = [name for name in METHODS if "*" not in name]


def runs_of(experiment: str, scores: dict[str, np.ndarray], setting: str = "fixed") -> pd.DataFrame:
    """The NLLs of some methods as a run's results."""
    wide = pd.DataFrame(scores).rename_axis("split")
    rows = wide.melt(var_name="method", ignore_index=False).reset_index()
    return rows.assign(experiment=experiment, dataset=experiment, network="mlp", setting=setting, metric="nll")


def counts(text: str, method: str) -> list[str]:
    """How often a method is better, undecided and worse in NLL, from the table of all methods."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {method} |")]
    return line.split(" | ")[2:5]


def test_a_toy_is_judged_by_medians_whatever_a_few_runs_have():
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(10, 1, 100) for name in NEEDED}
    scores["ProbMix"] = scores["ERM"] + rng.normal(3, 0.1, 100)
    scores["ERM"] = np.where(np.arange(100) < 5, 1e4, scores["ERM"])  # its mean is far above ProbMix's
    by_method, words, by_task = load("by_task").tables(runs_of("toy-regression", scores))
    assert counts(by_method, "ProbMix") == ["0", "0", "1"]
    assert "1 is worse (ProbMix 1)" in words
    (line,) = [line for line in by_task.splitlines() if line.startswith("| toy-regression |")]
    assert float(line.split(" | ")[1].split()[0]) == pytest.approx(np.median(scores["ERM"]), abs=0.01)


def test_splits_of_one_table_are_fewer_than_seeds():
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(0, 1e-3, 20) for name in NEEDED}
    scores["Mix"] = scores["ERM"] + np.tile([0.5, 1.5, -0.5, 0.9], 5)
    tables = load("by_task").tables
    assert counts(tables(runs_of("stocks", scores))[0], "Mix") == ["0", "0", "1"]
    assert counts(tables(runs_of("uci", scores))[0], "Mix") == ["0", "1", "0"]


def test_a_task_that_some_methods_have_not_run_is_in_no_table():
    scores = {name: np.random.default_rng(k).normal(size=5) for k, name in enumerate(NEEDED)}
    few = runs_of("stocks", {name: scores[name] + 100 for name in ("ERM", "ProbMix")}, setting="relative")
    whole = runs_of("stocks", scores)
    tables = load("by_task").tables
    assert tables(pd.concat([whole, few])) == tables(whole)
    every = tables(pd.concat([whole, whole.assign(setting="relative")]))
    assert "| stocks (relative) |" in every[2] and "2 tasks" in every[0]


def test_a_table_of_digits_marks_what_is_clear_and_names_the_command_with_its_seeds():
    script = load("digits")
    rng = np.random.default_rng(0)
    rows = [
        {
            "method": name,
            "seed": seed,
            "images": kind,
            **dict.fromkeys(script.METRICS, rng.normal(5 - (name == "Mix"), 0.1)),
        }
        for name in script.METHODS
        for kind in ("clean", "noise")
        for seed in range(4)
    ]
    text = script.table_of_classes(pd.DataFrame(rows))
    marked = [line for line in text.splitlines() if line.startswith("| ") and ("●" in line or "○" in line)]
    assert [line.split()[1] for line in marked] == ["Mix"] * 3
    assert [(line.count("●"), line.count("○")) for line in marked] == [(0, 2), (2, 0), (2, 0)]
    assert "3 degrees of freedom" in text and "train 4`" in text
    numbers = [
        {"method": name, "seed": seed, "bound": rng.normal(), "distance of midpoints": rng.normal()}
        for name in ("plain", "fused")
        for seed in range(3)
    ]
    text = script.table_of_autoencoders(pd.DataFrame(numbers))
    assert "Means over 3 seeds" in text and "train 3`" in text


def test_the_digits_are_as_the_pages_say():
    numbers = pd.read_parquet(RESULTS / "digits" / "classes.parquet")
    accuracy, nll, error = (
        numbers.pivot_table(name, "images", "method") for name in ("accuracy", "NLL", "calibration error")
    )
    any_two, spoilt = ["Mix", "M-Mix", "ProbMix", "M-ProbMix"], ["noise", "moved", "covered"]
    smoothed = "ERM, smoothed labels"
    assert accuracy[any_two].gt(accuracy["ERM"], axis=0).all(axis=None)
    assert nll[any_two].lt(nll["ERM"], axis=0).all(axis=None)
    assert error.loc[spoilt, any_two].lt(error.loc[spoilt, "ERM"], axis=0).all(axis=None)
    clean = error.loc["clean"]
    assert [name for name in any_two if clean[name] < clean["ERM"]] == ["M-ProbMix"]
    assert clean.idxmax() == smoothed
    ahead = accuracy[smoothed] >= accuracy[any_two].max(axis=1)
    assert ahead.to_dict() == {"clean": True, "noise": True, "moved": True, "covered": False}
    behind = nll[any_two].lt(nll[smoothed], axis=0)
    assert behind.loc["clean"].all() and not behind.loc["moved"].any() and behind.loc["covered"].sum() == 2
    assert [name for name in any_two if not behind.loc["noise", name]] == ["M-ProbMix"]


def test_the_autoencoders_are_as_their_page_says():
    numbers = pd.read_parquet(RESULTS / "digits" / "autoencoder.parquet")
    found = {}
    for metric in ("bound", "distance of midpoints"):
        wide = numbers.pivot_table(metric, "seed", "method")
        found[metric] = of_mean(wide["fused"] - wide["plain"])
    assert found["bound"][2] > 0.05
    assert found["distance of midpoints"][0] > 0 and found["distance of midpoints"][2] < 0.05 / 2


def test_the_advice_of_which_method_is_what_its_tables_say():
    text = (ROOT / "docs" / "which_method.md").read_text("utf-8")
    table = text.split("| method | mean rank, NLL")[1].split("\n\n")[0]
    ranks = {line.split(" | ")[0][2:]: line.split(" | ")[1] for line in table.splitlines()[2:]}
    known = {name: float(rank) for name, rank in ranks.items() if rank.strip()}
    assert set(sorted(known, key=lambda name: known[name])[:2]) == {"M-ProbMix", "ERM"}
    better, undecided, worse = map(int, counts(table, "M-ProbMix"))
    assert undecided > better + worse


def test_the_first_lines_of_which_method_are_what_its_regimes_say():
    script = load("which_method")
    numbers = pd.read_parquet(RESULTS / "regimes" / "regimes.parquet")
    table = script.compared(pd.concat([numbers, *(script._with_all_rows(RESULTS, *one) for one in script.ALL_ROWS)]))
    first = " ".join((ROOT / "docs" / "which_method.md").read_text("utf-8").split("<!--")[0].split())
    assert "no method is clearly better than maximum likelihood in any of thirteen regimes" in first
    assert table["regime"].nunique() == 13 and not (table["verdict"] == "better").any()
    assert "some are clearly worse" in first and (table["verdict"] == "worse").any()


def test_the_methods_of_others_are_behind_where_choices_says():
    beyond, own = (pd.read_parquet(RESULTS / name / "results.parquet") for name in ("uci-beyond", "uci"))
    keys = ["dataset", "split"]
    others = beyond[beyond["metric"] == "nll"].pivot_table("value", keys, "method")
    erm = own[(own["metric"] == "nll") & (own["method"] == "ERM")].set_index(keys)["value"]
    gains = {
        (data, name): of_mean(part, SHARED)
        for name in others
        for data, part in (erm - others[name]).dropna().groupby("dataset")
    }
    assert len(gains) == 24
    clear = holm([p for *_, p in gains.values()])
    found = {at: gain < 0 for (at, (gain, *_)), is_clear in zip(gains.items(), clear, strict=True) if is_clear}
    assert found == {("yacht", name): True for name in others if name != "SK-M-ProbMix"}


def test_five_networks_are_ahead_of_one_on_each_set_that_has_run():
    results = {name: pd.read_parquet(RESULTS / name / "results.parquet") for name in ("uci", "uci-ensembles")}
    one, five = (
        rows[rows["metric"] == "nll"]
        .pivot_table("value", "dataset", "method")
        .rename(columns=lambda m: m.removeprefix("5x"))
        for rows in results.values()
    )
    gains = (one[five.columns] - five).stack().dropna()
    assert len(five.columns) == 4 and len(gains) >= 27 and gains.min() > 0
