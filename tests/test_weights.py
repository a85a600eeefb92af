"""The Beta law of the weight."""

import math

import pytest
import torch
from scipy import stats

from pyro_probmix.weights import Beta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("a", "b"), [(1e-5, 1e-5), (1e-3, 1e-3), (0.01, 0.01), (0.1, 0.1), (1.0, 1.0), (2.0, 5.0), (1e6, 1e6)]
)
def test_draws_follow_the_law(a, b, dtype):
    draws, law = 200_000, stats.beta(a, b)
    x = Beta(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)).sample((draws,))
    assert ((x > 0) & (x < 1)).all()
    for low, high in [(0.0, 0.01), (0.01, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.99)]:
        p = law.cdf(high) - law.cdf(low)
        share = ((x > low) & (x <= high)).double().mean()
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / draws) + 1e-12


def test_gradients_of_the_shapes():
    """Pathwise: the mean a / (a + b) has the slope b / (a + b)^2 in a."""
    a = torch.full((100_000,), 0.7, dtype=torch.float64, requires_grad=True)
    x = Beta(a, torch.full_like(a, 1.3)).rsample()
    (slope,) = torch.autograd.grad(x.sum(), a)
    assert abs(slope.mean() - 1.3 / 4) < 4 * slope.std() / math.sqrt(len(a))
