"""Targets of few values: which have them, and that all that is said of such targets is of these values."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import ProbMixRegressor, load
from pyro_probmix.estimators.targets.marks import Marks, first_mark
from pyro_probmix.inference import PredictiveMixture, quantiles
from pyro_probmix.inference.predictive.at_values import cdf_at
from pyro_probmix.inference.predictive.crps import crps_at

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (400, 2))
LATENT = 6 + 1.2 * X[:, 0] + 0.5 * RNG.normal(size=400)
UNBOUNDED = np.array([-np.inf, -np.inf]), np.array([np.inf, np.inf])
SMALL: dict[str, Any] = {"ensemble": 3, "widths": (16, 16), "periodic": 0, "epochs": 25, "random_state": 0}


def by_cells(model, y, h):
    """The mean CRPS of the first rows: the integral of (F - 1[y <= v])^2 over cells in which F is one value, each cut at y."""
    starts, some = np.arange(-100.0, 120.0, h), y[:15, None]
    level = model.cdf(X[:15], starts[None])
    after = np.clip(starts + h - some, 0, h)
    return float(np.mean(((h - after) * level**2 + after * (1 - level) ** 2).sum(1)))


@pytest.fixture(scope="module", params=[1.0, 0.5], ids=["wholes", "halves"])
def fitted(request):
    """A model of grades, and their distance."""
    y = (LATENT / request.param).round() * request.param
    return ProbMixRegressor(**SMALL).fit(X, y), y, request.param


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (LATENT.round(), 4.0),
        (np.arange(20.0), 0.0),
        (np.arange(21.0), None),  # more values than few
        (-3 + 0.25 * np.arange(20) - 0.1, -3.1),  # no multiples of their distance
        (np.arange(19.0), None),  # too few rows to tell
        (LATENT.round(2), None),
        (LATENT, None),
        (np.repeat([1.0, 2.0], 20), None),
        (1e6 * np.tile(np.arange(5.0), 8), 0.0),
    ],
)
def test_which_targets_have_few_values(y, expected):
    assert first_mark(y) == expected


def test_values_are_recorded_as_the_nearest_mark():
    marks = Marks.of((0.5, None), (0.25, 0.0), *UNBOUNDED)
    values = np.array([[0.6, 0.6], [0.63, 1.0], [-9.9, -9.9], [0.625, 0.625], [np.inf, np.nan]])
    np.testing.assert_array_equal(marks.rounded(values)[:, 0], [0.5, 0.75, -10.0, 0.5, np.inf])
    np.testing.assert_array_equal(marks.rounded(values)[:, 1], values[:, 1])
    np.testing.assert_array_equal(
        marks.upper(np.array([[0.5, 0.5], [0.74, 0.74], [0.75, np.inf]])),
        [[0.625, 0.5], [0.625, 0.74], [0.875, np.inf]],
    )
    np.testing.assert_array_equal(Marks.of((), (), *UNBOUNDED).rounded(values), values)


def test_the_probability_of_a_grade_is_that_of_all_that_is_rounded_to_it(fitted):
    model, _, h = fitted
    grades, p = 4 + h * np.arange(9), model.predict_dist(X)
    for grade in grades:
        expected = p.cdf(torch.full((len(X),), grade + h / 2, dtype=torch.float64)).numpy()
        for value in (grade, grade + 0.4 * h, grade + 0.99 * h):  # up to the next one
            np.testing.assert_allclose(model.cdf(X, value), expected, rtol=1e-12)
    every = model.cdf(X, grades[None])
    known = (every > 1e-9) & (every < 1 - 1e-8)
    inverse = model.ppf(X, every)
    np.testing.assert_array_equal(inverse[known], np.broadcast_to(grades, every.shape)[known])


def test_quantiles_and_draws_are_grades_and_ends_of_intervals_are_not(fitted):
    model, _, h = fitted
    found = model.predict_quantiles(X, [0.05, 0.5, 0.95])
    before = quantiles(model.predict_dist(X), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(found, (before / h).round() * h)
    np.testing.assert_array_equal(found, model.ppf(X, [[0.05, 0.5, 0.95]]))
    drawn = model.sample(X, 50, random_state=0)
    np.testing.assert_array_equal(drawn % h, 0.0)
    np.testing.assert_allclose(model.predict_interval(X, 0.9), before[:, [0, 2]])


def test_figures_show_the_intervals_that_are_predicted(fitted):
    model, y, _ = fitted
    inside = np.mean((y >= model.predict_interval(X)[:, 0]) & (y <= model.predict_interval(X)[:, 1]))
    assert f"{100 * inside:.0f} %" in model.plot(X, y)[0].axes[0].get_title()


@pytest.mark.parametrize("moved", [0.0, 0.3, -9.0, 14.0])
def test_the_crps_is_that_of_the_recorded_target(fitted, moved):
    """Also of values between the grades and far off."""
    model, y, h = fitted
    assert model.crps(X[:15], y[:15] + moved) == pytest.approx(by_cells(model, y + moved, h), rel=1e-6)


def of_student(df, locs, scale):
    """A mixture of Student's t, one row of one target."""
    loc = torch.tensor(locs, dtype=torch.float64).reshape(-1, 1, 1)
    return PredictiveMixture(dist.StudentT(torch.full_like(loc, df), loc, torch.full_like(loc, scale)).to_event(1), 1)


