"""Naive forecasts of a series of prices: what a network has to beat."""

from __future__ import annotations

__all__ = ["NAIVE", "naive_scores"]

from collections.abc import Callable

import numpy as np
from scipy.stats import lognorm, norm

from pyro_probmix.experiments.data.stocks import COLUMNS, HORIZON, Windows
from pyro_probmix.experiments.data.tables import FloatArray, IntArray

#: From windows and the rows to forecast: log density of each target, and the mean of its forecast, in dollars.
Forecast = Callable[[Windows, IntArray], tuple[FloatArray, FloatArray]]


def _closes(windows: Windows, rows: IntArray) -> FloatArray:
    """The closes of each window, [rows, W]."""
    closes: FloatArray = windows.x[rows, :, COLUMNS.index("Close")]
    return closes


def _last_value(windows: Windows, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """The last close, with the root mean square change of the rows that train as standard deviation."""
    change = windows.y[windows.split.train] - _closes(windows, windows.split.train)[:, -1]
    last = _closes(windows, rows)[:, -1]
    deviation = np.sqrt((change**2).mean())
    if not deviation > 0:
        raise ValueError(_still(f"over {HORIZON} days, in the windows that train,"))
    return np.asarray(norm.logpdf(windows.y[rows], last, deviation)), last


def _random_walk(windows: Windows, rows: IntArray, *, drift: bool) -> tuple[FloatArray, FloatArray]:
    """A random walk of the log price, with the variance of each window's own daily changes, and their mean as drift or none."""
    logs = np.log(_closes(windows, rows))
    daily = np.diff(logs, axis=1)
    mean = HORIZON * daily.mean(1) if drift else np.zeros(len(rows))
    deviation = np.sqrt(HORIZON * (daily.var(1, ddof=1) if drift else (daily**2).mean(1)))
    # Days of equal growth differ by what the logarithms are rounded by.
    rounding = 8 * np.finfo(np.float64).eps * (1 + np.abs(logs).max(1))
    still = np.flatnonzero(deviation <= rounding)
    if len(still):
        raise ValueError(_still(f"in the window up to day {windows.last_day[rows[still[0]]]}"))
    forecast = lognorm(deviation, scale=np.exp(logs[:, -1] + mean))
    return forecast.logpdf(windows.y[rows]), np.asarray(forecast.mean())


def _still(where: str) -> str:
    return (
        f"the changes of the closing price {where} have no spread, expected some, from which a forecast takes the width of its "
        "density. Try a price that moves."
    )


#: Name -> the forecast.
NAIVE: dict[str, Forecast] = {
    "last value": _last_value,
    "random walk": lambda windows, rows: _random_walk(windows, rows, drift=False),
    "random walk with drift": lambda windows, rows: _random_walk(windows, rows, drift=True),
}


def naive_scores(windows: Windows) -> dict[str, tuple[float, float]]:
    """NLL (nats) and RMSE (dollars) of each naive forecast on the test rows.

    Args:
        windows: of a series; only its past counts for a forecast.

    Raises:
        ValueError: where the price did not move, so that a forecast would have no density.

    Example:
        >>> import numpy as np
        >>> from pyro_probmix.experiments.data.stocks import windows_of
        >>> prices = np.exp(np.random.default_rng(0).normal(0, 0.01, (505, 1)).cumsum(0)) * np.ones(4)
        >>> scores = naive_scores(windows_of(prices))
        >>> scores["last value"][1] > 0
        True
    """
    rows = windows.split.test
    scores = {}
    for name, forecast in NAIVE.items():
        log_density, mean = forecast(windows, rows)
        error = np.sqrt(((mean - windows.y[rows]) ** 2).mean())
        scores[name] = float(-log_density.mean()), float(error)
    return scores
