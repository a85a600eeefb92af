"""The regimes: their runs, and verdicts on differences that are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from pyro_probmix.cli import main
from pyro_probmix.experiments.audit.regimes import CHOSEN, REGIMES, TRIES, compared, gather_regimes, plans
from pyro_probmix.experiments.config.checks import check_config


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
