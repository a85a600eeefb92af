"""Label kernels and expected log-densities, against brute-force pools, quadrature and finite sums in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Distribution

from pyro_probmix import fuse
from pyro_probmix.fusing.kernels.defaults import default_kernel
from pyro_probmix.fusing.kernels.directional import CircularKernel, SphericalKernel
from pyro_probmix.fusing.kernels.kernels import (
    BiasedBernoulliKernel,
    BiasedCategoricalKernel,
    BiasedOneHotKernel,
    DiracKernel,
    GaussianKernel,
    Kernel,
    expected_log_prob,
)
from pyro_probmix.pooling import linear_pool, log_linear_pool

DRAWS = 20_000
BETAS = [0.0, 0.01, 0.7]
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
    return torch.tensor(BETAS)[:, None]


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, check_dtype=False)


# The Gaussian kernel


@pytest.mark.parametrize("beta", [0.01, 0.7])
def test_gaussian_kernel_is_the_normalised_product_of_powers(beta: float) -> None:
    y, partner = torch.tensor([0.0, 1.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.3, 2.0])
    perturbed = GaussianKernel(beta).pooled(y, partner, WEIGHT, event_dim=0)
    grid = torch.linspace(-8, 8, 40_001)[:, None]  # [G, 1]
    sd = math.sqrt(beta)
    product = WEIGHT * dist.Normal(y, sd).log_prob(grid) + (1 - WEIGHT) * dist.Normal(partner, sd).log_prob(grid)
    normaliser = (product.logsumexp(0) + math.log(16 / 40_000)).detach()
    torch.testing.assert_close(perturbed.log_prob(grid), product - normaliser, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("event_dim", [0, 1, 2])
@pytest.mark.parametrize("beta", BETAS)
def test_gaussian_kernel_keeps_the_event_shape(beta: float, event_dim: int) -> None:
    shape = (R, B, *(2, 5)[:event_dim])
    y, partner = torch.randn(shape), torch.randn(shape)
    perturbed = GaussianKernel(beta).pooled(y, partner, WEIGHT, event_dim)
    assert perturbed.batch_shape == (R, B) and perturbed.event_shape == shape[2:]
    weight = WEIGHT.reshape((B,) + (1,) * event_dim)
    assert_close(perturbed.mean, weight * y + (1 - weight) * partner)
    assert_close(perturbed.variance, torch.full(shape, beta))
    assert perturbed.sample().shape == shape


def test_gaussian_kernel_is_the_log_linear_pool_of_normals() -> None:
    y, partner = torch.randn(R, B, 2), torch.randn(R, B, 2)
    beta = torch.tensor([0.01, 0.7, 3.0])[:, None]
    around: list[Any] = [dist.Normal(label, beta.sqrt()[..., None]).to_event(1) for label in (y, partner)]
    perturbed, pool = GaussianKernel(beta).pooled(y, partner, WEIGHT, 1), log_linear_pool(around[0], around[1], WEIGHT)
    assert_close(perturbed.mean, pool.mean)
    assert_close(perturbed.variance, pool.variance)


def test_gaussian_kernel_at_zero_is_a_point() -> None:
    perturbed = GaussianKernel(0.0).pooled(torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([0.25]), 0)
    assert isinstance(perturbed, dist.Delta)
    assert perturbed.sample((3,)).tolist() == [[2.5]] * 3


@pytest.mark.parametrize("event_dim", [0, 1])
def test_gaussian_kernel_takes_a_variance_for_each_replica(event_dim: int) -> None:
    shape = (R, B, 2)[: 2 + event_dim]
    y, partner, value = torch.randn(shape), torch.randn(shape), torch.randn(shape)
    perturbed = GaussianKernel(per_replica()).pooled(y, partner, WEIGHT, event_dim)
    assert perturbed.batch_shape == (R, B)
    point = GaussianKernel(0.0).pooled(y, partner, WEIGHT, event_dim)
    assert torch.equal(perturbed.sample((7,))[:, 0], point.sample((7,))[:, 0])
    # Where the variance is zero, a point's density.
    at_point = torch.where(torch.arange(R).reshape((R,) + (1,) * (len(shape) - 1)) == 0, point.mean, value)
    assert (perturbed.log_prob(value)[0] == -math.inf).all()
    assert torch.equal(perturbed.log_prob(at_point)[0], torch.zeros(B))
    for replica in (1, 2):
        alone = GaussianKernel(BETAS[replica]).pooled(y[replica], partner[replica], WEIGHT, event_dim)
        assert_close(perturbed.log_prob(value)[replica], alone.log_prob(value[replica]))
    assert perturbed.expand((2, R, B)).sample().shape == (2, *shape)


def test_gaussian_kernel_draws_have_its_mean_and_variance() -> None:
    y, partner = torch.tensor([0.0, 1.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.3, 2.0])
    draws = GaussianKernel(per_replica()).pooled(y, partner, WEIGHT, 0).sample((DRAWS,))  # [S, R, B]
    beta = per_replica().expand(R, B)
    mean_error = (draws.mean(0) - (WEIGHT * y + (1 - WEIGHT) * partner)).abs()
    assert (mean_error <= 4 * (beta / DRAWS).sqrt() + 1e-9).all()
    assert ((draws.var(0) - beta).abs() <= 4 * beta * math.sqrt(2 / DRAWS) + 1e-9).all()


def test_gaussian_kernel_of_small_variance_is_nearly_a_point() -> None:
    y, partner = torch.randn(B), torch.randn(B)
    near = GaussianKernel(1e-16).pooled(y, partner, WEIGHT, 0)
    assert (near.sample() - GaussianKernel(0.0).pooled(y, partner, WEIGHT, 0).sample()).abs().max() < 1e-7


def test_integer_labels_become_real() -> None:
    perturbed = GaussianKernel(0.0).pooled(torch.tensor([1]), torch.tensor([2]), torch.tensor([0.5]), 0)
    assert perturbed.sample().tolist() == [1.5]


# The biased kernels of classes


def biased(y: Tensor, beta: float | Tensor, num_classes: int) -> Tensor:
    return (torch.nn.functional.one_hot(y, num_classes) + beta) / (1 + num_classes * beta)


def pooled_classes(y: Tensor, partner: Tensor, weight: Tensor, beta: float, num_classes: int) -> Tensor:
    """Brute force: the normalised product of powers, or the linear pool at zero."""
    own, other, weight = biased(y, beta, num_classes), biased(partner, beta, num_classes), weight[..., None]
    if beta == 0:
        return weight * own + (1 - weight) * other
    product = own**weight * other ** (1 - weight)
    return product / product.sum(-1, keepdim=True)


@pytest.mark.parametrize("beta", BETAS)
def test_biased_categorical_kernel_is_the_brute_force_pool(beta: float) -> None:
    y, partner = torch.randint(5, (R, B)), torch.randint(5, (R, B))
    perturbed = BiasedCategoricalKernel(beta, 5).pooled(y, partner, WEIGHT, 0)
    assert isinstance(perturbed, dist.Categorical) and perturbed.batch_shape == (R, B)
    assert_close(perturbed.probs, pooled_classes(y, partner, WEIGHT, beta, 5))
    assert_close(perturbed.log_prob(perturbed.enumerate_support()).exp().sum(0), torch.ones(R, B))


@pytest.mark.parametrize("beta", BETAS)
def test_biased_bernoulli_kernel_is_the_kernel_of_two_classes(beta: float) -> None:
    y, partner = torch.randint(2, (R, B)), torch.randint(2, (R, B))
    perturbed = BiasedBernoulliKernel(beta).pooled(y.double(), partner.double(), WEIGHT, 0)
    assert isinstance(perturbed, dist.Bernoulli) and perturbed.batch_shape == (R, B)
    assert_close(perturbed.probs, pooled_classes(y, partner, WEIGHT, beta, 2)[..., 1])


def test_biased_kernels_take_a_bias_for_each_replica() -> None:
    y, partner = torch.randint(2, (R, B)), torch.randint(2, (R, B))
    classes = BiasedCategoricalKernel(per_replica(), 3).pooled(y, partner, WEIGHT, 0)
    binary = BiasedBernoulliKernel(per_replica()).pooled(y.double(), partner.double(), WEIGHT, 0)
    assert isinstance(classes, dist.Categorical) and isinstance(binary, dist.Bernoulli)
    for replica, beta in enumerate(BETAS):
        labels = y[replica], partner[replica], WEIGHT
        assert_close(classes.probs[replica], pooled_classes(*labels, beta, 3))
        assert_close(binary.probs[replica], pooled_classes(*labels, beta, 2)[..., 1])


def test_biased_kernels_have_no_nan_gradient() -> None:
    y, partner = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1, 0])

    def of_classes(weight: Tensor) -> Tensor:
        perturbed: Any = BiasedCategoricalKernel(per_replica(), 3).pooled(y, partner, weight, 0)
        probs: Tensor = perturbed.probs
        return probs

    def of_binary(weight: Tensor) -> Tensor:
        perturbed: Any = BiasedBernoulliKernel(per_replica()).pooled(y.double(), partner.double(), weight, 0)
        probs: Tensor = perturbed.probs
        return probs

    inner = torch.tensor([0.2, 0.3, 0.9, 0.5]).expand(R, B).clone().requires_grad_()
    ends = torch.tensor([0.0, 1.0, 1.0, 0.0]).expand(R, B).clone().requires_grad_()
    for perturbed in (of_classes, of_binary):
        assert torch.autograd.gradcheck(perturbed, inner)
        (gradient,) = torch.autograd.grad(perturbed(ends).square().sum(), ends)
        assert torch.isfinite(gradient).all()


def test_biased_kernels_work_over_event_dimensions() -> None:
    y, partner = torch.randint(2, (B, 2)), torch.randint(2, (B, 2))
    for beta in (0.0, 0.1, torch.tensor([0.1])):
        classes = BiasedCategoricalKernel(beta, 3).pooled(y, partner, WEIGHT, 1)
        binary = BiasedBernoulliKernel(beta).pooled(y.double(), partner.double(), WEIGHT, 1)
        for perturbed in (classes, binary):
            assert perturbed.batch_shape == (B,) and perturbed.event_shape == (2,)
            assert perturbed.sample().shape == (B, 2)


def test_small_bias_lets_the_larger_weight_take_all() -> None:
    y, partner, weight = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 0]), torch.tensor([0.6, 0.5, 0.5])
    perturbed = BiasedCategoricalKernel(1e-200, 3).pooled(y, partner, weight, 0)
    assert isinstance(perturbed, dist.Categorical)
    assert_close(perturbed.probs, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))


def test_biased_kernels_are_the_log_linear_pools_of_biased_labels() -> None:
    y, partner = torch.randint(2, (R, B)), torch.randint(2, (R, B))
    beta = torch.tensor([0.01, 0.7, 3.0])[:, None]
    classes: list[Any] = [dist.Categorical(biased(label, beta[..., None], 2)) for label in (y, partner)]
    binary: list[Any] = [dist.Bernoulli(biased(label, beta[..., None], 2)[..., 1]) for label in (y, partner)]
    for kernel, around in ((BiasedCategoricalKernel(beta, 2), classes), (BiasedBernoulliKernel(beta), binary)):
        perturbed: Any = kernel.pooled(y, partner, WEIGHT, 0)
        pool: Any = log_linear_pool(around[0], around[1], WEIGHT)
        assert_close(perturbed.probs, pool.probs)


# The Dirac kernel


@pytest.mark.parametrize("event_dim", [0, 1])
def test_dirac_kernel_takes_either_label_by_its_weight(event_dim: int) -> None:
    y, partner = torch.tensor([3.0, 1.0, 2.0, 7.0]), torch.tensor([8.0, 9.0, 5.0, 0.0])
    if event_dim:
        y, partner = (torch.stack([label, label + 20], -1) for label in (y, partner))
    perturbed = DiracKernel().pooled(y, partner, WEIGHT, event_dim)
    assert perturbed.batch_shape == (B,) and perturbed.event_shape == y.shape[1:]
    draws = perturbed.sample((DRAWS,))
    own = (draws == y).double().reshape(DRAWS, B, -1)
    other = (draws == partner).double().reshape(DRAWS, B, -1)
    assert torch.equal(own + other, torch.ones_like(own))
    assert torch.equal(own.amin(-1), own.amax(-1))  # a label is taken as a whole
    error = (WEIGHT * (1 - WEIGHT) / DRAWS).sqrt()
    assert ((own.mean(0)[:, 0] - WEIGHT).abs() <= 4 * error).all()


def test_dirac_kernel_takes_integer_counts() -> None:
    y, partner = torch.tensor([3, 1, 2, 7]), torch.tensor([8, 9, 5, 0])
    perturbed = DiracKernel().pooled(y, partner, WEIGHT, 0)
    draws = perturbed.sample()
    assert draws.dtype == torch.long and ((draws == y) | (draws == partner)).all()
    p = dist.Poisson(torch.rand(B) + 0.5)
    assert_close(expected_log_prob(p, perturbed), WEIGHT * p.log_prob(y) + (1 - WEIGHT) * p.log_prob(partner))


# What all kernels share


def one_hot(*shape: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.randint(3, shape), 3).double()


def unit_vectors(*shape: int) -> Tensor:
    vectors = torch.randn(*shape, 3)
    directions: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return directions


KERNELS: dict[str, tuple[Callable[[], Kernel], Callable[[], Tensor], int]] = {
    "Gaussian": (lambda: GaussianKernel(0.3), lambda: torch.randn(R, B, 2), 1),
    "Gaussian, zero": (lambda: GaussianKernel(0.0), lambda: torch.randn(R, B, 2), 1),
    "Gaussian, replicas": (lambda: GaussianKernel(per_replica()), lambda: torch.randn(R, B, 2), 1),
    "categorical": (lambda: BiasedCategoricalKernel(0.3, 4), lambda: torch.randint(4, (R, B)), 0),
    "categorical, zero": (lambda: BiasedCategoricalKernel(0.0, 4), lambda: torch.randint(4, (R, B)), 0),
    "categorical, replicas": (lambda: BiasedCategoricalKernel(per_replica(), 4), lambda: torch.randint(4, (R, B)), 0),
    "Bernoulli": (lambda: BiasedBernoulliKernel(0.3), lambda: torch.randint(2, (R, B, 2)).double(), 1),
    "Bernoulli, replicas": (lambda: BiasedBernoulliKernel(per_replica()), lambda: torch.randint(2, (R, B)).double(), 0),
    "one-hot": (lambda: BiasedOneHotKernel(0.3), lambda: one_hot(R, B), 1),
    "one-hot, replicas": (lambda: BiasedOneHotKernel(per_replica()), lambda: one_hot(R, B, 2), 2),
    "circular": (lambda: CircularKernel(0.3), lambda: torch.randn(R, B, 2), 1),
    "circular, replicas": (lambda: CircularKernel(per_replica(), 24.0), lambda: 9 * torch.randn(R, B), 0),
    "spherical": (lambda: SphericalKernel(0.3), lambda: unit_vectors(R, B), 1),
    "spherical, replicas": (lambda: SphericalKernel(per_replica()), lambda: unit_vectors(R, B, 2), 2),
    "Dirac": (lambda: DiracKernel(), lambda: torch.randn(R, B, 2), 1),
}


@pytest.mark.parametrize("name", KERNELS)
def test_swapping_labels_and_weights_changes_nothing(name: str) -> None:
    kernel, labels, event_dim = KERNELS[name]
    y, partner = labels(), labels()
    perturbed = kernel().pooled(y, partner, WEIGHT, event_dim)
    swapped = kernel().pooled(partner, y, 1 - WEIGHT, event_dim)
    value = perturbed.sample()
    assert torch.isfinite(perturbed.log_prob(value)).all()
    if name != "Gaussian, zero":  # where the two points may differ in the last digit
        assert_close(perturbed.log_prob(value)[1:], swapped.log_prob(value)[1:])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_two_equal_labels_give_the_kernel_around_them(name: str, weight: float) -> None:
    kernel, labels, event_dim = KERNELS[name]
    y = labels()
    full = torch.ones(B)
    perturbed, alone = (kernel().pooled(y, y, w, event_dim) for w in (weight * full, full))
    if name.startswith("Gaussian"):
        assert_close(perturbed.mean, alone.mean)
        assert_close(perturbed.variance, alone.variance)
    else:
        value = perturbed.sample()
        assert_close(perturbed.log_prob(value), alone.log_prob(value))


@pytest.mark.parametrize("name", KERNELS)
def test_a_weight_of_one_ignores_the_partner(name: str) -> None:
    kernel, labels, event_dim = KERNELS[name]
    y = labels()
    around = [kernel().pooled(y, labels(), torch.ones(B), event_dim) for _ in range(2)]
    value = around[0].sample()
    assert_close(around[0].log_prob(value), around[1].log_prob(value))


@pytest.mark.parametrize("name", KERNELS)
def test_weights_may_have_more_batch_dimensions_than_labels(name: str) -> None:
    kernel, labels, event_dim = KERNELS[name]
    y, partner = labels(), labels()
    weight = torch.rand(5, 1, 1, B)
    perturbed = kernel().pooled(y, partner, weight, event_dim)
    assert perturbed.batch_shape == (5, 1, R, B)
    assert perturbed.sample().shape == (5, 1, *y.shape)


# The kernel that follows from the support


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("p", "kernel"),
    [
        (lambda: dist.Normal(ones(3), 1.0), GaussianKernel),
        (lambda: dist.Normal(ones(3, 2), 1.0).to_event(1), GaussianKernel),
        (lambda: dist.MultivariateNormal(ones(3, 2), torch.eye(2)), GaussianKernel),
        (lambda: dist.StudentT(4.0, ones(3), 1.0), GaussianKernel),
        (
            lambda: dist.MixtureSameFamily(dist.Categorical(logits=ones(3, 2)), dist.Normal(ones(3, 2), 1.0)),
            GaussianKernel,
        ),
        (lambda: dist.Normal(ones(3, 2), 1.0).to_event(1).mask(torch.tensor([True, False, True])), GaussianKernel),
        (lambda: log_linear_pool(dist.Normal(ones(3), 1.0), dist.Normal(ones(3), 2.0), 0.5), GaussianKernel),
        (lambda: linear_pool(dist.Normal(ones(3), 1.0), dist.Normal(ones(3), 2.0), 0.5), GaussianKernel),
        (lambda: dist.Bernoulli(logits=ones(3)), BiasedBernoulliKernel),
        (lambda: dist.Bernoulli(logits=ones(3, 2)).to_event(1), BiasedBernoulliKernel),
        (lambda: dist.Categorical(logits=ones(3, 4)), BiasedCategoricalKernel),
        (lambda: dist.Categorical(logits=ones(3, 4)).mask(True), BiasedCategoricalKernel),
        (lambda: dist.Categorical(logits=ones(3, 2, 4)).to_event(1), BiasedCategoricalKernel),
        (lambda: ExpandedDistribution(dist.Categorical(logits=ones(4)), (3,)), BiasedCategoricalKernel),
        (
            lambda: linear_pool(dist.Categorical(logits=ones(3, 4)), dist.Categorical(logits=ones(3, 4)), 0.5),
            BiasedCategoricalKernel,
        ),
        (lambda: dist.Poisson(ones(3)), DiracKernel),
        (lambda: dist.Poisson(ones(3, 2)).to_event(1), DiracKernel),
        (lambda: dist.Binomial(5, logits=ones(3)), DiracKernel),
        (lambda: dist.Gamma(ones(3), 1.0), DiracKernel),
        (lambda: dist.LogNormal(ones(3), 1.0), DiracKernel),
        (lambda: dist.Beta(ones(3), 1.0), DiracKernel),
        (lambda: dist.Dirichlet(ones(3, 2)), DiracKernel),
        (lambda: dist.OneHotCategorical(logits=ones(3, 4)), BiasedOneHotKernel),
        (lambda: dist.VonMises(ones(3), 1.0), CircularKernel),
        (lambda: dist.VonMises3D(ones(3, 3)), SphericalKernel),
    ],
)
def test_the_default_kernel_follows_from_the_support(p: Callable[[], Distribution], kernel: type[Kernel]) -> None:
    found = default_kernel(p(), 0.0)
    assert type(found) is kernel
    if isinstance(found, BiasedCategoricalKernel):
        assert found.num_classes == 4
    beta = torch.tensor([[0.1], [0.0]])
    if kernel is not DiracKernel:
        for value in (0.1, beta):
            assert getattr(default_kernel(p(), value), "beta") is value  # noqa: B009 (only some kernels have it)
    else:
        assert type(default_kernel(p(), 0 * beta)) is DiracKernel
        for value in (0.1, beta):
            with pytest.raises(ValueError, match=r"no meaning for the labels of a .*Try beta=0"):
                default_kernel(p(), value)


# What is refused


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GaussianKernel(-0.1), ValueError, "finite and not negative, got -0.1"),
        (lambda: GaussianKernel(math.nan), ValueError, "got nan"),
        (lambda: GaussianKernel(math.inf), ValueError, "got inf"),
        (lambda: GaussianKernel(torch.tensor([0.0, -1.0])), ValueError, r"got \[0.0, -1.0\]"),
        (lambda: GaussianKernel([0.0, 0.1]), TypeError, "number or a tensor, got list"),  # type: ignore[arg-type] # the mistake
        (lambda: BiasedCategoricalKernel(-1.0, 3), ValueError, "finite and not negative"),
        (lambda: BiasedCategoricalKernel(0.1, 0), ValueError, "num_classes must be at least 1, got 0"),
        (lambda: BiasedBernoulliKernel(-1.0), ValueError, "finite and not negative"),
        (lambda: default_kernel(dist.Normal(0.0, 1.0), -1.0), ValueError, "finite and not negative"),
        (lambda: default_kernel(dist.Poisson(1.0), -1.0), ValueError, "finite and not negative"),
        (
            lambda: default_kernel(dist.Poisson(1.0), 0.01),
            ValueError,
            "beta=0.01 has no meaning for the labels of a Poisson",
        ),
        (
            lambda: BiasedCategoricalKernel(0.1, 3).pooled(torch.tensor([1, 3]), torch.tensor([0, 0]), ones(2), 0),
            ValueError,
            "Labels must be 0, ..., 2, got 3",
        ),
        (
            lambda: BiasedBernoulliKernel(0.1).pooled(torch.tensor([0.5]), torch.tensor([0.0]), ones(1), 0),
            ValueError,
            "Labels must be 0, ..., 1, got 0.5",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(
    build: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        build()
    assert "Try " in str(caught.value)


def labelled(x: Tensor, y: Tensor) -> None:
    """Three classes, or where the labels are no integers a real response."""
    with pyro.plate("data", len(x)):
        density: Any = dist.Normal(x[:, 0], 1.0) if y.is_floating_point() else dist.Categorical(logits=x)
        pyro.sample("label", density, obs=y)


class Wrong(Kernel):
    def pooled(self, y: Tensor, partner: Any, weight: Tensor, event_dim: int) -> Any:
        return y


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (torch.arange(8) % 4, {}, r"must be 0, ..., 2, got 3"),
        (torch.zeros(8), {"kernel": Wrong()}, r"Wrong.pooled gave a Tensor, expected a distribution"),
        (torch.zeros(8), {"kernel": GaussianKernel(torch.ones(3))}, r"beta has the shape \(3,\).*\(8,\), expected"),
        (torch.zeros(8), {"beta": torch.ones(3)}, r"beta has the shape \(3,\).*\(8,\), expected"),
        (torch.zeros(8, dtype=torch.long), {"beta": torch.ones(3)}, r"beta has the shape \(3,\).*\(8,\), expected"),
        (
            torch.zeros(8),
            {"beta": torch.ones(3, 1)},
            r"draws of shape \(3, 8\), expected no larger ones than the labels, \(8,\)",
        ),
    ],
)
def test_labels_that_cannot_be_perturbed_are_named_by_their_site(
    y: Tensor, options: Any, message: str, pool: Any
) -> None:
    fused = fuse(labelled, at="label", weight=0.5, pool=pool, **options)
    with pytest.raises(ValueError, match=f"the labels of site 'label' cannot be perturbed: .*{message}.*Try"):
        fused(torch.zeros(8, 3), y)


# Devices


def density_of(name: str, y: Tensor, event_dim: int, perturbed: Distribution) -> Any:
    """A density of the kernel's labels, with a closed-form expectation over them."""
    zeros = torch.zeros(y.shape, device=y.device)  # a number would be copied there
    p: Any = dist.Normal(zeros, torch.ones_like(zeros)).to_event(event_dim)
    if name.startswith("circular"):
        return dist.VonMises(zeros, torch.ones_like(zeros)).to_event(event_dim)
    if name.startswith("spherical"):
        return dist.VonMises3D(torch.ones_like(zeros)).to_event(event_dim - 1)
    return p if name.startswith(("Gaussian", "Dirac")) else perturbed


def draw_and_score(name: str, device: str) -> tuple[Tensor, Tensor]:
    """Draw labels from a kernel, and score a density by it, with everything on the device."""
    kernel, labels, event_dim = KERNELS[name]
    y, partner, weight, built = labels().to(device), labels().to(device), WEIGHT.to(device), kernel()
    if isinstance(getattr(built, "beta", None), Tensor):
        built.beta = built.beta.to(device)  # type: ignore[attr-defined] # only some kernels have one
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with pyro.validation_enabled(False):
            perturbed = built.pooled(y, partner, weight, event_dim)
            return perturbed.sample(), expected_log_prob(density_of(name, y, event_dim, perturbed), perturbed)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", KERNELS)
def test_drawing_and_scoring_never_read_a_value_back(name: str) -> None:
    draws, score = draw_and_score(name, "meta")  # where nothing has a value to read
    assert score.shape == (R, B) and draws.shape[:2] == (R, B)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", KERNELS)
def test_labels_are_drawn_and_scored_on_every_device(name: str, device: str) -> None:
    draws, score = draw_and_score(name, device)
    assert draws.device.type == score.device.type == device
    assert torch.isfinite(score).all() and score.shape == draws.shape[:2]
