"""The incomplete beta function by tensors: SciPy's, in both tails, from small to large parameters."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats

from pyro_probmix.inference.export.incomplete_beta import beta_tails
from pyro_probmix.inference.export.marginals import marginal_of
from pyro_probmix.models.distributions.points import ZeroOneBeta


@pytest.mark.parametrize(("least", "most"), [(0.01, 1), (0.1, 100), (1, 1e3), (1e3, 1e6)])
def test_both_tails_are_scipys(least: float, most: float) -> None:
    rng, n = np.random.default_rng(0), 3000
    a, b = np.exp(rng.uniform(np.log(least), np.log(most), (2, n)))
    x = special.betaincinv(a, b, rng.choice([1e-8, 1e-4, 0.01, 0.3, 0.5, 0.7, 0.99, 0.9999, 1 - 1e-8], n))
    at = torch.as_tensor(x)  # 1 where the density is that high there
    found = beta_tails(torch.as_tensor(a), torch.as_tensor(b), at.log(), torch.log1p(-at))
    for tail, known in zip(found, (special.betainc(a, b, x), special.betaincc(a, b, x)), strict=True):
        np.testing.assert_allclose(tail.numpy(), known, rtol=0, atol=3e-9)
        far = known > 1e-6
        np.testing.assert_allclose(tail.numpy()[far], known[far], rtol=1e-6)


def test_the_ends_have_no_mass_outside() -> None:
    x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    below, above = beta_tails(torch.full_like(x, 0.5), torch.full_like(x, 1e3), x.log(), torch.log1p(-x))
    assert below.tolist() == [0.0, 1.0] and above.tolist() == [1.0, 0.0]


def test_counts_and_shares_have_scipys_distribution_functions() -> None:
    r, p = torch.tensor([0.3, 5.0, 1e4]).double(), torch.tensor([0.9, 0.2, 0.01]).double()
    y = torch.tensor([-1.0, 0.0, 2.5, 7.0, 150.0]).double()[:, None]
    known = stats.nbinom(r.numpy(), 1 - p.numpy())
    for marginal in (
        marginal_of(dist.NegativeBinomial(r, probs=p)),
        marginal_of(dist.GammaPoisson(r, (1 - p) / p)),
    ):
        for sign, function in ((-1.0, known.cdf), (1.0, known.sf)):
            tail = marginal.tail(y, torch.tensor(sign)).numpy()
            np.testing.assert_allclose(tail, function(y.numpy()), rtol=1e-6, atol=1e-9)
    weights = torch.tensor([0.2, 0.3, 0.5]).double()
    shares = marginal_of(ZeroOneBeta(weights.log(), torch.tensor(0.4).double(), torch.tensor(3.0).double()))
    at = torch.tensor([-0.1, 0.0, 0.2, 1.0, 1.1]).double()
    inside = 0.5 * stats.beta(0.4, 3).cdf(at.numpy())
    below = np.array([0, 0.2, 0.2, 0.5, 0.5]) + inside
    np.testing.assert_allclose(shares.tail(at, torch.tensor(-1.0)).numpy(), below, atol=1e-9)
    np.testing.assert_allclose(shares.tail(at, torch.tensor(1.0)).numpy(), 1 - below, atol=1e-9)
