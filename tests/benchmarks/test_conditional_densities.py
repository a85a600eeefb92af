"""The entry for the benchmark of conditional densities: what it hands over is a density on the grid, of counts too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.conditional_densities import probmix_density
from pyro_probmix import ProbMixRegressor

SMALL: dict[str, Any] = {"ensemble": 2, "widths": (16, 8), "epochs": 15}


def heteroscedastic(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 2))
    return X, X[:, 0] + np.exp(0.5 * X[:, 1]) * rng.normal(size=rows)


def test_the_densities_on_the_grid_have_the_scores_of_the_model():
    X, y = heteroscedastic(400)
    train, test = slice(0, 300), slice(300, None)
    densities, grid = probmix_density(X[train], y[train], X[test], 400, -15.0, 15.0, likelihood="gaussian", **SMALL)
    assert densities.shape == (100, 400) and grid[[0, -1]] == pytest.approx([-15, 15])
    assert np.trapezoid(densities, grid) == pytest.approx(np.ones(100), abs=1e-6)
    at_targets = [np.interp(value, grid, density) for value, density in zip(y[test], densities, strict=True)]
    model = ProbMixRegressor(random_state=0, likelihood="gaussian", **SMALL).fit(X[train], y[train])
    assert -np.log(at_targets).mean() == pytest.approx(model.nll(X[test], y[test]), abs=0.002)


def test_counts_have_a_density_too_and_the_grid_reaches_beyond_the_targets():
    X, _ = heteroscedastic(200)
    counts = np.random.default_rng(1).poisson(np.exp(1 + 0.3 * X[:, 0]))
    densities, grid = probmix_density(X, counts, X[:5], random_state=3, likelihood="poisson", **SMALL)
    assert grid[0] < counts.min() and grid[-1] > counts.max() and len(grid) == 200
    # All that is in cells, but for what lies above the last one.
    assert (densities.sum(1) * (grid[1] - grid[0]) == pytest.approx(np.ones(5), abs=0.01)) and (densities >= 0).all()
