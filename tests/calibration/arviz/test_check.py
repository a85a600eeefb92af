"""All checks at once, with ArviZ 0.x and 1.x: numbers, figures, files; and nothing else disturbed."""

from importlib import import_module
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from pyro_probmix.calibration import Predictions, bayesian_p_values, check, summarise
from tests.calibration.arviz import cases

ARVIZ_1 = int(import_module("arviz").__version__.split(".")[0]) >= 1
OF_NUMBERS = ["predictive", "pit", "coverage", "mean", "std"]


def drawn(report):
    """Every figure is a picture of the size of the others, with something in it."""
    for path in report.figures.values():
        picture = imread(path)[..., :3]
        assert picture.shape == (546, 910, 3) and 0.02 < (picture < 0.9).mean() < 0.6
    return list(report.figures)


@pytest.mark.parametrize("what", [cases.continuous, cases.counts])
def test_numbers(what, tmp_path):
    predictions = what()
    report = check(predictions, tmp_path / "new" / "folder")
    assert drawn(report) == OF_NUMBERS
    assert sorted(p.name for p in report.netcdf.parent.iterdir()) == sorted(
        [*(f"{n}.png" for n in OF_NUMBERS), "predictions.nc"]
    )
    checks = report.checks[predictions.targets[0]]
    assert abs(checks["coverage"].value - 0.9) < 3 * np.sqrt(0.9 * 0.1 / cases.ROWS)
    assert checks["pit p-value"].value > 0.01 and checks["coverage p-value"].value > 0.01
    assert all(0.01 < p < 0.99 for p in report.bayesian_p_values[predictions.targets[0]].values())
    assert "calibration error" in str(report) and "Bayesian p-value, median" in str(report)


@pytest.mark.parametrize(
    ("num_classes", "figures"), [(2, ["predictive", "reliability-1", *["isotonic"] * ARVIZ_1]), (3, None)]
)
def test_classes(num_classes, figures, tmp_path):
    report = check(cases.classes(num_classes), tmp_path)
    assert drawn(report) == (
        figures or ["predictive", "reliability", "reliability-0", "reliability-1", "reliability-2"]
    )
    assert set(report.checks["species"]) == {"nll", "brier", "accuracy", "calibration error"}
    assert set(report.bayesian_p_values["species"]) >= {"share of setosa", "share of versicolor"}


def test_each_of_several_targets_has_its_files(tmp_path):
    predictions = cases.continuous(targets=("wind/speed $_{m", "größe 数"))
    report = check(predictions, tmp_path)
    assert {path.name for path in report.figures.values()} == {
        f"{name}-{suffix}.png" for name in OF_NUMBERS for suffix in ("0-wind_speed_m", "1-gr_e_")
    }
    assert set(report.checks) == {"wind/speed $_{m", "größe 数", "all targets"}


def test_a_target_called_all_targets_keeps_its_checks():
    checks = summarise(cases.continuous(targets=("all targets", "other")))
    assert list(checks) == ["all targets", "other", "all targets, together"]
    assert "crps" in checks["all targets"] and list(checks["all targets, together"]) == ["nll"]
    assert list(summarise(cases.continuous(targets=("all targets",)))) == ["all targets"]


def test_leave_one_out_if_asked_for(tmp_path):
    report = check(cases.continuous(), tmp_path, fitted=cases.continuous(num_members=400))
    assert report.loo.n_samples == 400
    with pytest.raises(ValueError, match=r"LOO got 3 draws of the parameters.*Try"):
        check(cases.continuous(), tmp_path / "other", fitted=cases.continuous())
    assert not (tmp_path / "other").exists()


def test_figures_on_disk_have_the_same_style_whatever_the_session_has(tmp_path):
    plain = check(cases.classes(2), tmp_path / "plain").figures
    with pyplot.style.context("dark_background"):
        dark = check(cases.classes(2), tmp_path / "dark").figures
    assert all(np.array_equal(imread(plain[name]), imread(dark[name])) for name in plain)


def test_left_out_rows_have_figures_of_each_target(tmp_path):
    """400 members that hardly differ: leaving a row out changes little, so that its CRPS is that of the model."""
    like: dict[str, Any] = {"targets": ("speed", "power")}
    held_out, fitted = cases.continuous(**like), cases.continuous(num_members=400, **like)
    report = check(held_out, tmp_path, fitted=fitted)
    ends = ("-0-speed", "-1-power")
    assert {name for name in report.figures if name.startswith("loo")} == {
        name + end for end in ends for name in (("loo-pit", "loo-influence") if ARVIZ_1 else ("loo-pit",))
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.figures.values())
    assert set(report.loo_crps) == (set(fitted.targets) if ARVIZ_1 else set())
    for target, crps in report.loo_crps.items():
        alone = summarise(fitted)[target]["crps"]
        assert abs(crps.value - alone.value) < 4 * alone.standard_error  # by one draw of each member, too
        assert f"crps of left-out rows       {crps}" in str(report)
    with pytest.raises(ValueError, match=r"fitted has the targets 'y' \(continuous\), expected.*'speed', 'power'.*Try"):
        check(held_out, tmp_path / "other", fitted=cases.continuous(targets=("y",), num_members=40))
    assert not (tmp_path / "other").exists()


