"""Tails that held-out rows ask for: the factor of the degrees of freedom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import ProbMixRegressor
from pyro_probmix.estimators.targets.tails import HEAVIEST, LIGHTEST, with_tails
from pyro_probmix.models.distributions.mixtures import StudentTMixture
from pyro_probmix.models.distributions.student import StudentT


@pytest.mark.parametrize("factor", [HEAVIEST, 0.5, 1.0, 7.0, LIGHTEST])
def test_degrees_of_freedom_beyond_two_are_multiplied(factor: float) -> None:
    df, loc, scale = torch.tensor([2.5, 18.0]).double(), torch.randn(2).double(), torch.tensor([0.5, 2.0]).double()
    p = with_tails(StudentT(df, loc, scale).to_event(1), factor)
    assert p.event_shape == (2,)
    torch.testing.assert_close(p.base_dist.df, 2 + factor * (df - 2))
    torch.testing.assert_close(p.mean, loc)
    torch.testing.assert_close(p.base_dist.scale, scale)
    mixture = with_tails(StudentTMixture(torch.zeros(2).double(), df, loc, scale), factor)
    assert float((mixture.df - p.base_dist.df).abs().max()) == 0


def test_a_family_without_degrees_of_freedom_stays() -> None:
    for p in (dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.Poisson(torch.ones(2))):
        assert with_tails(p, 3.0) is p


def noisy(draw: Any) -> float:
    """The factor that 1,000 rows of a linear signal with this noise ask for."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 1))
    y = x[:, 0] + draw(rng, 1000)
    settings: dict[str, Any] = {"ensemble": 5, "epochs": 4, "widths": (8, 8), "random_state": 0, "neighbors_pool": 0}
    return float(ProbMixRegressor(likelihood="student-t", **settings).fit(x, y).state_.tails)


def test_held_out_rows_choose_heavy_tails_and_light_ones() -> None:
    """At first the head has 18 degrees of freedom, and a few steps change that little."""
    assert noisy(lambda rng, n: rng.standard_t(2.5, n)) < 0.3
    assert noisy(lambda rng, n: rng.uniform(-1, 1, n)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_the_default_costs_little_where_noise_has_no_tails(noise: str) -> None:
    """Beside the Gaussian head, 225 rows and the defaults: at most 0.02 nats a row, and two standard errors over splits."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 4))
    y = x[:, 0] + (rng.uniform(-1, 1, size=300) if noise == "uniform" else rng.normal(size=300))
    behind = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(300)
        new, old = order[:75], order[75:]
        auto, gaussian = (
            ProbMixRegressor(likelihood=name, random_state=seed).fit(x[old], y[old]).nll(x[new], y[new])
            for name in ("auto", "gaussian")
        )
        behind.append(auto - gaussian)
    assert np.mean(behind) < 0.02 + 2 * np.std(behind, ddof=1) / 2
