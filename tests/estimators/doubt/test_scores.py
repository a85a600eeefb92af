"""The estimator's CRPS: the mean over rows of what draws of its predictions estimate."""

from typing import Any

import numpy as np
import pytest

from pyro_probmix import ProbMixRegressor
from pyro_probmix.calibration import crps_draws, mean_over_rows

TINY: dict[str, Any] = {"ensemble": 3, "widths": (8, 8), "periodic": 2, "epochs": 5, "random_state": 0}
X = np.random.default_rng(0).uniform(size=(60, 2))


@pytest.mark.parametrize(
    "likelihood", ["gaussian", "student-t", "poisson", "hurdle", "auto", "gaussian-mixture", "spline"]
)
def test_it_is_what_draws_estimate(likelihood):
    y = (
        np.random.default_rng(1).poisson(3 * X[:, 0])
        if likelihood in ("poisson", "hurdle", "auto")
        else 10 * X[:, 0] - 3
    )
    model = ProbMixRegressor(likelihood=likelihood, **TINY).fit(X, y)
    drawn = mean_over_rows(crps_draws(model.sample(X, 4000, random_state=0), y))
    # The error of the draws is far below that of the rows.
    assert model.crps(X, y) == pytest.approx(drawn.value, abs=0.2 * drawn.standard_error + 0.01 * drawn.value)


def test_targets_and_weights_count_as_they_should():
    y = np.stack([X[:, 0], 100 * X[:, 1]], 1)
    model = ProbMixRegressor(likelihood="gaussian", **TINY).fit(X, y)
    each = np.asarray(model.crps(X, y))
    assert each.shape == (2,) and each[1] > 20 * each[0]
    weights = np.repeat([0.0, 2.0], 30)
    np.testing.assert_allclose(model.crps(X, y, weights), model.crps(X[30:], y[30:]), rtol=1e-6)
