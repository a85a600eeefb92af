"""The CRPS of each family of predictive mixtures beside SciPy's quadrature of its definition, or the sum."""

import itertools
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate

from pyro_probmix.inference.predictive.at_values import cdf_at
from pyro_probmix.inference.predictive.crps import crps_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal


def uniform(low: float, high: float, *shape: int) -> Any:
    generator = torch.Generator().manual_seed(int(10 * high))
    return low + (high - low) * torch.rand(shape or (5, 1), generator=generator, dtype=torch.float64)


def inner() -> Any:
    mixing = dist.Categorical(logits=uniform(-1, 1, 5, 1, 3))
    return dist.MixtureSameFamily(mixing, dist.Normal(uniform(-2, 2, 5, 1, 3), uniform(0.05, 0.5, 5, 1, 3)))


def inner_students() -> Any:
    mixing = dist.Categorical(logits=uniform(-1, 1, 5, 1, 3))
    return dist.MixtureSameFamily(mixing, dist.StudentT(uniform(2.5, 8, 5, 1, 3), uniform(-2, 2, 5, 1, 3), 0.3))


def hurdle() -> Any:
    probs = torch.tensor([0.3, 0.7]).double().expand(5, 1, 2)
    return ZeroOrLogNormal(probs, uniform(-1, 1), uniform(0.2, 1))


CONTINUOUS: dict[str, Any] = {
    "gaussians": dist.Normal(uniform(-2, 2), uniform(0.2, 1)),
    "one student": dist.StudentT(uniform(2.5, 6, 1, 1), uniform(-1, 1, 1, 1), uniform(0.5, 1, 1, 1)),
    "students": dist.StudentT(uniform(1.5, 6), uniform(-2, 2), uniform(0.01, 1)),
    "gamma": dist.Gamma(uniform(0.3, 4), uniform(0.5, 2)),
    "log-normal": dist.LogNormal(uniform(-1, 1), uniform(0.2, 1)),
    "beta": dist.Beta(uniform(0.5, 4), uniform(1.5, 2)),
    "mixtures of gaussians": inner(),
    "mixtures of students": inner_students(),
    "laplace": dist.Laplace(uniform(-2, 2), uniform(0.2, 1)),
    "hurdle": hurdle(),
    "shares": ZeroOneBeta(torch.tensor([0.1, 0.2, 0.7]).double().expand(5, 1, 3), uniform(0.7, 3), uniform(1, 3)),
}


def by_scipy(mixture: PredictiveMixture, y: float, low: float = -np.inf, high: float = np.inf) -> float:
    def squared(v: float) -> float:
        level = 0.0 if v < low else 1.0 if v >= high else cdf_at(mixture, np.array([[v]]))[0, 0]
        return float((level - (y <= v)) ** 2)

    cuts = sorted(
        {y, 0.0, 1.0, *np.linspace(-30, 30, 121), -1e5, -1e3, 1e3, 1e5, *(v for v in (low, high) if np.isfinite(v))}
    )
    return sum(integrate.quad(squared, a, b, limit=100, epsabs=1e-9)[0] for a, b in itertools.pairwise(cuts))


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_of_a_continuous_response_it_is_the_integral(name, place):
    components = CONTINUOUS[name]
    mixture = PredictiveMixture(components, 1)
    support = getattr(components, "support", None)
    y = float(mixture.mean) if place == "inside" else (1.0 if name == "shares" else 0.0 if name == "hurdle" else 0.9)
    y = y if place == "inside" or name in ("shares", "hurdle", "beta") else 12.0
    assert support is not None
    found = crps_at(mixture, np.array([y]))[0]
    assert found == pytest.approx(by_scipy(mixture, y), abs=1e-6)