def summed(mixture, y, h):
    """The CRPS of one recorded target, over all that is within a million steps."""
    k = h * np.arange(-(10**6), 10**6)
    levels = cdf_at(mixture, (k + h / 2)[:, None, None])[:, 0, 0]
    after = np.clip(k + h - y, 0, h)
    return float(((h - after) * levels**2 + after * (1 - levels) ** 2).sum())


@pytest.mark.parametrize(
    ("df", "locs", "scale", "y"),
    [
        (2.05, [0.3, 1.0], 1.0, 3.0),
        (2.05, [0.3, 1.0], 30.0, 3.0),  # too wide to be summed over
        (4.0, [0.3, 0.9], 0.5, 3000.0),
        (4.0, [0.3, 9000.0], 20.0, 5.5),
    ],
)
def test_the_crps_of_heavy_tails_and_of_values_far_off(df, locs, scale, y):
    mixture, y = of_student(df, locs, scale), np.array([[y]])
    marks = Marks.of((0.0,), (1.0,), *(end[:1] for end in UNBOUNDED))
    found = marks.crps(mixture, y, np.array([[0.0], [1.0]]), lambda: crps_at(mixture, y))
    assert found.item() == pytest.approx(summed(mixture, y.item(), 1.0), rel=3e-6)
    again = marks.crps(mixture, y + 1e12, np.array([[0.0], [1.0]]), lambda: crps_at(mixture, y + 1e12))
    assert again.item() == pytest.approx(1e12, rel=1e-6)


@pytest.mark.parametrize(("first", "h", "low"), [(2.5, 1.0, 0.5), (0.3, 0.1, 0.0), (0.7, 0.1, 0.0)])
def test_the_lowest_value_is_the_first_mark_from_a_bound_on(first, h, low):
    """Also where it is no mark, and where the mark on it is one but for rounding."""
    marks = Marks.of((first,), (h,), np.array([0.0]), np.array([1.0 if h < 1 else np.inf]))
    assert marks.low.item() == low and marks.high.item() == (1.0 if h < 1 else np.inf)
    np.testing.assert_array_equal(marks.rounded(np.array([[-np.inf], [-9.0], [0.0], [low]])), low)
    assert not np.signbit(marks.rounded(np.array([[-0.2 * h]]))).any()
    np.testing.assert_allclose(marks.upper(np.array([[low], [low - h / 4]])), [[low + h / 2], [-np.inf]])


def test_quantiles_and_levels_agree_from_a_bound_on():
    y = np.clip((LATENT - 4).round(), 0, 6) + 0.5
    model = ProbMixRegressor(**{**SMALL, "epochs": 3}).fit(X, y)
    assert model.likelihood_ == "student-t" and model.state_.recipe.lower == (0.0,)
    levels = np.array([[0.0, 1e-12, 1e-3, 0.5, 1 - 1e-12]])
    found = model.ppf(X, levels)
    np.testing.assert_array_equal(found % 1, 0.5)
    assert found.min() == 0.5 and (model.cdf(X, found) > levels - 1e-6).all()
    np.testing.assert_array_equal(model.cdf(X, 0.49), 0.0)
    assert model.crps(X[:15], y[:15]) == pytest.approx(by_cells(model, y, 0.5), rel=1e-6)
    lowest = -np.log(model.cdf(X[:15], 0.5)).mean()  # the marks are 1 apart; half of one lies below the bound
    assert model.interval_nll(X[:15], np.full(15, 0.5)) == pytest.approx(lowest)


def test_a_log_normal_target_is_never_zero():
    """Else draws would be of zeros that the model's own scores refuse."""
    y = np.clip(np.exp(0.8 * X[:, 0] + RNG.normal(size=400)).round(), 1, 12) / 2
    model = ProbMixRegressor(**{**SMALL, "epochs": 5}).fit(X, y)
    assert model.likelihood_ == "log-normal" and model.state_.recipe.marks == (0.5,)
    np.testing.assert_array_equal(model.cdf(X, 0.4), 0.0)
    drawn = model.sample(X, 50, random_state=0)
    assert drawn.min() == 0.5 and np.isfinite(model.nll(X, drawn[0]))
    np.testing.assert_array_equal(model.ppf(X, 0.0), 0.5)
    assert model.crps(X[:15], y[:15]) == pytest.approx(by_cells(model, y, 0.5), rel=1e-6)
    lowest = -np.log(model.cdf(X[:15], 0.5) / 0.5).mean()
    assert model.interval_nll(X[:15], np.full(15, 0.5)) == pytest.approx(lowest)


