"""The regressor in the interface of a benchmark of conditional densities; see docs/measured_by_others.md.

The benchmark is that of Izbicki and Rodrigues, 2026, arXiv:2603.26611.

Copied into its folder ``models``, it needs nothing else but the installed package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_probmix import ProbMixRegressor

__all__ = ["probmix_density"]


def probmix_density(
    X_train: Any,
    z_train: Any,
    X_test: Any,
    n_grid: int = 200,
    z_min: float | None = None,
    z_max: float | None = None,
    **parameters: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """The conditional densities of test rows on a grid of targets.

    Args:
        X_train: features, [n, d].
        z_train: targets, [n].
        X_test: features, [m, d].
        n_grid: the number of values of the grid.
        z_min, z_max: its ends; by default a tenth of the training targets' range beyond them.
        **parameters: of :class:`~pyro_probmix.ProbMixRegressor`; the seed is 0 unless another ``random_state`` is given.

    Returns:
        the densities, [m, n_grid], in the reciprocal of the target's unit, and the grid, [n_grid]. Each density is the mean
        over the cell around its value, so that counts have one too, and a spike has the mass that it has. The benchmark
        takes a density between two values of the grid as their line, and what lies outside of the grid as 0.
    """
    model = ProbMixRegressor(**{"random_state": 0, **parameters}).fit(X_train, z_train)
    margin = 0.1 * np.ptp(z_train)
    grid = np.linspace(
        np.min(z_train) - margin if z_min is None else z_min,
        np.max(z_train) + margin if z_max is None else z_max,
        n_grid,
    )
    step = grid[1] - grid[0]
    edges = np.append(grid, grid[-1] + step) - step / 2
    return np.diff(model.cdf(X_test, edges[None])) / step, grid