def test_densities_and_draws_give_the_same_numbers():
    """With 600 draws a row the checks from the draws are within a standard error, or 1 %, of those from the density."""
    exact = cases.continuous(num_rows=400)
    rng = np.random.default_rng(1)
    by_draws = Predictions(y=exact.y, draws=exact.densities[0].quantile(rng.uniform(size=(600, 400)))[None, ..., None])
    first, second = (summarise(p)[p.targets[0]] for p in (exact, by_draws))
    for metric in ("crps", "sharpness", "interval width", "interval score", "coverage", "calibration error"):
        error = max(first[metric].standard_error, 0.01 * first[metric].value)
        assert abs(first[metric].value - second[metric].value) < error, metric


def degenerate():
    """Rows that a plotting function may fail on."""
    rng = np.random.default_rng(0)
    ones, noise = np.ones(30), rng.normal(size=(2, 20, 30))
    yield "one value", Predictions(y=ones, draws=1 + noise)
    yield "one value, no noise", Predictions(y=ones, draws=np.ones((2, 20, 30)))
    yield "two rows", Predictions(y=[0.0, 1.0], draws=noise[..., :2])
    yield "whole numbers", Predictions(y=rng.integers(0, 2, 30), draws=noise)
    yield "one draw", Predictions(y=noise[0, 0], draws=noise[:, :1])
    yield "ruled out", Predictions(y=ones * 1e6, draws=noise)
    yield "huge", Predictions(y=noise[0, 0] * 1e12, draws=noise * 1e12)
    yield "largest", Predictions(y=noise[0, 0] * 1e149, draws=noise * 1e149)
    yield "tiny", Predictions(y=noise[0, 0] * 1e-12, draws=noise * 1e-12)
    yield "rows named by tuples", Predictions(y=ones, draws=1 + noise, rows=[(1, 2)] * 30)
    yield "rows of mixed names", Predictions(y=ones, draws=1 + noise, rows=[(1, 2), "a", None] * 10)
    yield "only zeros", Predictions(y=np.zeros(30), draws=np.zeros((2, 20, 30)), kind="count")
    sure = np.tile([0.9, 0.1], (30, 1))
    yield "one class", Predictions(y=np.zeros(30), draws=np.zeros((2, 20, 30)), kind="class", probabilities=sure)


@pytest.mark.parametrize(("name", "predictions"), list(degenerate()), ids=[name for name, _ in degenerate()])
def test_degenerate_rows(name, predictions, tmp_path):
    report = check(predictions, tmp_path)
    assert all(path.stat().st_size for path in report.figures.values())


def test_nothing_else_is_disturbed(tmp_path):
    """No window, no setting, no draw of the user's own is touched."""
    mine = pyplot.figure()
    np.random.seed(7)
    numbers, settings, expected = pyplot.get_fignums(), matplotlib.rcParams.copy(), np.random.RandomState(7).uniform()
    check(cases.continuous(), tmp_path)
    assert pyplot.get_fignums() == numbers and matplotlib.rcParams.copy() == settings
    assert np.random.uniform() == expected
    pyplot.close(mine)


def test_bayesian_p_values_are_uniform_where_the_model_is_true():
    """400 data sets: the p-value of the mean below 0.1, 0.5, 0.9 within 3 standard errors; ties count half."""
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        predictions = Predictions(y=rng.poisson(1.0, size=10), draws=rng.poisson(1.0, size=(1, 99, 10)), kind="count")
        p_values.append(bayesian_p_values(predictions)["mean"])
    for level in (0.1, 0.5, 0.9):
        assert abs(np.mean(np.array(p_values) < level) - level) < 3 * np.sqrt(level * (1 - level) / 400) + 0.02


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"one row, expected at least two.*Try"):
        check(Predictions(y=[0.0], draws=np.zeros((1, 5, 1))), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"could not be written.*Try another"):
        check(cases.counts(), tmp_path / "file" / "folder")
    with pytest.raises(ValueError, match=r"draws has values up to 1e\+200, expected at most 1e\+150.*Try other units"):
        Predictions(y=[0.0], draws=[[[1e200]]])
    with pytest.raises(ValueError, match=r"level is 90.*Try"):
        check(cases.counts(), tmp_path, level=90)