def test_values_in_single_precision_are_the_marks():
    y = (0.1 * LATENT + 50).round(1)
    model = ProbMixRegressor(**{**SMALL, "epochs": 3, "warm_start": True}).fit(X, y)
    np.testing.assert_array_equal(model.cdf(X, y.astype(np.float32)), model.cdf(X, y))
    model.partial_fit(X[:50], y[:50].astype(np.float32))
    np.testing.assert_array_equal(model.ppf(X, 0.5), model.ppf(X, 0.5).round(1))


def test_probabilities_of_grades_are_those_of_new_rows(fitted):
    """Within three standard errors and 0.02; the density's distribution function at a grade is off by half the grade's mass."""
    model, _, h = fitted
    rng = np.random.default_rng(1)
    new = rng.uniform(-1, 1, (3000, 2))
    y = ((6 + 1.2 * new[:, 0] + 0.5 * rng.normal(size=3000)) / h).round() * h
    said, seen = model.cdf(new, 6.0).mean(), np.mean(y <= 6.0)
    assert abs(said - seen) < 3 * np.sqrt(seen * (1 - seen) / 3000) + 0.02
    assert seen - float(model.predict_dist(new).cdf(torch.full((3000,), 6.0, dtype=torch.float64)).mean()) > 0.08


def test_bounds_hold_and_have_the_mass_beyond_them():
    """No target below 0: the lowest grade is 0, whatever the density has there."""
    y = np.maximum((LATENT - 6).round(), 0.0) + 0.0
    model = ProbMixRegressor(**SMALL).fit(X, np.where(y > 3, 3, y))
    assert model.likelihood_ == "student-t"
    assert model.predict_quantiles(X, [0.001]).min() == 0.0
    assert model.crps(X[:15], y[:15]) == pytest.approx(by_cells(model, y, 1.0), rel=1e-6)
    np.testing.assert_array_equal(model.cdf(X, -1.0), 0.0)


def test_of_several_targets_each_is_as_it_is_recorded():
    """Grades beside a real target, which is left as it is."""
    both = np.column_stack([LATENT.round(), LATENT])
    model = ProbMixRegressor(**SMALL).fit(X, both)
    found, p = model.predict_quantiles(X, [0.3, 0.7]), model.predict_dist(X)
    before = quantiles(p, [0.3, 0.7])
    np.testing.assert_allclose(found[:, 0], before[:, 0].round())
    np.testing.assert_allclose(found[:, 1], before[:, 1])
    at = np.full((len(X), 2), 6.0)
    moved = torch.tensor(at + np.array([0.5, 0.0]))
    np.testing.assert_allclose(model.cdf(X, at), p.cdf(moved).numpy(), rtol=1e-12)
    assert np.isfinite(model.crps(X, both)).all()


def test_what_was_asked_for_by_name_and_what_is_known_up_to_intervals_is_not_rounded():
    y = LATENT.round()
    named = ProbMixRegressor(**SMALL, likelihood="student-t").fit(X, y)
    ends = ProbMixRegressor(**{**SMALL, "epochs": 3}).fit(X, y, y_upper=np.where(y > 7, np.inf, y))
    for model in (named, ends):
        found = model.predict_quantiles(X, [0.3])
        assert np.abs(found - found.round()).max() > 0.1


def test_a_fit_that_goes_on_rounds_no_more_once_other_values_come():
    model = ProbMixRegressor(**{**SMALL, "epochs": 2, "warm_start": True}).fit(X, LATENT.round())
    for again in (model.fit, model.partial_fit):
        again(X, LATENT.round())
        np.testing.assert_array_equal(model.ppf(X, 0.3) % 1, 0.0)
    model.partial_fit(X[:30], LATENT[:30].round(1))
    assert (model.ppf(X, 0.3) % 1).max() > 0.1


def test_a_fit_that_goes_on_keeps_to_no_bound_that_later_rows_are_beyond():
    model = ProbMixRegressor(**{**SMALL, "epochs": 2, "warm_start": True}).fit(X, LATENT.round())
    for further, lowest in ((LATENT, 0.0), (LATENT - 20, -np.inf)):
        model.partial_fit(X[:30], further[:30].round())
        np.testing.assert_array_equal(model.ppf(X, 0.0), lowest)
        np.testing.assert_array_equal(model.ppf(X, 0.3) % 1, 0.0)


def test_a_saved_model_rounds_alike(fitted, tmp_path):
    model, _, _ = fitted
    model.save(tmp_path / "model")
    expected = model.predict_quantiles(X, [0.05, 0.5, 0.95])
    np.testing.assert_array_equal(load(tmp_path / "model").predict_quantiles(X, [0.05, 0.5, 0.95]), expected)
