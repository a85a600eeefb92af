"""The regimes: their runs, and verdicts on differences that are known."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from pyro_probmix.cli import main
from pyro_probmix.experiments.audit.regimes import CHOSEN, REGIMES, TRIES, compared, gather_regimes, plans, together
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.data.regimes import fewer_rows
from pyro_probmix.experiments.data.tables import Split


def numbers(gains: dict[str, float], noise: float = 0.1, splits: int = 20) -> pd.DataFrame:
    """NLLs of each regime's method that is better than ERM by its gain."""
    rng, rows = np.random.default_rng(0), []
    for regime, gain in gains.items():
        for split in range(splits):
            base = rng.normal()
            rows.append(("yacht", regime, "validation", "ERM", split, base))
            rows.append(("yacht", regime, "validation", "Mix", split, base - gain + noise * rng.normal()))
    return pd.DataFrame(rows, columns=["dataset", "regime", "epoch", "method", "split", "value"])


def test_every_regime_is_a_run():
    found = plans(("yacht",), ("ERM",), (0,))
    assert len({one.folder for one in found}) == len(found) == len(REGIMES) + len(TRIES) - 1
    for one in found:
        check_config(one.config)


def test_differences_and_their_errors():
    table = compared(numbers({"a": 1.0, "b": 0.0, "c": -1.0})).set_index("regime")
    assert table["verdict"].to_dict() == {"a": "better", "b": "open", "c": "worse"}
    frame = numbers({"a": 1.0}).pivot(index="split", columns="method", values="value")
    gap = frame["ERM"] - frame["Mix"]
    error = gap.std() * (1 / 20 + 1 / 9) ** 0.5
    assert table["gain"]["a"] == pytest.approx(gap.mean()) and table["error"]["a"] == pytest.approx(error)
    assert table["p"]["a"] == pytest.approx(2 * t.sf(gap.mean() / error, 19))


def test_among_many_equal_methods_hardly_one_is_called_better():
    found = [compared(numbers(dict.fromkeys(map(str, range(40)), 0.0), noise=0.1 + k))["verdict"] for k in range(10)]
    assert sum((one != "open").any() for one in found) <= 2


def test_the_command_runs_and_gathers(tmp_path, monkeypatch):
    from pyro_probmix.experiments.audit import regimes

    few: dict[str, dict[str, Any]] = {"25 rows": {"labelled_rows": 25, "epochs": 2, "widths": (6, 4)}}
    monkeypatch.setattr(regimes, "REGIMES", few)
    seen = []
    monkeypatch.setattr(regimes, "run_plan", lambda found, out, *_: seen.extend(found))
    with pytest.raises(ValueError, match=r"holds no run.*Try"):
        gather_regimes(tmp_path)
    folder = tmp_path / "yacht" / "25-rows"
    folder.mkdir(parents=True)
    rows = numbers({"x": 0.5}).assign(setting="fixed", metric="nll", experiment="uci", network="mlp")
    rows.drop(columns=["regime", "epoch"]).to_parquet(folder / "results.parquet")
    assert main(["run", "regimes", "--dataset", "yacht", "--splits", "3", "--out", str(tmp_path)]) == 0
    assert [one.folder for one in seen[:2]] == ["yacht/25-rows", "yacht/100-rows"] and len(seen) == 1 + len(TRIES)
    assert all(one.config.splits == (0, 1, 2) for one in seen)
    gathered = pd.read_parquet(tmp_path / "regimes.parquet")
    assert len(gathered) == 40 and set(gathered["regime"]) == {"25 rows"}
    assert main(["run", "regimes", "--dataset", "moon"]) != 0


def test_the_try_with_the_lowest_validation_nll_is_chosen_on_each_split(tmp_path):
    """The choice looks at no test row; a try that diverged, and a method with a try still to run, are not chosen."""
    rng = np.random.default_rng(0)
    test, validation = {}, {}
    for k, name in enumerate(TRIES):
        rows = []
        for method in ("ERM", "Mix"):
            for split in range(6):
                test[method, split, k], validation[method, split, k] = rng.normal(size=2)
                for metric, values in (("nll", test), ("validation nll", validation)):
                    for setting in ("fixed", "fixed, last epoch"):
                        rows.append(
                            (method, setting, split, metric, values[method, split, k] - 9.0 * ("last" in setting))
                        )
        frame = pd.DataFrame(rows, columns=["method", "setting", "split", "metric", "value"]).assign(dataset="yacht")
        if k == 2:
            frame.loc[(frame["metric"] == "validation nll") & (frame["split"] == 0), "value"] = np.nan
            validation["ERM", 0, k] = validation["Mix", 0, k] = np.inf
        if k == 3:
            frame = frame[frame["method"] != "Mix"]
        folder = tmp_path / "yacht" / name.replace(" ", "-")
        folder.mkdir(parents=True)
        frame.to_parquet(folder / "results.parquet")
    gathered = gather_regimes(tmp_path)
    chosen = gathered[gathered["regime"] == CHOSEN].set_index(["method", "split"])["value"]
    assert set(gathered[gathered["regime"] == "100 rows"]["method"]) == {"ERM", "Mix"}
    expected = {}
    for split in range(6):
        best = min(range(len(TRIES)), key=lambda k: validation["ERM", split, k])
        expected["ERM", split] = test["ERM", split, best]
    assert chosen.to_dict() == expected


