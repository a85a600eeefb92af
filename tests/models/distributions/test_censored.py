"""Probabilities of intervals and their gradients against SciPy and differences, and a fit to censored responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_probmix import METHODS, ProbMix, build_density, fit, predict
from pyro_probmix.inference.predictive.families import family_of
from pyro_probmix.models import LIKELIHOODS, Censored, Gaussian
from pyro_probmix.models.distributions.censored import Known, log_probability
from pyro_probmix.models.distributions.mixtures import GaussianMixture

INF = float("inf")
ENDS = [(-0.5, 0.7), (1.0, INF), (-INF, -2.0), (8.0, INF), (-INF, 9.0), (12.0, 12.5), (-30.0, -29.0), (-INF, INF)]


@pytest.mark.parametrize(("low", "high"), ENDS)
def test_probabilities_and_gradients_of_intervals(low: float, high: float) -> None:
    loc, scale = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 1.2))
    ends = [torch.tensor(v, dtype=torch.float64) for v in (low, high)]
    found = log_probability(dist.Normal(loc, scale), *ends)
    a, b = (np.array(ends) - 0.3) / 1.2
    wanted = np.log(stats.norm.cdf(b) - stats.norm.cdf(a)) if a < 0 else np.log(stats.norm.sf(a) - stats.norm.sf(b))
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    step = 1e-6
    for value, slope in zip((loc, scale), torch.autograd.grad(found, (loc, scale)), strict=True):
        moved = []
        for sign in (1, -1):
            at = [v.detach() + (sign * step if v is value else 0) for v in (loc, scale)]
            moved.append(float(log_probability(dist.Normal(at[0], at[1]), *ends).detach()))
        assert float(slope) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_mixtures_and_log_normals_and_others() -> None:
    low, high = torch.tensor(0.5, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    pair = torch.tensor([0.2, -0.4], dtype=torch.float64)
    mixed = GaussianMixture(pair, pair, pair.exp())
    between = [stats.norm.cdf(2, m, np.exp(m)) - stats.norm.cdf(0.5, m, np.exp(m)) for m in (0.2, -0.4)]
    assert float(log_probability(mixed, low, high).exp()) == pytest.approx(
        float(pair.softmax(-1) @ torch.tensor(between))
    )
    spread = stats.lognorm(0.7, scale=np.exp(0.1))
    p = dist.LogNormal(torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64))
    assert float(log_probability(p, low, high).exp()) == pytest.approx(spread.cdf(2) - spread.cdf(0.5))
    assert float(log_probability(p, low - 9, high).exp()) == pytest.approx(spread.cdf(2))
    with pytest.raises(TypeError, match=r"under a Laplace is not known here, .*Try likelihood=Censored"):
        log_probability(dist.Laplace(0.0, 1.0), low, high)


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in ("categorical", "bernoulli")])
def test_each_likelihood_scores_what_is_known_with_its_gradient(name: str) -> None:
    torch.manual_seed(0)
    head: Any = LIKELIHOODS[name](3, 1).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    p = head(x)
    discrete = p.base_dist.support.is_discrete
    ends = [[0.3, 0.3], [0.2, 1e9], [-1e9, 0.4], [0.2, 0.6], [0.0, 1e9], [0.2, 0.2]]
    if discrete:
        ends = [[3, 3], [2, 1e9], [-1e9, 4], [2, 6], [0, 1e9], [1, 1]]
    value = torch.tensor(ends, dtype=torch.float64)
    found = Known(p).log_prob(value)
    family = family_of(p.base_dist)
    parameters = [v.detach().numpy() for v in family.parameters]

    def cdf(y: Any) -> Any:
        y = np.asarray(y)[:, None]
        if family.num_components:
            return family.cdf(y[..., None], *parameters).mean(-1)[:, 0]
        return family.cdf(y, *parameters)[:, 0]

    low, high = value.numpy().T
    with np.errstate(divide="ignore", invalid="ignore"):  # of exact ones
        between = np.log(cdf(high) - cdf(low - 1 if discrete else np.nextafter(low, -INF)))
    exact = p.log_prob(value[:, :1].clamp(min=1.0 if discrete else 0.2)).detach().numpy()
    np.testing.assert_allclose(found.detach(), np.where(low == high, exact, between), rtol=1e-9, atol=1e-12)
    bias, step = head.linear.bias, 1e-5
    slope = torch.autograd.grad(found.sum(), bias)[0]
    for k in range(len(bias)):
        moved = []
        for sign in (1, -1):
            with torch.no_grad():
                bias[k] += sign * step
                moved.append(float(Known(head(x)).log_prob(value).sum()))
                bias[k] -= sign * step
        assert float(slope[k]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_what_is_known_of_a_response_is_scored() -> None:
    p: Any = Known(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
    value = torch.tensor([[0.5, -1.0, 0.5, INF], [-INF, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    wanted = [
        stats.norm.logpdf(0.5) + stats.norm.logsf(-1.0),
        np.log(0.5) + np.log(stats.norm.cdf(1.0) - 0.5),
        2 * stats.norm.logpdf(0.0),
    ]
    np.testing.assert_allclose(p.log_prob(value), wanted, rtol=1e-5)


@pytest.mark.parametrize("method", ["ERM", "M-ProbMix"])
def test_a_fit_to_censored_responses_is_not_drawn_to_where_they_are_cut_off(method: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 1) * 2
    y = x + 0.3 * torch.randn(400, 1)
    ends = torch.cat([y.clamp(max=1.2), torch.where(y > 1.2, 1e9, y)], 1)
    density = build_density(METHODS[method], num_features=1, likelihood=Censored(Gaussian), widths=(32, 16))
    process = ProbMix(density, at=METHODS[method].site, batch_size=40)
    result = fit(process, x, ends, epochs=60, learning_rate=0.01)
    assert bool(result.train_loss.isfinite().all())
    head: Any = density.likelihood
    density.likelihood = head.head
    at = torch.tensor([[1.7]])
    assert float(predict(density, at).mean.detach()) == pytest.approx(
        1.7, abs=0.25
    )  # 1.2 where the bound is taken for the response
