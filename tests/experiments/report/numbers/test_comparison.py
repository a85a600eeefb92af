"""Counts and comparisons of the report, against numbers worked out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_probmix.experiments.report.numbers import coverage as c
from pyro_probmix.experiments.report.numbers import paper
from pyro_probmix.experiments.report.numbers import tidy as n
from pyro_probmix.experiments.report.numbers.comparison import comparison, counts, published_comparison, rank_agreement
from pyro_probmix.experiments.report.numbers.reading import KEYS
from pyro_probmix.experiments.run import results as store
from pyro_probmix.models import METHODS
from tests.experiments.report import cases as cases


def test_the_papers_tables_are_whole():
    cells = paper.paper_tables()
    assert len(cells) == 320 and not cells.isna().any().any()
    assert cells.groupby("table").size().to_dict() == {1: 88, 2: 72, 3: 88, 4: 72}
    assert not cells.duplicated(["table", "network", "dataset", "method"]).any()
    assert tuple(name for name in METHODS if name in set(cells["method"])) == paper.METHODS


def test_the_lowest_published_numbers():
    table = paper.published_nll()
    own = {"bostonHousing": 2.52, "concrete": 3.07, "energy": 0.74, "kin8nm": -1.20, "naval-propulsion-plant": -6.47}
    own |= {"power-plant": 2.79, "wine-quality-red": 1.12, "yacht": 0.26}
    assert table.loc["the paper's best cell"].to_dict() == own
    lowest = {"bostonHousing": 2.35, "concrete": 2.83, "energy": 0.53, "kin8nm": -1.24, "naval-propulsion-plant": -6.47}
    lowest |= {"power-plant": 2.60, "wine-quality-red": 0.89, "yacht": 0.16}
    assert table.min().to_dict() == lowest


def test_only_the_rmse_of_kin8nm_and_naval_is_scaled():
    """In the paper's NLLs those sets' errors are a hundredth of the tabulated RMSE: else both would be off by log 100."""
    gaps = paper.scale_check()
    scaled = list(paper.RMSE_FACTOR)
    assert gaps.loc[scaled, "unscaled"].abs().max() < 0.2
    assert gaps.loc[scaled, "as tabulated"].max() < -4
    others = gaps.drop(scaled)
    pd.testing.assert_series_equal(others["unscaled"], others["as tabulated"], check_names=False)
    assert others["unscaled"].abs().max() < 1
    results = cases.uci(("yacht", "kin8nm"), ("ERM", "M-ProbMix"))
    after = paper.scaled(results)["value"] / results["value"]
    times_100 = results["dataset"].eq("kin8nm") & results["metric"].isin(["rmse", "rmse (plug-in)"])
    np.testing.assert_allclose(after, np.where(times_100, 100.0, 1.0))


def _exact(dataset="yacht", shift=0.0, methods=paper.METHODS, setting="fixed", metric="nll"):
    """Our numbers are the paper's means plus a shift, two splits around each."""
    means = paper.paper_tables().query("dataset == @dataset and metric == @metric").set_index("method")["mean"]
    parts = [
        cases.rows(("uci", dataset, "mlp", name, setting), {metric: means[name] + shift + np.array([-0.1, 0.1])})
        for name in methods
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("shift", "cells", "rows"), [(0.0, 11, 1), (0.004, 11, 1), (0.02, 0, 0), (-0.2, 11, 1)])
def test_cells_and_rows_no_worse_than_the_papers(shift, cells, rows):
    compared = comparison(_exact(shift=shift), 1)
    assert len(compared) == 11 and compared["no_worse"].sum() == cells
    line = counts(compared, 1).loc["fixed"]
    assert (line["cells"], line["cells_measured"], line["cells_in_paper"]) == (cells, 11, 88)
    assert (line["rows"], line["rows_measured"], line["rows_in_paper"]) == (rows, 1, 8)


