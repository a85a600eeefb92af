"""Targets that are known up to intervals: fitted, scored and refused by the estimator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, load
from pyro_probmix.estimators.ensemble.censoring import known_kinds
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.estimators.targets.constant import constant_nll

INF = np.inf
TINY: dict[str, Any] = {"ensemble": 2, "epochs": 2, "widths": (8, 8), "random_state": 0}


def lifetimes(rows: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Features, true lifetimes, and what is known of them: right-, left- and interval-censored ones among exact ones."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(rows, 2))
    life = np.exp(X[:, 0] + 0.3 * rng.normal(size=rows))
    end = rng.uniform(0.8, 4, rows)
    low, high = np.where(life > end, end, life), np.where(life > end, INF, life)
    first = (life < 1) & (life <= end)
    low, high = np.where(first, -INF, low), np.where(first, 1.0, high)
    between = (life > 1.4) & (life < 1.6) & (life <= end)
    return X, life, np.where(between, 1.4, low), np.where(between, 1.6, high)


def test_a_fit_to_what_is_known_is_nearly_as_good_as_one_to_all() -> None:
    X, life, low, high = lifetimes(800)
    options: dict[str, Any] = {
        "likelihood": "log-normal",
        "ensemble": 3,
        "epochs": 40,
        "widths": (32, 32),
        "random_state": 0,
    }
    train, new = slice(400), slice(400, 800)
    model = ProbMixRegressor(**options).fit(X[train], low[train], y_upper=high[train])
    best = ProbMixRegressor(**options).fit(X[train], life[train]).nll(X[new], life[new])
    stands = np.select([np.isinf(low), np.isinf(high)], [high, low], (low + high) / 2)[train]
    naive = ProbMixRegressor(**options).fit(X[train], stands).nll(X[new], life[new])
    found = model.nll(X[new], life[new])
    assert found < best + 0.06 and found < naive - 0.04
    medians = model.predict_quantiles(X[new], [0.5])[:, 0] / np.exp(X[new, 0])
    assert np.mean(medians) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "likelihood", ["auto", "student-t", "spline", "gamma", "hurdle", "negative-binomial", "zero-one-beta"]
)
def test_what_is_known_is_scored_by_its_probability(likelihood: str, tmp_path: Path) -> None:
    X, _, low, high = lifetimes(90)
    if likelihood == "negative-binomial":
        low, high = np.ceil(low), np.maximum(np.floor(4 * high), np.ceil(low))
    if likelihood == "zero-one-beta":
        low, high = low / 20, np.where(np.isinf(high), INF, high / 20)
    weights = np.arange(90) % 3
    model = ProbMixRegressor(likelihood=likelihood, **TINY).fit(X, low, weights, y_upper=high)
    known = low == high
    start = np.where(np.isinf(low), -1e9, low)
    below = np.nextafter(start, -INF) if likelihood != "negative-binomial" else start - 1
    inside = model.cdf(X, np.minimum(high, 1e9)) - model.cdf(X, below)
    density = model.pdf(X, np.where(known, low, np.clip(high, 0.01, 0.9) if likelihood == "zero-one-beta" else 1.0))
    wanted = -np.average(np.log(np.where(known, density, inside)), weights=weights)
    assert model.nll(X, low, weights, y_upper=high) == pytest.approx(wanted, abs=1e-6)
    again = ProbMixRegressor(likelihood=likelihood, **TINY).fit(
        *(v.repeat(weights, 0) for v in (X, low)), y_upper=high.repeat(weights)
    )
    np.testing.assert_allclose(again.predict(X), model.predict(X), rtol=1e-5)
    model.save(tmp_path / "model")
    loaded: Any = load(tmp_path / "model")
    assert loaded.nll(X, low, y_upper=high) == model.nll(X, low, y_upper=high)


def test_two_targets_validation_rows_and_fits_that_go_on() -> None:
    X, _, low, high = lifetimes(60)
    both = np.stack([low, high[::-1]], 1), np.stack([high, np.full(60, INF)], 1)
    both = np.where(np.isinf(both[0]) & np.isinf(both[1]), 1.0, both[0]), both[1]
    model = ProbMixRegressor(likelihood="gaussian", warm_start=True, **TINY)
    rows = (X, both[0], None, both[1])
    found = [model.fit(X, both[0], y_upper=both[1], validation=rows).nll(X, both[0], y_upper=both[1]) for _ in range(2)]
    assert np.isfinite(found).all() and found[0] != found[1]
    with pytest.raises(ValueError, match="known up to intervals"):
        ProbMixRegressor(likelihood="gaussian", **TINY).fit(X, low, y_upper=high).predict_interval(X, conformal=True)


def rows_of(low: Any, high: Any) -> Rows:
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return Rows(np.zeros((len(low), 1)), low[:, None], np.ones(len(low)), np.stack([low, high], 1))


def test_ends_from_below_say_nothing_of_bounds() -> None:
    shares = np.linspace(0.05, 0.95, 60)
    (kind,) = known_kinds(rows_of(shares, np.where(shares > 0.7, INF, shares)))
    assert (kind.name, kind.lower, kind.upper) == ("positive", 0.0, None)
    (kind,) = known_kinds(rows_of(shares, shares))
    assert kind.name == "share"
    amounts = np.geomspace(0.1, 50, 60).round(2)
    (kind,) = known_kinds(rows_of(np.r_[amounts, -3.0], np.r_[amounts, INF]))
    assert kind.name == "positive"


@pytest.mark.parametrize("family", ["real", "positive"])
def test_the_constant_density_of_what_is_known_is_that_of_most_likelihood(family: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(1, 0.5, 4000)
    y = np.exp(y) if family == "positive" else y
    cut = float(np.median(y))
    ends = np.stack([np.minimum(y, cut), np.where(y > cut, 1e9, y)], 1)
    ones = np.ones(len(y))
    found = constant_nll(family, ends, ones, ends, ones, ends=True)
    of_all = constant_nll(family, y[:, None], ones, np.minimum(y, cut)[y <= cut, None], np.ones((y <= cut).sum()))
    assert found is not None and of_all is not None
    assert found == pytest.approx((of_all * (y <= cut).mean()) - np.log(0.5) * (y > cut).mean(), abs=0.01)


@pytest.mark.parametrize(
    ("low", "high", "options", "said"),
    [
        ([1.0, 2.0], [1.0], {}, "y_upper of shape .* Try y_upper=numpy.where"),
        ([1.0, np.nan], [1.0, 2.0], {}, "Input y contains NaN, first in row 1 .*Try -numpy.inf"),
        ([1.0, 2.0], [1.0, np.nan], {}, "Input y_upper contains NaN, first in row 1 .*Try numpy.inf"),
        ([1.0, 2.0], [3.0, 1.0], {}, "y is 2.0 and y_upper is 1.0 in row 1 .*Try exchanging"),
        ([1.0, -INF], [3.0, INF], {}, "nothing is known of the target of row 1 .*Try leaving out"),
        (
            [1.0, -INF] * 10,
            [3.0, -1.0] * 10,
            {"likelihood": "gamma"},
            "between -inf and -1 .* a number above 0. Try another",
        ),
        (
            [1.0, 2.0] * 10,
            [INF, 2.0] * 10,
            {"method": "ProbMix"},
            "a method that pools their densities.*Try method='M-ProbMix'",
        ),
        ([1.0, 2.0] * 10, [INF, 2.0] * 10, {"method": "C-Mixup"}, "a method that compares their values"),
        (["a", "b"], [1.0, 2.0], {}, "y or y_upper holds what is no number"),
    ],
)
def test_ends_that_cannot_be_are_refused(low: Any, high: Any, options: dict[str, Any], said: str) -> None:
    X = np.arange(float(len(low)))[:, None]
    with pytest.raises(ValueError, match=said):
        ProbMixRegressor(**{**TINY, "likelihood": "gaussian", **options}).fit(X, low, y_upper=high)


def test_ends_of_the_rows_of_a_fit_or_of_its_validation_alone() -> None:
    """Targets that are known have themselves for ends."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = X[:, 0] + 0.1 * rng.normal(size=60)
    upper = np.where(np.arange(60) % 3 == 0, INF, y)
    for own, other in ((upper, None), (None, upper)):
        given = ProbMixRegressor(**TINY).fit(X, y, y_upper=own, validation=(X, y, None, other))
        told = [y if ends is None else ends for ends in (own, other)]
        both = ProbMixRegressor(**TINY).fit(X, y, y_upper=told[0], validation=(X, y, None, told[1]))
        np.testing.assert_array_equal(given.predict(X), both.predict(X))
        assert given.state_.factor == both.state_.factor
    two = ProbMixRegressor(**TINY).fit(X, y, y_upper=upper, validation=(X, y))
    assert np.isfinite(two.nll(X, y, y_upper=upper))


def test_classes_have_no_ends() -> None:
    X = np.arange(8.0)[:, None]
    with pytest.raises(ValueError, match="expected classes alone"):
        ProbMixClassifier(**TINY).fit(X, [0, 1] * 4, validation=(X, [0, 1] * 4, None, np.ones(8)))
