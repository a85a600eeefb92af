"""Naive forecasts against their densities spelt out row by row."""

import math

import numpy as np
import pytest

from pyro_probmix.experiments.data.naive import naive_scores
from pyro_probmix.experiments.data.stocks import windows_of

WINDOW, HORIZON = 42, 21


def series(drift=0.0, days=505):
    rng = np.random.default_rng(0)
    close = 50 * np.exp(rng.normal(drift, 0.02, days).cumsum())
    return close, windows_of(np.stack([close, close + 1, close - 1, close], 1))


def test_each_forecast_row_by_row():
    close, windows = series()
    last = {row: windows.last_day[row] for row in range(len(windows.y))}
    changes = [close[last[row] + HORIZON] - close[last[row]] for row in windows.split.train]
    constant = math.sqrt(sum(change**2 for change in changes) / len(changes))
    nll = {"last value": [], "random walk": [], "random walk with drift": []}  # type: ignore[var-annotated]
    for row in windows.split.test:
        now, then = close[last[row]], close[last[row] + HORIZON]
        days = [math.log(close[k + 1] / close[k]) for k in range(last[row] - WINDOW + 1, last[row])]
        nll["last value"].append(_normal(then, now, constant))
        drift = sum(days) / len(days)
        for name, mean, square in (
            ("random walk", 0.0, sum(d**2 for d in days) / len(days)),
            ("random walk with drift", drift, sum((d - drift) ** 2 for d in days) / (len(days) - 1)),
        ):
            log = _normal(math.log(then), math.log(now) + HORIZON * mean, math.sqrt(HORIZON * square))
            nll[name].append(log + math.log(then))  # the density of the price, not of its logarithm
    for name, (found, _) in naive_scores(windows).items():
        assert found == pytest.approx(np.mean(nll[name]))


def _normal(value, mean, deviation):
    return 0.5 * math.log(2 * math.pi) + math.log(deviation) + 0.5 * ((value - mean) / deviation) ** 2


def test_the_drift_helps_where_there_is_one():
    steady = naive_scores(series(drift=0.05)[1])
    assert steady["random walk with drift"][0] < steady["random walk"][0] - 0.5
    flat = naive_scores(series()[1])
    assert flat["random walk"][0] < flat["random walk with drift"][0]


def test_the_error_is_that_of_the_mean():
    close, windows = series()
    rows = windows.split.test
    expected = np.sqrt(
        np.mean([(close[windows.last_day[r] + HORIZON] - close[windows.last_day[r]]) ** 2 for r in rows])
    )
    assert naive_scores(windows)["last value"][1] == pytest.approx(expected)


def test_a_price_that_does_not_move_has_no_density():
    """For the whole series, in one window that is forecast, and for days of the same growth."""
    with pytest.raises(ValueError, match=r"over 21 days, in the windows that train, have no spread.* Try"):
        naive_scores(windows_of(np.full((505, 4), 7.0)))
    close, windows = series()
    row = windows.split.test[5]
    last = windows.last_day[row]
    close[last - WINDOW + 1 : last + 1] = 50.0
    with pytest.raises(ValueError, match=rf"in the window up to day {last} have no spread.* Try"):
        naive_scores(windows_of(np.stack([close] * 4, 1)))
    close, _ = series()
    close[last - WINDOW + 1 : last + 1] = 50.0 * 1.01 ** np.arange(WINDOW)
    with pytest.raises(ValueError, match=rf"in the window up to day {last} have no spread.* Try"):
        naive_scores(windows_of(np.stack([close] * 4, 1)))
