"""Pseudo-rows: each defining equation by brute force in double precision, weights by their distribution, what they change."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from sklearn.cluster import KMeans

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, find_method
from pyro_probmix.inference import pseudo_rows
from pyro_probmix.inference.pseudo_rows import PSEUDO_ROWS, with_pseudo_rows
from pyro_probmix.models import Method


def rows(n=70, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, 1, generator=generator, dtype=torch.float64), torch.ones(n, dtype=torch.float64)


def shares_of(mixed, rows):
    """By brute force over all partners: the lambda and the partner with which each row is a mixed one."""
    found = []
    for i, row in enumerate(mixed):
        gaps = rows[i] - rows
        share = ((row - rows) * gaps).sum(1) / np.maximum((gaps**2).sum(1), 1e-300)
        missed = np.abs(share[:, None] * gaps + rows - row).max(1)
        missed[i] = np.abs(rows[i] - row).max()
        j = int(missed.argmin())
        assert missed[j] < 1e-9
        found.append((share[j] if j != i else np.nan, j))
    return np.array(found)


def test_mixed_rows_are_convex_combinations_of_two_with_weights_from_the_beta_distribution():
    torch.manual_seed(0)
    x, y, weights = rows(400)
    weights[:200] = 3.0
    found = shares_of(torch.cat(pseudo_rows.mixed_rows(x, y, weights, 0.7), 1).numpy(), torch.cat([x, y], 1).numpy())
    share = found[:, 0][np.isfinite(found[:, 0])]
    assert kstest(share, beta(0.7, 0.7).cdf).pvalue > 0.01
    assert abs((found[:, 1] < 200).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 400)  # partners by their weights


def test_mixed_classes_have_the_mixed_label_in_the_mean():
    torch.manual_seed(0)
    x, y = torch.tensor([[0.0], [1.0]]).repeat(4000, 1), torch.tensor([0, 1]).repeat(4000)
    mixed, label = pseudo_rows.mixed_rows(x, y, torch.ones(8000), 1.0)  # x is the share of class 1
    between = (mixed[:, 0] > 0.2) & (mixed[:, 0] < 0.4)
    gap = label[between].double() - mixed[between, 0]
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / len(gap) ** 0.5


def test_counts_are_mixed_as_the_numbers_that_they_are():
    """Integers with a dim of their own, [n, d_y], are no classes, [n]."""
    x, _, weights = rows(30)
    counts = torch.arange(60).view(30, 2)
    found = []
    for y in (counts, counts.double()):
        torch.manual_seed(0)
        found.append(pseudo_rows.mixed_rows(x, y, weights, 1.0)[1].double())
    torch.testing.assert_close(*found)


def test_anchored_rows_are_those_of_the_projection():
    """The paper's equation with the n x n projection, at the gamma with which each row was moved."""
    x, y, weights = rows()
    torch.manual_seed(3)
    moved = torch.cat(pseudo_rows.anchored_rows(x, y, weights, 1.0), 1).numpy()
    torch.manual_seed(3)
    v = torch.cat([x, y], 1).numpy()
    cluster = KMeans(8, n_init=1, random_state=int(torch.randint(2**31, ()))).fit_predict(v)
    a = np.eye(8)[cluster]
    projection = a @ np.linalg.inv(a.T @ a) @ a.T
    gammas = []
    for i, row in enumerate(moved):
        centre = projection[i] @ v
        root = np.linalg.norm(v[i] - centre) / np.linalg.norm(row - centre) if (cluster == cluster[i]).sum() > 1 else 1
        expected = (v[i] + (root - 1) * projection[i] @ v) / (1 + (root - 1) * projection[i].sum())
        np.testing.assert_allclose(row, expected, atol=1e-9)
        gammas.append(root**2)
    assert 0.5 - 1e-9 <= min(gammas) < 0.75 and 1.5 < max(gammas) <= 2 + 1e-9


def test_tangent_rows_are_blocks_with_their_small_singular_values_scaled():
    x, y, weights = rows(70)
    x = x * torch.tensor([5.0, 3.0, 0.3, 0.2], dtype=torch.float64)  # two large directions
    torch.manual_seed(4)
    moved = torch.cat(pseudo_rows.tangent_rows(x, y, weights, 1.0), 1).numpy()
    torch.manual_seed(4)
    blocks = torch.randperm(70).split(32)
    v, shares = torch.cat([x, y], 1).numpy(), []
    for block in blocks:
        u, s, w = np.linalg.svd(v[block], full_matrices=False)
        k = next(k for k in range(1, 6) if (s[:k] ** 2).sum() >= 0.9 * (s**2).sum())
        assert 1 <= k < 5
        plane = (u[:, :k] * s[:k]) @ w[:k]
        rest = v[block] - plane
        share = ((moved[block] - plane) * rest).sum() / (rest**2).sum()
        np.testing.assert_allclose(moved[block], plane + share * rest, atol=1e-9)
        shares.append(share)
    assert len(set(np.round(shares, 6))) == 3 and 0 <= min(shares) <= max(shares) <= 1


