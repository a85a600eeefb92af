"""Expected log-densities over random labels, against quadrature and finite sums in float64, and at an observed site."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Distribution

from pyro_probmix.fusing.kernels.kernels import (
    BiasedBernoulliKernel,
    BiasedCategoricalKernel,
    DiracKernel,
    GaussianKernel,
)
from pyro_probmix.pooling import linear_pool, log_linear_pool
from pyro_probmix.pooling.expectation import ExpectedLikelihood, expected_log_prob, register_expected_log_prob

DRAWS = 20_000
R, B = 3, 4  # replicas and rows
WEIGHT = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64)  # [B]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def per_replica() -> Tensor:
    """A beta for each replica, one of them zero, ``[R, 1]``."""
    return torch.tensor([0.0, 0.01, 0.7])[:, None]


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, check_dtype=False)


# The expectation in closed form


def gauss_hermite(size: int = 64) -> tuple[Tensor, Tensor]:
    """Points and weights for the mean under a standard normal distribution."""
    points, weights = np.polynomial.hermite_e.hermegauss(size)
    return torch.from_numpy(points), torch.from_numpy(weights / math.sqrt(2 * math.pi))


def assert_same_value_and_gradient(f: Callable[..., Tensor], g: Callable[..., Tensor], *inputs: Tensor) -> None:
    inputs = tuple(x.clone().requires_grad_() for x in inputs)
    actual, expected = f(*inputs), g(*inputs)
    assert_close(actual, expected)
    probe = torch.randn(actual.shape)
    for a, e in zip(
        torch.autograd.grad((probe * actual).sum(), inputs),
        torch.autograd.grad((probe * expected).sum(), inputs),
        strict=True,
    ):
        assert_close(a, e)


@pytest.mark.parametrize("beta", [0.0, 0.01, 0.7, "replicas"])
def test_expected_gaussian_log_density_matches_quadrature(beta: float | str) -> None:
    y, partner = torch.randn(R, B, 2), torch.randn(R, B, 2)
    spread = per_replica() if isinstance(beta, str) else beta
    labels = GaussianKernel(spread).pooled(y, partner, WEIGHT, 1)
    weight = WEIGHT[:, None]
    points, weights = gauss_hermite()

    def closed(loc: Tensor, raw: Tensor) -> Tensor:
        return expected_log_prob(dist.Normal(loc, raw.exp()).to_event(1), labels)

    def quadrature(loc: Tensor, raw: Tensor) -> Tensor:
        # One label dimension at a time, [Q, R, B, 2].
        scale = torch.as_tensor(spread).sqrt().reshape(-1, 1, 1)
        value = weight * y + (1 - weight) * partner + scale * points[:, None, None, None]
        scores: Tensor = weights[:, None, None, None] * dist.Normal(loc, raw.exp()).log_prob(value)
        return scores.sum((0, -1))

    assert_same_value_and_gradient(closed, quadrature, torch.randn(R, B, 2), torch.randn(R, B, 2))


def test_expected_multivariate_gaussian_log_density_matches_quadrature() -> None:
    y, partner = torch.randn(B, 2), torch.randn(B, 2)
    labels = GaussianKernel(0.4).pooled(y, partner, WEIGHT, 1)
    points, weights = gauss_hermite(16)
    pairs = torch.cartesian_prod(points, points)[:, None]  # [Q^2, 1, 2]
    pair_weights = torch.cartesian_prod(weights, weights).prod(-1)

    def density(loc: Tensor, raw: Tensor) -> Distribution:
        factor = raw.tril(-1) + raw.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
        return dist.MultivariateNormal(loc, scale_tril=factor)

    def quadrature(loc: Tensor, raw: Tensor) -> Tensor:
        return pair_weights @ density(loc, raw).log_prob(labels.mean + math.sqrt(0.4) * pairs)

    inputs = torch.randn(B, 2), torch.randn(B, 2, 2)
    assert_same_value_and_gradient(lambda *x: expected_log_prob(density(*x), labels), quadrature, *inputs)


@pytest.mark.parametrize("beta", [0.0, 0.01, "replicas"])
def test_expected_class_log_probability_is_the_soft_cross_entropy(beta: float | str) -> None:
    y, partner = torch.randint(3, (R, B)), torch.randint(3, (R, B))
    labels = BiasedCategoricalKernel(per_replica() if isinstance(beta, str) else beta, 3).pooled(y, partner, WEIGHT, 0)

    def closed(logits: Tensor) -> Tensor:
        return expected_log_prob(dist.Categorical(logits=logits), labels)

    def finite_sum(logits: Tensor) -> Tensor:
        p = dist.Categorical(logits=logits)
        scores = [labels.log_prob(k).exp() * p.log_prob(k) for k in labels.enumerate_support()]
        return torch.stack(scores).sum(0)

    assert_same_value_and_gradient(closed, finite_sum, torch.randn(R, B, 3))
    if beta == 0:
        p = dist.Categorical(logits=torch.randn(R, B, 3))
        assert_close(expected_log_prob(p, labels), WEIGHT * p.log_prob(y) + (1 - WEIGHT) * p.log_prob(partner))


@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_expected_binary_log_probability_is_the_soft_cross_entropy(beta: float) -> None:
    y, partner = torch.randint(2, (R, B, 2)).double(), torch.randint(2, (R, B, 2)).double()
    labels = BiasedBernoulliKernel(beta).pooled(y, partner, WEIGHT, 1)

    def closed(logits: Tensor) -> Tensor:
        return expected_log_prob(dist.Bernoulli(logits=logits).to_event(1), labels)

    def cross_entropy(logits: Tensor) -> Tensor:
        return -torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.mean, reduction="none").sum(-1)

    assert_same_value_and_gradient(closed, cross_entropy, torch.randn(R, B, 2))


def test_classes_without_weight_do_not_count_even_at_log_zero() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    labels = BiasedCategoricalKernel(0.0, 3).pooled(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]), 0)
    expected = expected_log_prob(dist.Categorical(logits=logits), labels)
    assert_close(expected, torch.tensor([-math.log(2)]))
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.isfinite(gradient).all()


SUPPORTED: dict[str, tuple[Callable[[Tensor], Distribution], Callable[[], Tensor], int]] = {
    "Poisson": (lambda raw: dist.Poisson(raw.exp()), lambda: torch.randint(9, (R, B)).double(), 0),
    "Poisson, two counts": (lambda raw: dist.Poisson(raw.exp()[..., None].expand(R, B, 2)).to_event(1),
                            lambda: torch.randint(9, (R, B, 2)).double(), 1),
    "Gamma": (lambda raw: dist.Gamma(raw.exp(), 2.0), lambda: torch.rand(R, B) + 0.1, 0),
    "Beta": (lambda raw: dist.Beta(raw.exp(), 2.0), lambda: torch.rand(R, B).clamp(0.1, 0.9), 0),
    "Dirichlet": (lambda raw: dist.Dirichlet(torch.stack([raw, -raw], -1).exp()),
                  lambda: torch.randn(R, B, 2).softmax(-1), 1),
    "linear pool": (lambda raw: linear_pool(dist.Normal(raw, 1.0), dist.Normal(0.0, raw.exp()), 0.3),
                    lambda: torch.randn(R, B), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_expected_log_density_of_two_points_is_their_weighted_mean(name: str) -> None:
    make, labels, event_dim = SUPPORTED[name]
    y, partner = labels(), labels()
    pooled = DiracKernel().pooled(y, partner, WEIGHT, event_dim)

    def weighted_mean(raw: Tensor) -> Tensor:
        return WEIGHT * make(raw).log_prob(y) + (1 - WEIGHT) * make(raw).log_prob(partner)

    assert_same_value_and_gradient(lambda raw: expected_log_prob(make(raw), pooled), weighted_mean, torch.randn(R, B))


DRAWN: dict[str, tuple[Callable[[], Distribution], Callable[[], Distribution]]] = {
    "Gaussian": (
        lambda: dist.Normal(torch.randn(R, B, 2), 0.8).to_event(1),
        lambda: GaussianKernel(0.3).pooled(torch.randn(B, 2), torch.randn(B, 2), WEIGHT, 1),
    ),
    "categorical": (
        lambda: dist.Categorical(logits=torch.randn(R, B, 4)),
        lambda: BiasedCategoricalKernel(0.3, 4).pooled(torch.randint(4, (B,)), torch.randint(4, (B,)), WEIGHT, 0),
    ),
    "Bernoulli": (
        lambda: dist.Bernoulli(logits=torch.randn(R, B)),
        lambda: BiasedBernoulliKernel(0.3).pooled(torch.ones(B), torch.zeros(B), WEIGHT, 0),
    ),
    "Dirac": (
        lambda: dist.Normal(torch.randn(R, B, 2), 0.8).to_event(1),
        lambda: DiracKernel().pooled(torch.randn(B, 2), torch.randn(B, 2), WEIGHT, 1),
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_expectation_is_the_mean_over_drawn_labels(name: str) -> None:
    density, labels = DRAWN[name]
    p, drawn = density(), labels()
    scores = p.log_prob(drawn.expand((R, B)).sample((DRAWS,)))
    error = scores.std(0) / math.sqrt(DRAWS)
    assert ((scores.mean(0) - expected_log_prob(p, drawn)).abs() <= 4 * error + 1e-9).all()


def test_wrappers_and_pools_of_the_density_are_looked_through() -> None:
    y, partner = torch.randn(B, 2), torch.randn(B, 2)
    base = dist.Normal(torch.randn(B, 2), 0.5).to_event(1)
    mask = torch.tensor([True, False, True, False])
    for labels in (GaussianKernel(0.2).pooled(y, partner, WEIGHT, 1), DiracKernel().pooled(y, partner, WEIGHT, 1)):
        expected = expected_log_prob(base, labels)
        assert_close(expected_log_prob(base.mask(mask), labels), expected * mask)
        assert_close(expected_log_prob(base.mask(False), labels), torch.zeros(B))
        assert_close(expected_log_prob(ExpandedDistribution(base, (R, B)), labels), expected.expand(R, B))
        pool = log_linear_pool(base, base, 0.5)
        assert_close(expected_log_prob(pool, labels), expected)


def test_linear_pools_of_classes_are_averaged_over_soft_labels() -> None:
    p = linear_pool(dist.Categorical(logits=torch.randn(R, B, 3)), dist.Categorical(logits=torch.randn(R, B, 3)), 0.4)
    y, partner = torch.randint(3, (B,)), torch.randint(3, (B,))  # shared by the replicas
    labels = BiasedCategoricalKernel(0.0, 3).pooled(y, partner, WEIGHT, 0)
    expected = WEIGHT * p.log_prob(y.expand(R, B)) + (1 - WEIGHT) * p.log_prob(partner.expand(R, B))
    assert_close(expected_log_prob(p, labels), expected)


@pytest.mark.parametrize(
    ("p", "labels", "names"),
    [
        (lambda: dist.Gamma(ones(2), 1.0), lambda: dist.Normal(ones(2), 1.0), ("Gamma", "Normal")),
        (lambda: dist.StudentT(3.0, ones(2), 1.0), lambda: dist.Normal(ones(2), 1.0), ("StudentT", "Normal")),
        (
            lambda: linear_pool(dist.Normal(ones(2), 1.0), dist.Normal(ones(2), 2.0), 0.5),
            lambda: dist.Normal(ones(2), 1.0),
            ("LinearPool", "Normal"),
        ),
        (
            lambda: dist.Laplace(ones(2, 3), 1.0).to_event(1),
            lambda: dist.Normal(ones(2, 3), 1.0).to_event(1),
            ("Laplace", "Normal"),
        ),
        (
            lambda: dist.Normal(ones(2, 3), 1.0).to_event(1),
            lambda: dist.Normal(ones(2, 3), 1.0).to_event(2),
            ("Independent",),
        ),
        (
            lambda: dist.MultivariateNormal(ones(2, 3), torch.eye(3)),
            lambda: dist.Laplace(ones(2, 3), 1.0).to_event(1),
            ("MultivariateNormal", "Independent"),
        ),
    ],
)
def test_no_closed_form_is_said_with_both_types(
    p: Callable[[], Distribution], labels: Callable[[], Distribution], names: tuple[str, ...]
) -> None:
    with pytest.raises(TypeError, match=r"no closed form.*Try labels='sample'") as caught:
        expected_log_prob(p(), labels())
    assert all(name in str(caught.value) for name in names)


def test_users_register_rules_of_their_own() -> None:
    class Shifted(dist.Normal):
        pass

    @register_expected_log_prob(dist.Laplace, Shifted)
    def rule(p: Distribution, labels: Distribution) -> Tensor:
        return torch.full(p.batch_shape, 7.0)

    assert expected_log_prob(dist.Laplace(ones(2), 1.0), Shifted(ones(2), 1.0)).tolist() == [7.0, 7.0]
    with pytest.raises(TypeError):
        expected_log_prob(dist.Laplace(ones(2), 1.0), dist.Normal(ones(2), 1.0))


# The expected likelihood at an observed site


def test_expected_likelihood_ignores_the_value_and_is_otherwise_the_density() -> None:
    p = dist.Normal(torch.randn(B, 2), 0.5).to_event(1)
    labels = GaussianKernel(0.2).pooled(torch.randn(B, 2), torch.randn(B, 2), WEIGHT, 1)
    likelihood = ExpectedLikelihood(p, labels)
    expected = expected_log_prob(p, labels)
    for value in (torch.zeros(B, 2), torch.full((B, 2), math.nan)):
        assert_close(likelihood.log_prob(value), expected)
    assert (likelihood.batch_shape, likelihood.event_shape) == (p.batch_shape, p.event_shape)
    assert likelihood.support.base_constraint is p.support.base_constraint
    assert likelihood.has_rsample and not ExpectedLikelihood(dist.Poisson(ones(B)), dist.Delta(ones(B))).has_rsample
    torch.manual_seed(1)
    draw = likelihood.rsample((3,))
    torch.manual_seed(1)
    assert torch.equal(draw, p.rsample((3,)))
    assert likelihood.sample().shape == (B, 2)
    wide = likelihood.expand((R, B))
    assert wide.batch_shape == (R, B)
    assert_close(wide.log_prob(torch.zeros(B, 2)), expected.expand(R, B))


def test_expanding_an_expected_likelihood_leaves_the_density() -> None:
    p = ExpandedDistribution(dist.Normal(torch.randn(B), 0.5), (B,))
    likelihood = ExpectedLikelihood(p, dist.Delta(torch.randn(B)))
    assert likelihood.expand((R, B)).log_prob(torch.zeros(B)).shape == (R, B)
    assert p.batch_shape == (B,) and likelihood.log_prob(torch.zeros(B)).shape == (B,)


def test_expected_likelihood_is_an_observed_site() -> None:
    y = torch.randint(3, (R, B))
    labels = BiasedCategoricalKernel(0.1, 3).pooled(y, y.flip(-1), WEIGHT, 0)
    logits = torch.randn(R, B, 3, requires_grad=True)

    def model(observed: bool = True) -> Tensor:
        with pyro.plate("replica", R, dim=-2), pyro.plate("data", B, dim=-1), pyro.poutine.scale(scale=2.0):
            p = dist.Categorical(logits=logits)
            value: Tensor = pyro.sample("y", ExpectedLikelihood(p, labels), obs=y if observed else None)
        return value

    with pyro.validation_enabled(True):
        trace = pyro.poutine.trace(model).get_trace()
        loss = pyro.infer.Trace_ELBO().differentiable_loss(model, lambda: None)
    expected = 2 * expected_log_prob(dist.Categorical(logits=logits), labels).sum()
    assert_close(torch.as_tensor(trace.log_prob_sum()), expected)
    assert_close(loss, -expected)
    assert_close(torch.autograd.grad(loss, logits)[0], -torch.autograd.grad(expected, logits)[0])
    assert model(observed=False).shape == (R, B)


@pytest.mark.parametrize(
    "labels", [lambda: dist.Delta(ones(5)), lambda: dist.Delta(ones(R, B)), lambda: dist.Delta(ones(B, 2), event_dim=1)]
)
def test_labels_of_another_shape_are_refused(labels: Callable[[], Distribution]) -> None:
    with pytest.raises(ValueError, match=r"do not fit a density with \[4\] and \[\]. Try "):
        ExpectedLikelihood(dist.Normal(ones(B), 1.0), labels())
