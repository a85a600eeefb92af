"""Mean absolute distances and norms of mixtures: quadrature, sums, and closed forms."""

import itertools
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate

from pyro_probmix.inference.predictive.at_values import cdf_at, log_density_at
from pyro_probmix.inference.predictive.energies import density_norm, mean_distance, mean_distance_to
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.models import LIKELIHOODS
from pyro_probmix.pooling.rows.rebuilding import take_batch


def uniform(low, high, members=5):
    generator = torch.Generator().manual_seed(int(10 * high))
    return low + (high - low) * torch.rand(members, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "components",
    [
        dist.Normal(uniform(-2, 2), uniform(0.2, 1)),
        dist.StudentT(uniform(2.5, 6), uniform(-2, 2), uniform(0.2, 1)),
        dist.StudentT(uniform(2.5, 6, 40), uniform(-20, 20, 40), uniform(0.5, 1, 40)),
        dist.Gamma(uniform(1.1, 4), uniform(0.5, 2)),
        dist.LogNormal(uniform(-1, 1), uniform(0.2, 1)),
        dist.Beta(uniform(1.1, 4), uniform(1.5, 2)),
        dist.Poisson(uniform(0.5, 6)),
        dist.Bernoulli(uniform(0.1, 0.9)),
        dist.NegativeBinomial(torch.full((5, 1), 3.0, dtype=torch.float64), uniform(0.1, 0.8)),
    ],
    ids=lambda components: type(components).__name__,
)
def test_they_are_the_integrals(components):
    mixture = PredictiveMixture(components, 1, torch.tensor(0.0), torch.tensor(1.0))
    at = float(mixture.mean) if not components.support.is_discrete else 2.0

    wanted: tuple[Any, Any, Any]

    def level(v: Any) -> Any:
        return cdf_at(mixture, np.array([[v]]))[0, 0]

    if components.support.is_discrete:
        counts = np.arange(400.0)
        levels = cdf_at(mixture, counts[:, None])[:, 0]
        mass = np.diff(levels, prepend=0)
        wanted = 2 * (levels * (1 - levels)).sum(), np.abs(counts - at) @ mass, (mass**2).sum()
    else:
        cut = sorted({at, *np.linspace(-30, 30, 31), -1e4, -300.0, 300.0, 1e4})

        def integral(function: Any) -> float:
            return sum(integrate.quad(function, *ends, limit=200, epsabs=1e-10)[0] for ends in itertools.pairwise(cut))

        wanted = (
            2 * integral(lambda v: level(v) * (1 - level(v))),
            integral(lambda v: level(v) if v < at else 1 - level(v)),
            integral(lambda v: np.exp(2 * log_density_at(mixture, np.array([[v]]))[0, 0])),
        )
    rel = 1e-4 if len(components.mean) > 32 else 2e-6  # of many components some are chosen
    assert mean_distance(mixture)[0] == pytest.approx(wanted[0], rel=rel)
    assert mean_distance_to(mixture, np.array([at]))[0] == pytest.approx(wanted[1], rel=rel)
    assert density_norm(mixture, 2)[0] == pytest.approx(wanted[2], rel=1e-3 if len(components.mean) > 32 else 1e-5)


def test_units_and_far_values():
    mixture = PredictiveMixture(dist.StudentT(torch.full((2, 3), 4.0), 0.0, 1.0), 1, 10.0, 3.0)
    plain = PredictiveMixture(dist.StudentT(torch.full((2, 3), 4.0), 0.0, 1.0), 1)
    np.testing.assert_allclose(mean_distance(mixture), 3 * mean_distance(plain), rtol=1e-6)
    np.testing.assert_allclose(mean_distance_to(mixture, np.full(3, 1e6)), 1e6 - 10, rtol=1e-9)
    np.testing.assert_allclose(mean_distance_to(mixture, np.full(3, -1e6)), 1e6 + 10, rtol=1e-9)


def test_counts_beyond_summing():
    mixture = PredictiveMixture(dist.NegativeBinomial(torch.full((1, 1), 0.5), torch.full((1, 1), 1 - 1e-7)), 1)
    with pytest.raises(
        ValueError, match=r"a predicted count may be anything of \d+ numbers, expected at most 1000000\. Try"
    ):
        mean_distance(mixture)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "categorical"])
def test_the_distances_of_draws_for_each_likelihood(name):
    """Means over 20,000 draws, within 4.5 standard errors."""
    head = LIKELIHOODS[name](2, 1, None)
    features = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        components = head(features).base_dist
    of_one: Any = take_batch(components, 0)
    mixture = PredictiveMixture(of_one, 1)
    drawn, others = (mixture.sample((20_000,)).double().numpy() for _ in range(2))
    at = drawn[0]
    for found, sample in (
        (mean_distance_to(mixture, at), np.abs(drawn - at)),
        (mean_distance(mixture), np.abs(drawn - others)),
    ):
        assert (np.abs(sample.mean(0) - found) < 4.5 * sample.std(0) / len(sample) ** 0.5).all()