@pytest.mark.parametrize("kind", list(PSEUDO_ROWS))
@pytest.mark.parametrize("n", [2, 3, 33])
def test_few_rows_and_equal_ones(kind, n):
    """Of equal rows each mixed or anchored one is that row, and a tangent one too, which has one direction alone."""
    x, y = torch.full((1, n, 2), 3.0), torch.full((1, n, 1), -1.0)
    found = with_pseudo_rows(kind, x, y, None, seeds=[0], alphas=[1.0])
    torch.testing.assert_close(found[0], x.repeat(1, 2, 1))
    torch.testing.assert_close(found[1], y.repeat(1, 2, 1))
    other = with_pseudo_rows(kind, torch.randn(1, n, 2), torch.randn(1, n, 1), None, seeds=[0], alphas=[1.0])
    assert bool(other[0].isfinite().all() and other[1].isfinite().all())


def test_weights_are_dirichlet():
    """The share of the first row among all, and that of the rows among all, by their Beta distributions."""
    x, y, _ = rows(10)
    of_each = torch.ones(3000, 10)
    of_each[:, 0] = 4.0
    many_x, many_y = (v.float().expand(3000, *v.shape) for v in (x, y))
    weights = with_pseudo_rows("mixed", many_x, many_y, of_each, seeds=range(3000), alphas=[1.0] * 3000)[2]
    assert weights is not None and weights.shape == (3000, 20)
    share = (weights / weights.sum(1, keepdim=True)).double().numpy()
    assert kstest(share[:, 0], beta(4, 22).cdf).pvalue > 0.01
    assert kstest(share[:, :10].sum(1), beta(13, 13).cdf).pvalue > 0.01


@pytest.mark.parametrize("kind", list(PSEUDO_ROWS))
def test_the_rows_stay_and_the_others_are_each_replicas_own(kind):
    x, y = (v.float().expand(2, *v.shape) for v in rows(40)[:2])
    given = torch.rand(2, 40) + 0.5
    given[:, 5] = 0.0
    before = torch.random.get_rng_state()
    both = [with_pseudo_rows(kind, x, y, given, seeds=(1, other), alphas=(1.0, 1.0)) for other in (2, 3)]
    assert torch.equal(torch.random.get_rng_state(), before)
    for found_x, found_y, weights in both:
        assert torch.equal(found_x[:, :40], x) and torch.equal(found_y[:, :40], y)
        assert weights is not None and bool((weights[:, [5, 45]] == 0).all()) and bool((weights[:, 6:40] > 0).all())
        if kind != "mixed":
            assert torch.equal(weights, given.repeat(1, 2))
    assert torch.equal(both[0][0][0], both[1][0][0]) and not torch.equal(both[0][0][1], both[1][0][1])


@pytest.mark.parametrize("name", ["MixupMP", "ADA", "FOMA"])
def test_an_estimator_trains_on_them(name):
    x, y, _ = rows(60)
    X, target = x.numpy(), x.numpy()[:, 0] * 3 + y.numpy()[:, 0] / 10
    options: dict[str, Any] = {"ensemble": 2, "epochs": 3, "widths": (8, 4), "random_state": 0}
    plain = ProbMixRegressor(method="ERM", **options).fit(X, target).predict(X)
    assert np.abs(ProbMixRegressor(method=name, **options).fit(X, target).predict(X) - plain).max() > 1e-3
    # With a graph as well, over all rows of each member.
    fused = Method("y", "nearest", pseudo_rows=find_method(name).pseudo_rows)
    assert np.isfinite(ProbMixRegressor(method=fused, **options).fit(X, target).predict(X)).all()
    classes = ProbMixClassifier(method=name, **options)
    if name == "MixupMP":
        assert classes.fit(X, target > 0).predict_proba(X).shape == (60, 2)
    else:
        with pytest.raises(ValueError, match="is for numbers, expected a method for classes"):
            classes.fit(X, target > 0)