@pytest.mark.parametrize(
    "components",
    [
        dist.Poisson(uniform(0.5, 6)),
        dist.Bernoulli(uniform(0.1, 0.9)),
        dist.NegativeBinomial(3.0, uniform(0.1, 0.8)),
        dist.ZeroInflatedPoisson(uniform(1, 8), gate=uniform(0.1, 0.5)),
    ],
    ids=lambda components: type(components).__name__,
)
@pytest.mark.parametrize("y", [0.0, 1.0, 40.0])
def test_of_a_count_it_is_the_sum(components, y):
    mixture = PredictiveMixture(components, 1)
    if isinstance(components, dist.Bernoulli):
        y = min(y, 1.0)
    counts = np.arange(500.0)
    level = cdf_at(mixture, counts[:, None])[:, 0]
    assert crps_at(mixture, np.array([y]))[0] == pytest.approx(((level - (y <= counts)) ** 2).sum(), abs=1e-6)


def test_of_large_counts_it_is_that_of_a_gaussian():
    rate = 1e8
    mixture = PredictiveMixture(dist.Poisson(torch.full((1, 1), rate).double()), 1)
    like = PredictiveMixture(dist.Normal(torch.full((1, 1), rate).double(), rate**0.5), 1)
    for y in (rate, rate + 3e4):
        assert crps_at(mixture, np.array([y]))[0] == pytest.approx(crps_at(like, np.array([y]))[0], rel=1e-3)


def test_units_rows_and_several_responses():
    loc, scale = uniform(-1, 1, 3, 7, 2), uniform(0.1, 2, 3, 7, 2)
    mixture = PredictiveMixture(
        dist.StudentT(4.0, loc, scale).to_event(1), 1, torch.tensor([10.0, 0.0]), torch.tensor([2.0, 5.0])
    )
    y = np.linspace(-3, 20, 14).reshape(7, 2)
    found = crps_at(mixture, y)
    for row, column in itertools.product(range(7), range(2)):
        one = PredictiveMixture(dist.StudentT(4.0, loc[:, [row], column], scale[:, [row], column]), 1)
        unit, zero = (2.0, 10.0) if not column else (5.0, 0.0)
        assert found[row, column] == pytest.approx(unit * crps_at(one, (y[row, [column]] - zero) / unit)[0], rel=1e-9)


@pytest.mark.parametrize("name", ["gaussians", "students"])
@pytest.mark.parametrize("y", [0.0, 0.4, 2.0, -0.5])
def test_the_probability_beyond_a_bound_lies_on_it(name, y):
    mixture = PredictiveMixture(CONTINUOUS[name], 1)
    found = crps_at(mixture, np.array([y]), 0.0, 1.5)[0]
    assert found == pytest.approx(by_scipy(mixture, y, 0.0, 1.5), abs=1e-6)


def test_many_components_are_as_exact_by_quadrature_as_in_closed_form(monkeypatch):
    from pyro_probmix.inference.predictive import crps

    components = dist.Normal(uniform(-5, 5, 80, 20), uniform(0.001, 0.3, 80, 20))
    y = np.linspace(-6, 6, 20)
    closed = crps_at(PredictiveMixture(components, 1), y)
    monkeypatch.setattr(crps, "MOST_GAUSSIANS", 0)
    np.testing.assert_allclose(crps_at(PredictiveMixture(components, 1), y), closed, rtol=1e-6)


def test_what_is_not_finite_has_no_score():
    mixture = PredictiveMixture(dist.Normal(torch.tensor([[0.0, np.nan]]), 1.0, validate_args=False), 1)
    assert np.isnan(crps_at(mixture, np.array([0.0, 0.0]))).tolist() == [False, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda loc, scale: dist.Normal(loc, scale, validate_args=False),
        lambda loc, scale: dist.MixtureSameFamily(
            dist.Categorical(torch.full((1, 3, 2), 0.5).double()),
            dist.Normal(loc.unsqueeze(-1).expand(1, 3, 2), scale.unsqueeze(-1).expand(1, 3, 2), validate_args=False),
        ),
    ],
    ids=["gaussian", "mixture of gaussians"],
)
def test_where_a_scale_has_underflowed_the_score_is_that_of_a_point(make):
    """The absolute error, also where the point is hit."""
    loc = torch.tensor([[0.0, 1.0, -3e4]]).double()
    y = np.array([2.5, 1.0, 7e4])
    found = crps_at(PredictiveMixture(make(loc, torch.zeros(1, 3).double()), 1), y)
    assert found == pytest.approx([2.5, 0.0, 1e5], abs=1e-12)
