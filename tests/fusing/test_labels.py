"""Perturbed labels stay labels: on every support of pyro.distributions, on the circle and the sphere, and under MCMC."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer.mcmc import HMC, MCMC, NUTS
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.distributions import AffineTransform, Distribution, ExpTransform

from pyro_probmix import fuse
from pyro_probmix.fusing.kernels.defaults import default_kernel
from pyro_probmix.fusing.kernels.directional import Angles, CircularKernel, Directions, SphericalKernel
from pyro_probmix.fusing.kernels.kernels import BiasedOneHotKernel, DiracKernel, GaussianKernel, expected_log_prob
from pyro_probmix.fusing.perturbation import Labels
from pyro_probmix.pooling import linear_pool, log_linear_pool

B = 4


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)
    yield
    torch.set_default_dtype(before)


def ones(*shape: int) -> Tensor:
    return torch.ones(B, *shape)


def eye(n: int) -> Tensor:
    return torch.eye(n).expand(B, n, n)


def unit(*shape: int) -> Tensor:
    v = torch.randn(B, *shape)
    directions: Tensor = v / v.norm(dim=-1, keepdim=True)
    return directions


def mixture(component: Any) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(ones(2)), component)


HMM = (ones(3, 2, 2), dist.Normal(torch.randn(B, 3, 2, 2), 1.0).to_event(1))
LINEAR_HMM = (
    dist.Normal(ones(2), 1.0).to_event(1),
    ones(3, 2, 2),
    dist.Normal(ones(3, 2), 1.0).to_event(1),
    ones(3, 2, 2),
)

#: Class -> a density of B rows.
DENSITIES: dict[str, Callable[[], Any]] = {
    "AVFMultivariateNormal": lambda: dist.ExpandedDistribution(
        dist.AVFMultivariateNormal(torch.ones(2), torch.eye(2), torch.ones(2, 2, 2)), (B,)
    ),
    "AffineBeta": lambda: dist.AffineBeta(ones(), 2 * ones(), -3.0, 5.0),
    "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(ones(), 1.0, 2.0),
    "Bernoulli": lambda: dist.Bernoulli(0.4 * ones()),
    "Beta": lambda: dist.Beta(ones(), 2.0),
    "BetaBinomial": lambda: dist.BetaBinomial(ones(), 2.0, 5),
    "Binomial": lambda: dist.Binomial(5, 0.4 * ones()),
    "Categorical": lambda: dist.Categorical(ones(3)),
    "Cauchy": lambda: dist.Cauchy(ones(), 1.0),
    "Chi2": lambda: dist.Chi2(ones()),
    "CoalescentTimes": lambda: dist.CoalescentTimes(torch.zeros(B, 3)),
    "CoalescentTimesWithRate": lambda: dist.CoalescentTimesWithRate(torch.zeros(3), ones(9)),
    "ContinuousBernoulli": lambda: dist.ContinuousBernoulli(0.4 * ones()),
    "Delta": lambda: dist.Delta(torch.randn(B)),
    "Dirichlet": lambda: dist.Dirichlet(ones(3)),
    "DirichletMultinomial": lambda: dist.DirichletMultinomial(ones(3), 4),
    "DiscreteHMM": lambda: dist.DiscreteHMM(ones(2), *HMM),
    "Empirical": lambda: dist.Empirical(torch.arange(5.0).expand(B, 5), torch.zeros(B, 5)),
    "ExpandedDistribution": lambda: dist.ExpandedDistribution(dist.Poisson(torch.tensor(2.0)), (B,)),
    "Exponential": lambda: dist.Exponential(ones()),
    "ExtendedBetaBinomial": lambda: dist.ExtendedBetaBinomial(ones(), 2.0, 5 * ones()),
    "ExtendedBinomial": lambda: dist.ExtendedBinomial(5 * ones(), 0.4 * ones()),
    "FisherSnedecor": lambda: dist.FisherSnedecor(ones(), 2.0),
    "FoldedDistribution": lambda: dist.FoldedDistribution(dist.Normal(ones(), 1.0)),
    "Gamma": lambda: dist.Gamma(ones(), 1.0),
    "GammaGaussianHMM": lambda: dist.GammaGaussianHMM(
        dist.Gamma(ones(), 1.0), dist.MultivariateNormal(ones(2), eye(2)), torch.ones(3, 2, 2),
        dist.MultivariateNormal(torch.ones(3, 2), torch.eye(2)), torch.ones(3, 2, 2),
        dist.MultivariateNormal(torch.ones(3, 2), torch.eye(2)),
    ),
    "GammaPoisson": lambda: dist.GammaPoisson(ones(), 1.0),
    "GaussianHMM": lambda: dist.GaussianHMM(
        dist.MultivariateNormal(ones(2), eye(2)), torch.ones(3, 2, 2), dist.MultivariateNormal(torch.ones(3, 2), torch.eye(2)),
        torch.ones(3, 2, 2), dist.MultivariateNormal(torch.ones(3, 2), torch.eye(2)),
    ),
    "GaussianMRF": lambda: dist.GaussianMRF(
        dist.MultivariateNormal(ones(2), eye(2)), dist.MultivariateNormal(torch.ones(3, 4), torch.eye(4)),
        dist.MultivariateNormal(torch.ones(3, 4), torch.eye(4)),
    ),
    "GeneralizedPareto": lambda: vars(dist)["GeneralizedPareto"](ones(), 1.0, 2.0),
    "Geometric": lambda: dist.Geometric(0.4 * ones()),
    "Gumbel": lambda: dist.Gumbel(ones(), 1.0),
    "HalfCauchy": lambda: dist.HalfCauchy(ones()),
    "HalfNormal": lambda: dist.HalfNormal(ones()),
    "ImproperUniform": lambda: dist.ImproperUniform(constraints.positive, (B,), ()),
    "Independent": lambda: dist.Poisson(ones(3)).to_event(1),
    "IndependentHMM": lambda: dist.IndependentHMM(
        dist.GaussianHMM(
            dist.MultivariateNormal(ones(2, 1), torch.eye(1)), torch.ones(3, 1, 1),
            dist.MultivariateNormal(torch.ones(3, 1), torch.eye(1)), torch.ones(3, 1, 1),
            dist.MultivariateNormal(torch.ones(3, 1), torch.eye(1)),
        )
    ),
    "InverseGamma": lambda: dist.InverseGamma(ones(), 1.0),
    "Kumaraswamy": lambda: dist.Kumaraswamy(ones(), 2.0),
    "LKJ": lambda: dist.LKJ(3, ones()),
    "LKJCholesky": lambda: dist.LKJCholesky(3, ones()),
    "LKJCorrCholesky": lambda: dist.LKJCorrCholesky(3, ones()),
    "Laplace": lambda: dist.Laplace(ones(), 1.0),
    "LinearHMM": lambda: dist.LinearHMM(*LINEAR_HMM, dist.Normal(ones(3, 2), 1.0).to_event(1)),
    "LogNormal": lambda: dist.LogNormal(ones(), 1.0),
    "LogNormalNegativeBinomial": lambda: dist.LogNormalNegativeBinomial(5 * ones(), ones(), 1.0),
    "Logistic": lambda: dist.Logistic(ones(), 1.0),
    "LogisticNormal": lambda: dist.LogisticNormal(ones(2), 1.0),
    "LowRankMultivariateNormal": lambda: dist.LowRankMultivariateNormal(ones(2), ones(2, 1), ones(2)),
    "MaskedDistribution": lambda: dist.Poisson(ones()).mask(torch.tensor([True, False, True, True])),
    "MaskedMixture": lambda: dist.MaskedMixture(torch.arange(B) < 2, dist.Gamma(ones(), 1.0), dist.Exponential(ones())),
    "MixtureOfDiagNormals": lambda: dist.MixtureOfDiagNormals(ones(2, 3), ones(2, 3), ones(2)),
    "MixtureOfDiagNormalsSharedCovariance": lambda: dist.MixtureOfDiagNormalsSharedCovariance(
        ones(2, 3), ones(3), ones(2)
    ),
    "MixtureSameFamily": lambda: mixture(dist.Poisson(ones(2))),
    "Multinomial": lambda: dist.Multinomial(4, ones(3)),
    "MultivariateNormal": lambda: dist.MultivariateNormal(ones(2), eye(2)),
    "MultivariateStudentT": lambda: dist.MultivariateStudentT(3 * ones(), ones(2), eye(2)),
    "NanMaskedMultivariateNormal": lambda: dist.NanMaskedMultivariateNormal(ones(2), eye(2)),
    "NanMaskedNormal": lambda: dist.NanMaskedNormal(ones(), 1.0),
    "NegativeBinomial": lambda: dist.NegativeBinomial(5 * ones(), 0.4),
    "Normal": lambda: dist.Normal(ones(), 1.0),
    "OMTMultivariateNormal": lambda: dist.ExpandedDistribution(
        dist.OMTMultivariateNormal(torch.ones(2), torch.eye(2)), (B,)
    ),
    "OneHotCategorical": lambda: dist.OneHotCategorical(ones(3)),
    "OneHotCategoricalStraightThrough": lambda: dist.OneHotCategoricalStraightThrough(ones(3)),
    "OneOneMatching": lambda: dist.OneOneMatching(torch.randn(3, 3)).expand((B,)),
    "OneTwoMatching": lambda: dist.OneTwoMatching(torch.randn(4, 2)).expand((B,)),
    "OrderedLogistic": lambda: dist.OrderedLogistic(torch.randn(B), torch.tensor([-1.0, 1.0])),
    "Pareto": lambda: dist.Pareto(ones(), 1.0),
    "Poisson": lambda: dist.Poisson(3 * ones()),
    "ProjectedNormal": lambda: dist.ProjectedNormal(2 * unit(3)),
    "RelaxedBernoulli": lambda: dist.RelaxedBernoulli(torch.tensor(0.5), 0.4 * ones()),
    "RelaxedBernoulliStraightThrough": lambda: dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), 0.4 * ones()),
    "RelaxedOneHotCategorical": lambda: dist.RelaxedOneHotCategorical(torch.tensor(0.5), ones(3)),
    "RelaxedOneHotCategoricalStraightThrough": lambda: dist.RelaxedOneHotCategoricalStraightThrough(
        torch.tensor(0.5), ones(3)
    ),
    "SineBivariateVonMises": lambda: dist.SineBivariateVonMises(ones(), ones(), ones(), ones(), 0.3 * ones()),
    "SineSkewed": lambda: dist.SineSkewed(dist.VonMises(ones(1), 1.0).to_event(1), 0.3 * ones(1)),
    "SkewLogistic": lambda: dist.SkewLogistic(ones(), 1.0, 0.5),
    "SoftAsymmetricLaplace": lambda: dist.SoftAsymmetricLaplace(ones(), 1.0, 1.0, 2.0),
    "SoftLaplace": lambda: dist.SoftLaplace(ones(), 1.0),
    "Stable": lambda: dist.Stable(1.5 * ones(), 0.0, 1.0),
    "StableWithLogProb": lambda: dist.StableWithLogProb(1.5 * ones(), 0.0, 1.0),
    "StudentT": lambda: dist.StudentT(3.0, ones(), 1.0),
    "TransformedDistribution": lambda: dist.TransformedDistribution(dist.Normal(ones(), 1.0), [ExpTransform()]),
    "TruncatedPolyaGamma": lambda: dist.TruncatedPolyaGamma(torch.ones(1)).expand((B,)),
    "Uniform": lambda: dist.Uniform(-ones(), 2.0),
    "VonMises": lambda: dist.VonMises(3 * ones(), 2.0),
    "VonMises3D": lambda: dist.VonMises3D(2 * unit(3)),
    "Weibull": lambda: dist.Weibull(ones(), 2.0),
    "Wishart": lambda: dist.Wishart(3 * ones(), eye(2)),
    "ZeroInflatedDistribution": lambda: dist.ZeroInflatedDistribution(dist.Poisson(3 * ones()), gate=0.4 * ones()),
    "ZeroInflatedNegativeBinomial": lambda: dist.ZeroInflatedNegativeBinomial(5 * ones(), gate=0.4 * ones(), probs=0.4),
    "ZeroInflatedPoisson": lambda: dist.ZeroInflatedPoisson(3 * ones(), gate=0.4 * ones()),
}  # fmt: skip

#: Labels of classes that draw none.
DRAWS: dict[str, Callable[[], Tensor]] = {
    "CoalescentTimesWithRate": lambda: torch.tensor([-2.0, -1.0]).expand(B, 2),
    "GammaGaussianHMM": lambda: torch.randn(B, 3, 2),
    "GaussianMRF": lambda: torch.randn(B, 3, 2),
    "ImproperUniform": lambda: torch.rand(B),
    "LogNormalNegativeBinomial": lambda: torch.poisson(3 * ones()),
    "VonMises3D": lambda: unit(3),
    "Wishart": lambda: dist.LKJ(2, ones()).sample() + eye(2),  # its own draws warn
}

#: Classes without an observation in each of B rows: bases of others, parts of algorithms, or without a batch.
NO_ROWS = {
    "ExponentialFamily", "GaussianScaleMixture", "GroupedNormalNormal", "Rejector", "SpanningTree", "TorchDistribution", "Unit"
}  # fmt: skip
#: Classes without a density at all, or at labels between two points.
NO_DENSITY = {"Delta", "ImproperUniform", "LinearHMM", "Stable"}


def test_every_class_of_pyro_is_placed() -> None:
    everything = vars(dist).items()
    classes = {name for name, c in everything if isinstance(c, type) and issubclass(c, Distribution)}
    assert classes == {*DENSITIES, *NO_ROWS}


@pytest.mark.filterwarnings("ignore:class LKJCorrCholesky:FutureWarning")
@pytest.mark.parametrize("name", DENSITIES)
def test_mixed_labels_are_labels(name: str) -> None:
    """Of any weight they lie in the support, and where the density of both labels is positive so is that between."""
    p = DENSITIES[name]()
    y = DRAWS[name]() if name in DRAWS else p.sample()
    partner, weight = y.roll(2, 0), torch.tensor([0.0, 0.3, 0.6, 1.0])
    for _ in range(5):
        mixed = default_kernel(p).pooled(y, partner, weight, p.event_dim).sample()
        assert mixed.shape == y.shape
        assert bool(torch.as_tensor(p.support.check(mixed)).all())
        if name not in NO_DENSITY:
            assert bool(p.log_prob(mixed).isfinite().all())


# The circle

ANGLES = torch.tensor([3.1, 0.2, -2.0, 1.5], dtype=torch.float64)
OTHERS = torch.tensor([-3.1, 1.0, 2.5, -1.5], dtype=torch.float64)
WEIGHT = torch.tensor([0.5, 0.3, 0.9, 0.0], dtype=torch.float64)


def between(y: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """The angle of the weighted sum of two unit vectors, by complex numbers."""
    return (
        weight * torch.polar(torch.ones_like(y), y) + (1 - weight) * torch.polar(torch.ones_like(y), partner)
    ).angle()


@pytest.mark.parametrize("turns", [0, 1, -3])
def test_angles_are_mixed_along_the_circle(turns: int) -> None:
    y = ANGLES + 2 * math.pi * turns
    mixed = CircularKernel().pooled(y, OTHERS, WEIGHT, 0).sample()
    expected = between(ANGLES, OTHERS, WEIGHT)
    torch.testing.assert_close(torch.cos(mixed - expected), torch.ones(B), rtol=0, atol=1e-12)
    assert bool(((mixed >= -math.pi) & (mixed < math.pi)).all())
    assert abs(mixed[0].abs() - math.pi) < 1e-12


def test_opposite_angles_keep_the_own_label_and_a_weight_of_one_keeps_it_to_the_last_digit() -> None:
    y = torch.tensor([0.5, 2.0])
    opposite = CircularKernel(period=1.0).pooled(torch.tensor([0.25]), torch.tensor([-0.25]), torch.tensor([0.5]), 0)
    assert abs(opposite.sample().abs().item() % 0.25) < 1e-9  # either the own label, or one of the two in the middle
    assert torch.equal(CircularKernel().pooled(y, torch.tensor([1.0, -3.0]), torch.ones(2), 0).sample(), y)


def test_hours_of_the_day_are_mixed_across_midnight() -> None:
    kernel = CircularKernel(period=24.0)
    mixed = kernel.pooled(torch.tensor([23.0]), torch.tensor([2.0]), torch.tensor([0.5]), 0).sample()
    torch.testing.assert_close(mixed % 24, torch.tensor([0.5]))
    scaled = dist.TransformedDistribution(
        dist.VonMises(torch.zeros(B), 2.0), [AffineTransform(1.0, 24 / (2 * math.pi))]
    )
    found = default_kernel(scaled)
    assert isinstance(found, CircularKernel) and found.period == pytest.approx(24.0)


@pytest.mark.parametrize("num_fused", [2, 3])
@pytest.mark.parametrize("period", [2 * math.pi, 24.0])
def test_the_circular_kernel_is_the_normalised_product_of_powers(period: float, num_fused: int) -> None:
    beta, radians = 0.6, 2 * math.pi / period
    labels = [
        torch.tensor([3.0, 0.2]) / radians,
        torch.tensor([-2.0, 1.0]) / radians,
        torch.tensor([0.3, 2.0]) / radians,
    ]
    weights = (
        torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
        if num_fused == 2
        else torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    )
    labels = labels[:num_fused]
    grid = torch.linspace(-period / 2, period / 2, 20_001)[:-1, None]
    product = torch.stack(
        [
            w * torch.cos((grid - y) * radians) / (beta * radians**2)
            for w, y in zip(weights.unbind(-1), labels, strict=False)
        ]
    ).sum(0)
    expected = product - product.logsumexp(0) - math.log(period / len(grid))
    kernel = CircularKernel(beta, period)
    pooled = kernel.pooled(
        labels[0], labels[1] if num_fused == 2 else labels[1:], weights[:, 0] if num_fused == 2 else weights, 0
    )
    torch.testing.assert_close(pooled.log_prob(grid), expected, rtol=1e-9, atol=1e-9)
    # Draws against the mean of their unit vectors.
    draws = pooled.sample((40_000,)) * radians
    for part in (torch.cos, torch.sin):
        mean = (expected.exp() * part(grid * radians)).sum(0) * (period / len(grid))
        assert bool(((part(draws).mean(0) - mean).abs() < 4 * part(draws).std(0) / math.sqrt(40_000)).all())


@pytest.mark.parametrize(
    ("density", "kernel"),
    [
        (lambda: dist.VonMises(ones(3), 2.0).to_event(1).mask(torch.arange(B) < 2), CircularKernel),
        (lambda: mixture(dist.VonMises(ones(2), 2.0)), CircularKernel),
        (
            lambda: mixture(dist.SineBivariateVonMises(ones(2), ones(2), ones(2), ones(2), 0.3 * ones(2))),
            CircularKernel,
        ),
        (lambda: linear_pool(dist.VonMises(ones(), 2.0), dist.VonMises(-ones(), 2.0), 0.3), CircularKernel),
        (lambda: log_linear_pool(dist.VonMises(ones(), 2.0), dist.VonMises(-ones(), 2.0), 0.3), CircularKernel),
        (lambda: dist.SineSkewed(dist.Uniform(-math.pi, math.pi).expand((B, 1)).to_event(1), ones(1)), CircularKernel),
        (
            lambda: dist.MaskedMixture(torch.arange(B) < 2, dist.VonMises(ones(), 1.0), dist.Normal(ones(), 1.0)),
            DiracKernel,
        ),
        (lambda: dist.TransformedDistribution(dist.VonMises(ones(), 1.0), [AffineTransform(0.0, ones())]), DiracKernel),
        (lambda: dist.TransformedDistribution(dist.Normal(ones(), 1.0), [AffineTransform(0.0, 3.0)]), GaussianKernel),
        (lambda: dist.ZeroInflatedDistribution(dist.Normal(ones(), 1.0), gate=0.4 * ones()), DiracKernel),
        (lambda: dist.ProjectedNormal(unit(2)), SphericalKernel),
        (lambda: dist.OneHotCategorical(logits=ones(3)).expand_by([2]).to_event(1), BiasedOneHotKernel),
    ],
)
def test_what_lies_on_a_circle_is_told_by_what_is_inside(density: Callable[[], Any], kernel: type) -> None:
    assert type(default_kernel(density())) is kernel


def test_an_expected_angle_is_the_integral() -> None:
    p = dist.VonMises(torch.tensor([0.3, -1.0, 2.0, 3.0]), torch.tensor([2.0, 0.5, 1.0, 10.0]))
    beta = torch.tensor([0.5, 0.0, 2.0, 0.1])
    labels = CircularKernel(beta).pooled(ANGLES, OTHERS, WEIGHT, 0)
    assert isinstance(labels, Angles)
    grid = torch.linspace(-math.pi, math.pi, 20_001)[:-1, None]
    expected = (labels.log_prob(grid).exp() * p.log_prob(grid)).sum(0) * (2 * math.pi / len(grid))
    expected[1] = p.log_prob(labels.loc)[1]  # a point
    torch.testing.assert_close(expected_log_prob(p, labels), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(labels.sample()[1], labels.loc[1])


# The sphere


def sphere(n: int) -> tuple[Tensor, Tensor]:
    """Points of a product grid on the sphere in three dimensions, and the log of their areas."""
    height, angle = torch.meshgrid(
        (torch.arange(n) + 0.5) * 2 / n - 1, torch.arange(n) * 2 * math.pi / n, indexing="ij"
    )
    width = (1 - height**2).sqrt()
    points = torch.stack([width * angle.cos(), width * angle.sin(), height], -1).reshape(-1, 1, 3)
    return points, torch.tensor(4 * math.pi / len(points)).log()


def test_directions_are_mixed_along_the_sphere() -> None:
    y, partner = unit(3), unit(3)
    mixed = SphericalKernel().pooled(y, partner, WEIGHT, 1).sample()
    expected = WEIGHT[:, None] * y + (1 - WEIGHT[:, None]) * partner
    torch.testing.assert_close(mixed, expected / expected.norm(dim=-1, keepdim=True))
    opposite = SphericalKernel().pooled(y, -y, torch.full((B,), 0.5), 1).sample()
    torch.testing.assert_close(opposite, y)


def test_the_spherical_kernel_is_the_normalised_product_of_powers() -> None:
    y, partner, beta = unit(3), unit(3), 0.7
    points, log_area = sphere(400)
    product = (WEIGHT * (points * y).sum(-1) + (1 - WEIGHT) * (points * partner).sum(-1)) / beta
    expected = product - product.logsumexp(0) - log_area
    labels = SphericalKernel(beta).pooled(y, partner, WEIGHT, 1)
    torch.testing.assert_close(labels.log_prob(points), expected, rtol=1e-4, atol=1e-4)
    p = dist.VonMises3D(torch.randn(B, 3))
    with pyro.validation_enabled(False):
        integral = (labels.log_prob(points).exp() * (p.log_prob(points))).sum(0) * log_area.exp()
    torch.testing.assert_close(expected_log_prob(p, labels), integral, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_draws_of_directions_have_the_mean_of_their_density(d: int) -> None:
    """Among them one that is a point, and one that is uniform; E[y] = A mu, with A the slope of the log normaliser."""
    direction = torch.nn.functional.one_hot(torch.zeros(B, dtype=torch.long), d).double()
    concentration = torch.tensor([0.0, 1.5, 40.0, math.inf])
    labels = Directions(direction, concentration)
    draws = labels.sample((40_000,))
    torch.testing.assert_close(draws.norm(dim=-1), torch.ones(40_000, B))
    cosine = torch.linspace(-1, 1, 200_001)[1:-1, None]
    log_weight = (concentration[:3] * cosine) + (d - 3) / 2 * torch.log1p(-cosine.square())
    mean = (log_weight.softmax(0) * cosine).sum(0)
    error = 4 * draws[..., 0].std(0) / 200
    assert bool(((draws[:, :3, 0].mean(0) - mean).abs() < error[:3] + 1e-3).all())
    assert bool((draws[:, 3] == direction[3]).all())
    assert bool((draws[..., 1:].mean(0).abs() < 5 / 200).all())
    if d == 3:
        points, log_area = sphere(300)
        torch.testing.assert_close(
            (labels.log_prob(points)[:, :3].logsumexp(0) + log_area).exp(), torch.ones(3), rtol=1e-3, atol=0
        )


# One-hot labels


@pytest.mark.parametrize("beta", [0.0, 0.3, torch.tensor([0.0, 0.3, 1.0, 0.0])])
def test_one_hot_labels_get_the_kernel_of_their_classes(beta: float | Tensor) -> None:
    classes, others = torch.tensor([0, 2, 1, 1]), torch.tensor([1, 2, 0, 2])
    p: Any = dist.OneHotCategorical(logits=torch.randn(B, 3))
    kernel = default_kernel(p, beta)
    one_hot = [torch.nn.functional.one_hot(k, 3).double() for k in (classes, others)]
    pooled: Any = kernel.pooled(one_hot[0], one_hot[1], WEIGHT, 1)
    plain: Any = default_kernel(dist.Categorical(p.probs), beta).pooled(classes, others, WEIGHT, 0)
    torch.testing.assert_close(pooled.probs, plain.probs)
    expected = expected_log_prob(dist.Categorical(p.probs), plain)
    torch.testing.assert_close(expected_log_prob(p, pooled), expected)
    torch.testing.assert_close(expected_log_prob(linear_pool(p, p, 0.5), pooled), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BiasedOneHotKernel(0.1).pooled(ones(3), ones(3), WEIGHT, 1), "must be one-hot"),
        (lambda: SphericalKernel().pooled(ones(3), ones(3), WEIGHT, 1), "vectors of length 1"),
        (lambda: CircularKernel(-1.0), "finite and not negative"),
        (lambda: CircularKernel(period=0.0), "period=0.0, expected a positive number"),
        (lambda: default_kernel(dist.Dirichlet(ones(3)), 0.1), "no meaning for the labels of a Dirichlet"),
        (lambda: default_kernel(Unsupported()), "Unsupported has no support"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_sentence(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}.*Try "):
        build()


class Unsupported(TorchDistribution):
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's attribute)


# MCMC


def regression(x: Tensor, y: Tensor, density: Callable[[Tensor], Any]) -> None:
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", density(w * x), obs=y)


X = torch.linspace(-1.5, 1.5, 12, dtype=torch.float64)[torch.tensor([0, 7, 3, 10, 5, 1, 9, 2, 11, 4, 8, 6])]
RANDOM_LABELS: dict[str, tuple[Callable[[Tensor], Any], Tensor, float]] = {
    "Normal": (lambda m: dist.Normal(m, 0.5), X + 0.3 * X.sin(), 0.25),
    "Poisson": (lambda m: dist.Poisson(m.exp()), (2 * X.exp()).round(), 0.0),
    "Bernoulli": (lambda m: dist.Bernoulli(logits=m), (X > 0).double(), 0.0),
    "VonMises": (lambda m: dist.VonMises(m, 2.0), X, 0.1),
    "linear": (lambda m: dist.Gamma(m.exp(), 1.0), X.exp(), 0.0),
}


@pytest.mark.parametrize("weight", [0.5, dist.Beta(2.0, 2.0)], ids=["fixed", "drawn"])
@pytest.mark.parametrize("name", RANDOM_LABELS)
def test_a_potential_energy_has_one_value_and_leaves_no_trace_in_the_random_numbers(name: str, weight: Any) -> None:
    density, y, beta = RANDOM_LABELS[name]
    fused = fuse(regression, at="y", weight=weight, beta=beta, pool="linear" if name == "linear" else "log-linear")
    initial, potential, _, _ = initialize_model(fused, (X, y, density))
    before = torch.get_rng_state()
    values = [potential(initial) for _ in range(3)]
    assert torch.equal(before, torch.get_rng_state())
    assert values[0] == values[1] == values[2]
    # Outside of a chain labels are drawn anew.
    draws = [poutine.trace(fused).get_trace(X, y, density).nodes["y"]["value"] for _ in range(8)]
    assert any(not torch.equal(draws[0], draw) for draw in draws[1:])


def test_two_responses_of_one_chain_have_noise_of_their_own() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(w * x, 1.0))
            pyro.sample("a", dist.Normal(z, 1.0), obs=y)
            pyro.sample("b", dist.Normal(z, 1.0), obs=y)

    fused = fuse(model, at="z", weight=0.5, beta=1.0)
    initial, potential, _, trace = initialize_model(fused, (X, X))
    labels = [trace.nodes[name]["value"] for name in ("a", "b")]
    assert not torch.equal(*labels)
    assert potential(initial) == potential(initial)


def test_hamiltonian_steps_on_drawn_labels_are_accepted_and_find_the_posterior_of_those_labels() -> None:
    density, y, beta = RANDOM_LABELS["Normal"]
    kernel = HMC(fuse(regression, at="y", weight=0.3, beta=beta), step_size=0.05, num_steps=10, adapt_step_size=False)
    chain = MCMC(kernel, num_samples=300, warmup_steps=50, disable_progbar=True)
    chain.run(X, y, density)
    w = chain.get_samples()["w"]
    assert chain.diagnostics()["acceptance rate"]["chain 0"] > 0.95
    # The posterior on a grid, with the labels of the chain: the fused normal has half of the rows' means, and the variance.
    labels = initialize_model(kernel.model, (X, y, density))[3].nodes["y"]["value"]
    grid = torch.linspace(-2, 3, 2001)[:, None]
    own = torch.where(torch.arange(12) < 6, 0.3, 0.7)
    mean = own * X + (1 - own) * X.roll(6)
    log_density = dist.Normal(grid * mean, 0.5).log_prob(labels).sum(-1) + dist.Normal(0.0, 1.0).log_prob(grid[:, 0])
    probs = log_density.softmax(0)
    expected = (probs * grid[:, 0]).sum()
    spread = (probs * (grid[:, 0] - expected).square()).sum().sqrt()
    assert abs(w.mean() - expected) < 4 * spread / math.sqrt(30)  # draws are correlated


def test_expected_labels_have_a_potential_without_draws_whose_gradient_is_right_in_the_weight() -> None:
    """Also of drawn labels with a reparameterised kernel: the weight moves them."""
    density, y, beta = RANDOM_LABELS["Normal"]
    options: tuple[Labels, ...] = ("expected", "sample")
    for labels in options:
        fused = fuse(regression, at="y", weight=dist.Beta(2.0, 2.0), beta=beta, labels=labels)
        initial, potential, _, _ = initialize_model(fused, (X, y, density))
        names = sorted(initial)
        assert names == ["lambda", "w"]

        def energy(*values: Tensor, potential: Any = potential, names: Any = names) -> Tensor:
            value: Tensor = potential(dict(zip(names, values, strict=True)))
            return value

        at = [initial[name].clone().requires_grad_() for name in names]
        assert torch.autograd.gradcheck(energy, at, check_undefined_grad=False)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")  # torch's, of what Pyro does
def test_drawn_labels_of_a_jitted_potential_are_refused() -> None:
    density, y, beta = RANDOM_LABELS["Normal"]
    kernel = NUTS(fuse(regression, at="y", weight=0.3, beta=beta), jit_compile=True, ignore_jit_warnings=True)
    with pytest.raises(ValueError, match=r"'y' are drawn, which a jitted potential.*Try labels='expected'"):
        MCMC(kernel, num_samples=2, warmup_steps=0, disable_progbar=True).run(X, y, density)


def test_a_latent_of_each_row_after_the_fused_one_is_inferred_by_a_chain() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(w * x, 1.0))
            u = pyro.sample("u", dist.Normal(z, 1.0))
            pyro.sample("y", dist.Normal(u, 1.0), obs=y)

    initial, potential, _, trace = initialize_model(fuse(model, at="z", weight=0.5, beta=1.0), (X, X))
    assert set(initial) == {"w", "z", "u"}
    assert potential(initial) == potential(initial)
    assert not torch.equal(trace.nodes["y"]["value"], X)


class Robust(dist.Normal):
    def log_prob(self, value):
        return torch.logaddexp(super().log_prob(value), torch.full_like(value, -5.0))


class Sharper(dist.Categorical):
    def log_prob(self, value):
        return 2 * super().log_prob(value)


def downstream(density: Callable[[Tensor], Any], y: Tensor) -> Callable[[], None]:
    def model():
        with pyro.plate("rows", len(y)):
            z = pyro.sample("z", dist.Delta(torch.arange(1.0, len(y) + 1)))
            pyro.sample("y", density(z), obs=y)

    return model


def scores(model: Callable[[], None], **options: Any) -> Any:
    trace = poutine.trace(fuse(model, **options)).get_trace()
    trace.compute_log_prob()
    return trace.nodes["y"]


@pytest.mark.parametrize("density", [Robust, lambda z, s: Robust(z[:, None], s).to_event(1)])
def test_a_density_of_its_own_has_no_closed_form_of_its_base(density):
    y = torch.randn(B, *density(torch.ones(B), 1.0).event_shape)
    with pytest.raises(TypeError, match=r"type Robust and labels of type Normal.*Try labels='sample'"):
        scores(downstream(lambda z: density(z, 1.0), y), at="z", weight=0.3, beta=0.5, labels="expected")
    classes, soft = torch.arange(3.0).log1p(), dist.Categorical(ones(3))
    expected = expected_log_prob(Sharper(logits=classes.expand(B, 3)), soft)
    torch.testing.assert_close(expected, 2 * classes.log_softmax(-1).mean().expand(B))


def test_the_expected_score_of_a_missing_label_is_zero():
    y = torch.tensor([1.0, torch.nan, 3.0, 4.0])
    model = downstream(lambda z: dist.NanMaskedNormal(z, 1.0), y)
    for labels in ("sample", "expected"):
        site = scores(model, at="z", weight=0.5, beta=0.5, labels=labels)
        assert (site["log_prob"] == 0).tolist() == [False, True, False, True]
    own = torch.full((2,), 2.0)
    torch.testing.assert_close(site["log_prob"][::2], dist.Normal(own, 1.0).log_prob(own) - 0.25)


def test_labels_of_a_hidden_markov_model_on_the_circle_are_mixed_along_it():
    def hmm(observation: Any) -> Any:
        return dist.DiscreteHMM(torch.zeros(B, 2), torch.zeros(B, 3, 2, 2), observation(torch.zeros(B, 3, 2), 1.0))

    labels = default_kernel(hmm(dist.VonMises)).pooled(3.1 * ones(3), -3.1 * ones(3), 0.5 * ones(), event_dim=1)
    torch.testing.assert_close(labels.sample().abs(), math.pi * ones(3))
    assert isinstance(default_kernel(hmm(dist.Normal)), GaussianKernel)


@pytest.mark.parametrize("missing", [torch.nan, torch.inf])
@pytest.mark.parametrize("kernel", [GaussianKernel(0.0), CircularKernel(), DiracKernel()])
@pytest.mark.parametrize("num_fused", [2, 3])
def test_a_label_without_weight_has_no_part(kernel, missing, num_fused):
    own, other = torch.tensor([0.5, missing]), torch.tensor([missing, 0.25])
    weight = torch.tensor([1.0, 0.0])
    partners: Any = other
    if num_fused == 3:
        weight, partners = torch.stack([weight, 1 - weight, torch.zeros(2)], -1), [other, own]
    with pyro.validation_enabled(False):
        assert kernel.pooled(own, partners, weight, event_dim=0).sample().tolist() == [0.5, 0.25]


def test_a_row_of_all_weight_is_scored_beside_a_missing_one():
    y = torch.tensor([1.0, 2.0, torch.nan, torch.nan])
    with pyro.validation_enabled(False):
        site = scores(downstream(lambda z: dist.Cauchy(z, 1.0), y), at="z", weight=1.0)
    torch.testing.assert_close(site["value"], torch.tensor([1.0, 2.0, 1.0, 2.0]))
    torch.testing.assert_close(site["log_prob"], dist.Cauchy(y[:2].repeat(2), 1.0).log_prob(y[:2].repeat(2)))
