"""Predictions of every kind, whose models are the true ones."""

from __future__ import annotations

import numpy as np

from pyro_probmix.calibration import GaussianMixture, Predictions

MEMBERS, DRAWS, ROWS = 3, 40, 60


def continuous(num_members=MEMBERS, num_rows=ROWS, targets=("speed",), **more):
    """Each member's weights differ a little: a draw of the parameters each."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(num_rows, len(targets))) + 0.05 * rng.normal(size=(num_members, 1, num_rows, len(targets)))
    y = mean[0, 0] + 0.5 * rng.normal(size=(num_rows, len(targets)))
    log_likelihood = (-0.5 * ((y - mean) / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)).sum(-1)
    draws = mean + 0.5 * rng.normal(size=(num_members, DRAWS, num_rows, len(targets)))
    densities = [GaussianMixture(mean[:, 0, :, t], 0.5) for t in range(len(targets))]
    return Predictions(y=y, draws=draws, log_likelihood=log_likelihood, densities=densities, targets=targets, **more)


def counts():
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 3.0, size=ROWS)
    return Predictions(
        y=rng.poisson(rate), draws=rng.poisson(rate, size=(MEMBERS, DRAWS, ROWS)), kind="count", targets=["calls"]
    )


def classes(num_classes=3):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(num_classes), size=ROWS)
    draw = lambda *shape: (probabilities.cumsum(1) < rng.uniform(size=(*shape, ROWS, 1))).sum(-1)  # noqa: E731
    return Predictions(
        y=draw(),
        draws=draw(MEMBERS, DRAWS),
        kind="class",
        probabilities=probabilities,
        targets=["species"],
        classes=["setosa", "versicolor", "virginica", "other"][:num_classes],
    )
