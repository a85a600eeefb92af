"""The Beta distribution of the weight."""

import math

import pytest
import torch
from scipy import stats

from pyro_probmix.pooling.weights import Beta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("same", [False, True], ids=["two shapes", "one shape"])
@pytest.mark.parametrize(
    ("a", "b"), [(1e-5, 1e-5), (1e-3, 1e-3), (0.01, 0.01), (0.1, 0.1), (1.0, 1.0), (2.0, 5.0), (1e6, 1e6)]
)
def test_draws_follow_the_law(a, b, same, dtype):
    b = a if same else b
    draws, exact = 200_000, stats.beta(a, b)
    shape = torch.tensor(a, dtype=dtype)
    x = Beta(shape, shape if same else torch.tensor(b, dtype=dtype)).sample((draws,))
    assert ((x > 0) & (x < 1)).all()
    for low, high in [(0.0, 0.01), (0.01, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.99)]:
        p = exact.cdf(high) - exact.cdf(low)
        share = ((x > low) & (x <= high)).double().mean()
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / draws) + 1e-12


@pytest.mark.parametrize("a", [0.01, 0.1, 1.0, 30.0])
def test_draws_of_equal_shapes_follow_the_law_everywhere(a):
    """A Kolmogorov-Smirnov test at the level 0.001, within (0.0001, 0.9999): draws closer to one are rounded."""
    shape = torch.tensor(a, dtype=torch.float64)
    x = Beta(shape, shape).expand((3,)).sample((30_000,))
    inside, exact = x[(x > 1e-4) & (x < 1 - 1e-4)].numpy(), stats.beta(a, a)
    low, high = exact.cdf([1e-4, 1 - 1e-4])
    assert stats.kstest(inside, lambda q: (exact.cdf(q) - low) / (high - low)).pvalue > 1e-3
    assert abs(torch.corrcoef(x.T)[0, 1]) < 4 / math.sqrt(30_000)


def test_gradients_of_the_shapes():
    """Pathwise: the mean a / (a + b) has the slope b / (a + b)^2 in a."""
    a = torch.full((100_000,), 0.7, dtype=torch.float64, requires_grad=True)
    x = Beta(a, torch.full_like(a, 1.3)).rsample()
    (slope,) = torch.autograd.grad(x.sum(), a)
    assert abs(slope.mean() - 1.3 / 4) < 4 * slope.std() / math.sqrt(len(a))


def test_gradient_of_one_shape_for_both():
    """Pathwise: the mean of the square, (a + 1) / (4 a + 2), has the slope -1 / (2 (2 a + 1)^2)."""
    a = torch.full((200_000,), 0.7, dtype=torch.float64, requires_grad=True)
    x = Beta(a, a).rsample()
    (slope,) = torch.autograd.grad(x.square().sum(), a)
    assert abs(slope.mean() + 1 / (2 * 2.4**2)) < 4 * slope.std() / math.sqrt(len(a))
