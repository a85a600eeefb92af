"""The distribution function of a predictive: torch's where it has one, else SciPy's; quantiles by the same families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_probmix import predict
from pyro_probmix.inference import PredictiveMixture, quantiles
from pyro_probmix.inference.predictive.at_values import cdf_at
from pyro_probmix.models import METHODS, Poisson, build_density
from pyro_probmix.models.distributions.mixtures import GaussianMixture

A, B = torch.tensor([[0.7], [2.5]], dtype=torch.float64), torch.tensor([[1.3], [4.0]], dtype=torch.float64)
SHARE = torch.tensor([[0.2], [0.6]], dtype=torch.float64)
COUNT = torch.full((2, 1), 7.0, dtype=torch.float64)
a, b, share = A.numpy(), B.numpy(), SHARE.numpy()


@pytest.mark.parametrize(
    ("components", "scipy"),
    [
        (dist.Normal(A, B), stats.norm(a, b)),
        (dist.StudentT(B, A, B), stats.t(b, a, b)),
        (dist.Gamma(A, B), stats.gamma(a, scale=1 / b)),
        (dist.Beta(A, B), stats.beta(a, b)),
        (dist.Exponential(B), stats.expon(scale=1 / b)),
        (dist.LogNormal(A, B), stats.lognorm(b, scale=np.exp(a))),
        (dist.Laplace(A, B), stats.laplace(a, b)),
        (dist.Poisson(B), stats.poisson(b)),
        (dist.Bernoulli(SHARE), stats.bernoulli(share)),
        (dist.Binomial(COUNT, SHARE), stats.binom(7, share)),
        (dist.NegativeBinomial(COUNT, SHARE), stats.nbinom(7, 1 - share)),
        (dist.GammaPoisson(A, B), stats.nbinom(a, b / (1 + b))),
        (dist.Geometric(SHARE), stats.geom(share, loc=-1)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dist.Distribution) else "",
)
def test_cdf_and_quantiles_are_those_of_scipy(components, scipy):
    mixture = PredictiveMixture(components, 1)
    for y in (-1.5, 0.0, 0.3, 1.0, 2.0, 9.0, 50.0):
        wanted = scipy.cdf(y).mean(0)
        found = mixture.cdf(torch.tensor([y], dtype=torch.float64))
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-12)
    levels = [0.01, 0.3, 0.5, 0.9, 0.999]
    found = quantiles(mixture, levels)[0]
    discrete = components.support.is_discrete
    at, below = (np.array([scipy.cdf(q - shift).mean() for q in found]) for shift in (0.0, 1.0))
    if discrete:
        assert (at >= np.array(levels) - 1e-12).all() and (below < levels).all()
    else:
        np.testing.assert_allclose(at, levels, rtol=1e-8)


def test_the_marginals_of_a_multivariate_normal():
    scale = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    loc = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixture = PredictiveMixture(dist.MultivariateNormal(loc, scale_tril=scale), 1)
    y = torch.randn(4, 2, dtype=torch.float64)
    wanted = stats.norm(loc.numpy(), (scale @ scale.T).diagonal().sqrt().numpy()).cdf(y.numpy()).mean(0)
    np.testing.assert_allclose(mixture.cdf(y).numpy(), wanted, rtol=1e-9)


def test_counts_by_a_density():
    density = build_density(METHODS["M-ProbMix"], num_features=2, likelihood=Poisson, widths=(4,))
    predictive = predict(density, np.zeros((5, 2)), num_samples=3)
    at = predictive.cdf(np.full((5, 1), 2.0))
    below = sum(predictive.log_prob(torch.full((5, 1), float(k))).exp() for k in range(3))
    torch.testing.assert_close(at[:, 0], below)


def test_the_gradient_of_torchs_stays():
    loc = torch.zeros(3, 1, requires_grad=True)
    PredictiveMixture(dist.Normal(loc, 1.0), 1).cdf(torch.zeros(1)).sum().backward()
    assert loc.grad is not None and bool((loc.grad < 0).all())


def test_classes_have_none():
    mixture = PredictiveMixture(dist.Categorical(torch.ones(3, 4, 2)), 1)
    with pytest.raises(ValueError, match=r"the cdf of a Categorical is not known, expected .*Try"):
        mixture.cdf(torch.zeros(4))


def test_what_is_outside_of_the_support_is_said():
    mixture = PredictiveMixture(dist.Poisson(torch.ones(3, 4)), 1)
    with pytest.raises(ValueError, match=r"log_prob got y outside of the support of the predictive.*Try"):
        mixture.log_prob(torch.full((4,), -1.0))


@pytest.mark.parametrize("family", ["normal", "student"])
def test_quantiles_of_mixtures_are_those_that_bisection_finds(family: str) -> None:
    """Far apart, where F is flat between components, and in tails where F has no digit beside 1."""
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=(6, 40)) * 10 ** rng.uniform(-1, 3, 40), 10 ** rng.uniform(-3, 1, (6, 40))
    df = rng.uniform(2.01, 60, (6, 40))
    t = [torch.as_tensor(v) for v in (df, loc, scale)]
    components = dist.Normal(t[1], t[2]) if family == "normal" else dist.StudentT(*t)
    levels = [1e-12, 1e-3, 0.05, 1 / 6, 0.5, 0.7, 0.95, 1 - 1e-12]
    found = quantiles(PredictiveMixture(components, 1), levels)
    known = stats.norm(loc, scale) if family == "normal" else stats.t(df, loc, scale)

    def excess(y: Any, q: float) -> Any:
        return known.cdf(y).mean(0) - q if q <= 0.5 else (1 - q) - known.sf(y).mean(0)

    for k, q in enumerate(levels):
        each: Any = known.ppf(q) if q <= 0.5 else known.isf(1 - q)
        low, high = each.min(0), each.max(0)
        for _ in range(200):
            middle = (low + high) / 2
            low, high = np.where(excess(middle, q) < 0, middle, low), np.where(excess(middle, q) < 0, high, middle)
        near = np.abs(found[:, k] - high) <= 1e-13 * (np.abs(high) + scale.max(0))
        # Where F is flat, its rounding decides on the point.
        assert (near | (np.abs(excess(found[:, k], q)) <= 1e-13 * min(q, 1 - q))).all()


def test_no_cdf_is_above_one():
    """The weights of a mixture's components add up to 1 but for rounding; a level above 1 has no quantile."""
    logits = torch.randn(1, 4000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    components = GaussianMixture(logits, torch.zeros_like(logits), torch.ones_like(logits))
    far = torch.full((4000,), 50.0, dtype=torch.float64)
    assert bool((components.cdf(far) > 1).any())
    assert bool((PredictiveMixture(components, 1).cdf(far) == 1).any())
    assert bool((PredictiveMixture(components, 1).cdf(far) <= 1).all())
    assert cdf_at(PredictiveMixture(components, 1), far[None].numpy()).max() == 1
