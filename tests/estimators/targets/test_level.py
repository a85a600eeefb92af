"""The spread at which intervals hold the share of rows that they should."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from pyro_probmix.estimators.targets.level import COVERAGE, TOLERANCE, narrowing


@pytest.mark.parametrize(
    ("errors", "narrower"), [(stats.t(3), True), (stats.uniform(-1, 2), True), (stats.norm(), False)]
)
def test_a_normal_density_is_narrower_where_it_holds_too_many_errors(
    errors: stats.rv_continuous, narrower: bool
) -> None:
    """90 % intervals of the standard deviation hold 93.5 % of errors of 3 degrees of freedom, and 95 % of uniform ones."""
    y = torch.as_tensor(errors.rvs(20_000, random_state=0))
    weights = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
    best = float(y.square().mean().sqrt())

    def log_prob(factor: float) -> torch.Tensor:
        return torch.as_tensor(stats.norm.logpdf(y, scale=factor * best))

    def cdf(factor: float) -> torch.Tensor:
        return torch.as_tensor(stats.norm.cdf(y, scale=factor * best))

    def held(factor: float) -> float:
        return float(((2 * cdf(factor) - 1).abs() <= COVERAGE).double().mean())

    factor = narrowing(log_prob, cdf, weights)
    assert (factor < 1) is narrower
    assert abs(held(factor) - COVERAGE) <= abs(held(1.0) - COVERAGE)
    assert float((log_prob(1.0) - log_prob(factor)).mean()) <= TOLERANCE
    assert narrowing(log_prob, lambda _: torch.zeros_like(y), weights) == 1.0  # no row is inside
    free = narrowing(lambda _: torch.zeros_like(y), cdf, weights)
    assert abs(held(free) - COVERAGE) <= abs(held(factor) - COVERAGE)