def test_a_worse_cell_counts_once_and_the_row_may_still_be_best():
    results = pd.concat([_exact(), _exact("energy", 0.5)], ignore_index=True)
    worse = results["dataset"].eq("yacht") & results["method"].eq("ERM")
    results.loc[worse, "value"] += 1
    line = counts(comparison(results, 1), 1).loc["fixed"]
    assert (line["cells"], line["cells_measured"], line["rows"], line["rows_measured"]) == (10, 22, 1, 2)


def test_a_method_without_a_number_is_measured_and_not_better():
    results = _exact()
    results.loc[results["method"].eq("Mix"), "value"] = np.nan
    results.loc[results["method"].eq("ERM") & results["split"].eq(0), "value"] = np.nan
    compared = comparison(results, 1).set_index("method")
    assert compared["no_worse"]["Mix"] == 0 and compared["finite"]["ERM"] == 1 and compared["of"]["ERM"] == 2
    assert counts(comparison(results, 1), 1).loc["fixed", "cells_measured"] == 11


def test_further_methods_and_grids_stand_apart():
    further = cases.rows(("uci", "yacht", "mlp", "5x ERM", "fixed"), {"nll": [-1.0, -1.0]})
    grid = _exact(shift=-9, setting="alpha=0.1 beta=0.01")
    results = pd.concat([_exact(shift=0.5), further, grid], ignore_index=True)
    compared = comparison(results, 1)
    assert compared["method"].tolist()[-1] == "5x ERM" and np.isnan(compared["no_worse"].iloc[-1])
    line = counts(compared, 1).loc["fixed"]
    assert (line["rows"], line["rows_further"], line["cells_measured"]) == (0, 1, 11)
    assert n.settings_of(results) == ["fixed"]


def test_table_3_is_compared_in_the_papers_units():
    results = _exact("kin8nm", metric="rmse")
    results["value"] = results["value"] / 100
    compared = comparison(results, 3)
    np.testing.assert_allclose(compared["mean"], compared["paper_mean"])
    assert compared["no_worse"].all()


def test_stocks_are_brought_to_the_papers_power_of_ten():
    compared = comparison(cases.stocks(dollars=100.0), 4)
    assert set(compared["power"]) == {-2} and len(compared) == 72
    ratio = compared["mean"] / compared["paper_mean"]
    assert ratio.between(0.8, 1.25).all()
    order = [(network, dataset) for network in ("lstm", "transformer") for dataset in ("GME", "GOOG", "NVDA", "RCL")]
    assert list(compared[["network", "dataset"]].drop_duplicates().itertuples(index=False, name=None)) == order
    standardised = comparison(cases.stocks(dollars=100.0), 2)
    assert (standardised["mean"] / standardised["paper_mean"]).between(0.7, 1.4).all()


def test_rank_agreement():
    agreed = rank_agreement(comparison(_exact(), 1))
    assert agreed["correlation"].tolist() == pytest.approx([1.0]) and agreed["methods"].tolist() == [11]
    opposite = _exact()
    opposite["value"] *= -1
    assert rank_agreement(comparison(opposite, 1))["correlation"].tolist() == pytest.approx([-1.0])
    assert rank_agreement(comparison(_exact(methods=paper.METHODS[:3]), 1)).empty


def test_counterparts():
    assert n.counterpart("LocM-ProbMix*") == "LocM-Mix" and n.counterpart("5x LocM-ProbMix*") == "LocM-ProbMix*"
    assert n.counterpart("RegMixup") is None


def test_ours_beside_the_published_numbers():
    parts = [
        cases.rows(("uci", "yacht", "mlp", name, "fixed"), {"nll": [value] * 2})
        for name, value in (("ERM", 0.1), ("M-ProbMix", 0.3), ("5x M-ProbMix", 0.16))
    ]
    line = published_comparison(pd.concat(parts)).iloc[0]
    assert (line["best"], line["best_method"]) == (pytest.approx(0.1), "ERM")
    assert (line["probabilistic"], line["probabilistic_method"]) == (pytest.approx(0.16), "5x M-ProbMix")
    assert line["lowest"] == 0.16