def test_one_split_far_off_does_not_decide():
    frame = numbers({"a": 0.5})
    far = frame["method"].eq("Mix") & frame["split"].eq(0)
    frame.loc[far, "value"] += 1e6
    row = compared(frame).iloc[0]
    gaps = np.concatenate([[-3.0], np.full(19, 0.5)])
    assert row["gain"] == pytest.approx(gaps.mean(), abs=0.1)
    frame.loc[far, "value"] = np.nan  # diverged
    assert compared(frame).iloc[0]["gain"] == pytest.approx(row["gain"])


def error_of(regime: str, dataset: str = "yacht") -> float:
    """The standard error of a regime's gain, in standard deviations of the difference on 10 splits."""
    frame = numbers({regime: 0.1}, splits=10).assign(dataset=dataset)
    gap = frame.pivot(index="split", columns="method", values="value")
    return float(compared(frame)["error"].iloc[0] / (gap["ERM"] - gap["Mix"]).std())


@pytest.mark.parametrize(
    ("regime", "dataset", "share"),
    [
        ("all rows", "yacht", 1 / 10),
        ("25 rows", "yacht", 1 / 10),
        ("100 rows", "concrete", 1 / 10),
        ("100 rows", "yacht", 100 / 308),
        ("label noise 1", "yacht", 100 / 308),
        (CHOSEN, "yacht", 100 / 308),
        ("200 rows", "bostonHousing", 200 / 506),
        ("shift", "concrete", 1 / 2),
    ],
)
def test_the_error_allows_for_the_rows_that_splits_share(regime, dataset, share):
    """The tenth that tests in two published splits, or the labelled rows that two draws have in common."""
    assert error_of(regime, dataset) == pytest.approx((1 / 10 + share / (1 - share)) ** 0.5)


def test_labelled_rows_are_shared_as_the_error_has_it():
    """Of rows that are drawn for each split anew, two splits share the very share that is drawn."""
    rng = np.random.default_rng(0)
    rows = 308
    tests = [rng.permutation(rows)[:31] for _ in range(40)]
    drawn = []
    for seed, test in enumerate(tests):
        rest = np.setdiff1d(np.arange(rows), test)
        few = fewer_rows(Split(rest[:221], rest[221:], test), 100, seed)
        drawn.append({*few.train, *few.validation})
    shares = [len(one & two) / 100 for one, two in combinations(drawn, 2)]
    assert np.mean(shares) == pytest.approx(100 / rows, abs=0.01)


@pytest.mark.parametrize("splits", [3, 10, 20])
def test_differences_that_count_as_the_largest_tell_no_more_than_their_signs(splits):
    frame = numbers({"a": 0.0}, splits=splits)
    far = frame["method"].eq("Mix")
    frame.loc[far, "value"] += 1e3
    row = compared(frame).iloc[0]
    assert row["gain"] == -3 and row["p"] == pytest.approx(2.0 ** (1 - splits)) and row["error"] > 0.3
    assert row["verdict"] == ("open" if splits == 3 else "worse")
    frame.loc[far & frame["split"].eq(0), "value"] -= 1e3 - 2.9  # nearly as far
    assert compared(frame).iloc[0]["p"] == pytest.approx(2.0 ** (1 - splits))


def test_equal_differences_have_an_error():
    frame = numbers({"a": 0.3, "b": 0.0}, noise=0.0, splits=4)
    table = compared(frame).set_index("regime")
    assert table["p"].to_dict() == {"a": pytest.approx(1 / 8), "b": 1.0} and set(table["verdict"]) == {"open"}


def test_a_split_that_has_not_run_is_none_that_diverged():
    frame = numbers({"a": 0.5})
    fewer = frame[frame["method"].eq("ERM") | frame["split"].lt(8)]
    row = compared(fewer).iloc[0]
    assert row["splits"] == 8 and row["gain"] == pytest.approx(0.5, abs=0.1)
    both = frame.assign(value=frame["value"].where(frame["split"] > 0, np.nan))
    row = compared(both).iloc[0]
    assert row["splits"] == 20 and row["gain"] == pytest.approx(0.5 * 19 / 20, abs=0.1)


def test_data_sets_together_tell_more_than_each():
    """Four sets, on each of which the gain is open, and one set alone, of which nothing is told."""
    each = numbers({"a": 0.16, "b": 0.0}, noise=0.25)
    sets = [each.assign(dataset=name, split=each["split"], value=each["value"] + k) for k, name in enumerate("wxyz")]
    alone = numbers({"c": 1.0})
    table = compared(pd.concat([*sets, alone]))
    assert set(table[table["regime"] == "a"]["verdict"]) == {"open"}
    found = together(table).set_index("regime")
    assert found["verdict"].to_dict() == {"a": "better", "b": "open"}
    of_a = table[table["regime"] == "a"]
    assert (
        found["gain"]["a"] == pytest.approx(of_a["gain"].mean()) and found["above"]["a"] == found["datasets"]["a"] == 4
    )
    assert found["error"]["a"] == pytest.approx(of_a["error"].iloc[0] / 2)  # of four equal ones
    assert found["p"]["a"] == pytest.approx(2 * t.sf(found["gain"]["a"] / found["error"]["a"], 19))