def test_an_ablations_cells_are_ordered_and_take_in_what_ran_once():
    grid = cases.ablation("regression", runs=3, methods=("Mix", "ProbMix"))
    once = cases.ablation("regression", runs=3, methods=("ERM",), settings=["fixed"])
    frames = n.ablation(pd.concat([grid, once]), "ablation-regression", "mse")
    assert list(frames)[:2] == [(0.01, 0.0), (0.05, 0.0)] and list(frames)[-1] == (1.0, 0.01) and len(frames) == 10
    for frame in frames.values():
        assert list(frame.columns) == ["ERM", "Mix", "ProbMix"] and frame.notna().all().all()
    rmse = grid.query("setting == 'alpha=0.5 beta=0' and metric == 'rmse' and method == 'Mix'")["value"]
    np.testing.assert_allclose(frames[0.5, 0.0]["Mix"], rmse**2)


def test_the_columns_are_those_that_runs_write():
    assert (*KEYS, "split", "metric", "value") == store.COLUMNS


def test_coverage_and_density_of_known_counts():
    inner = np.zeros(100)
    inner[25:75] = 2.0  # all rows in the middle half: intervals are twice too wide
    levels, inside = c.coverage(inner)
    np.testing.assert_allclose(levels, np.arange(0.02, 0.99, 0.02))
    np.testing.assert_allclose(inside, np.minimum(1, 2 * levels))
    assert c.calibration_error(inner) == pytest.approx(np.abs(inside - levels).mean())
    np.testing.assert_allclose(c.density(inner, 4), [0, 2, 2, 0])
    lopsided = np.arange(100.0)
    brute = [lopsided[50 - w : 50 + w].sum() / lopsided.sum() for w in range(1, 50)]
    np.testing.assert_allclose(c.coverage(lopsided)[1], brute)


def test_the_band_holds_calibrated_counts_as_often_as_it_says():
    rng = np.random.default_rng(0)
    low, high = c.band(500, 0.05)
    shares = rng.binomial(500, 0.05, 4000) / 500
    inside = ((shares >= low) & (shares <= high)).mean()
    assert 0.95 <= inside <= 0.98  # discrete: at least the nominal level


def test_pit_counts_add_up_over_splits():
    results = cases.uci(("yacht",), ("ERM", "Mix"), splits=3)
    calibration = cases.pit(results, n=50)
    counted = c.pit_counts(calibration)
    assert len(counted) == 2 and all(own.shape == (100,) and own.sum() == 150 for own in counted.values())
    assert not c.is_classes(calibration)
    bad = calibration.assign(bin=calibration["bin"] + 1)
    with pytest.raises(ValueError, match=r"hold bin 100 with count .*expected bins 0 to 99"):
        c.pit_counts(bad)


def test_reliability_weighs_bins_by_their_rows():
    key: dict[str, Any] = dict(zip([*KEYS, "split"], ("t", "t", "mlp", "ERM", "fixed", 0), strict=True))
    frame = pd.DataFrame(
        {"bin": [90, 91, 40], "count": [30, 10, 5], "correct": [27, 5, 5], "confidence": [0.905, 0.915, 0.4]}
    )
    table = c.reliability(frame.assign(**key))  # the bin with five rows is left out
    assert table["count"].tolist() == [40] and table["accuracy"].tolist() == pytest.approx([0.8])
    assert table["confidence"].tolist() == pytest.approx([(30 * 0.905 + 10 * 0.915) / 40])
    assert c.is_classes(frame.assign(**key))
    with pytest.raises(ValueError, match="at most as many right"):
        c.reliability(frame.assign(**key, correct=99))
    with pytest.raises(ValueError, match=r"mean confidence 27.*a confidence of 0 to 1"):
        c.reliability(frame.assign(**key, confidence=frame["count"] * 0.9))
