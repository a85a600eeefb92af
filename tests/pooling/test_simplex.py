"""Fusing k rows: the pool and the labels against brute force, the weights' density, and fusing two rows as a special case."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats

from pyro_probmix import DiracKernel, PriorGuide, fuse
from pyro_probmix.pooling.simplex import Dirichlet, SymmetricDirichlet

B = 12
X = torch.linspace(-1.5, 1.5, B, dtype=torch.float64)
Y = torch.linspace(2.0, -1.0, B, dtype=torch.float64).sin()


def regression(x, y=None):
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(1.5 * x, (0.3 * x).exp()), obs=y)


def members(b, num_fused):
    """The rows of the edge that row b belongs to, the one of the first part first."""
    part = B // num_fused
    return [b % part + q * part for q in range(num_fused)]


def draw(num_fused):
    """A draw of weights [B, k], and how a user gives it."""
    weights = Dirichlet(torch.full((num_fused,), 0.7, dtype=torch.float64)).sample((B,))
    return weights, weights[:, 0] if num_fused == 2 else weights


@pytest.mark.parametrize("num_fused", [2, 3, 4, 6])
def test_the_pool_of_normals_is_the_convex_combination_of_natural_parameters(num_fused):
    """Row by row in plain numbers; for two rows with the weight that the handler takes for two."""
    weights, given = draw(num_fused)
    site: Any = poutine.trace(fuse(regression, at="y", weight=given, num_fused=num_fused)).get_trace(X, Y).nodes["y"]
    for b in range(B):
        edge = members(b, num_fused)
        w = [float(v) for v in weights[b]]
        precision = sum(v * math.exp(-0.6 * float(X[i])) for v, i in zip(w, edge, strict=True))
        weighted = sum(v * math.exp(-0.6 * float(X[i])) * 1.5 * float(X[i]) for v, i in zip(w, edge, strict=True))
        assert float(site["fn"].loc[b]) == pytest.approx(weighted / precision, rel=1e-12)
        assert float(site["fn"].scale[b]) == pytest.approx(precision**-0.5, rel=1e-12)
        assert float(site["value"][b]) == pytest.approx(sum(v * float(Y[i]) for v, i in zip(w, edge, strict=True)))


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("num_fused", [2, 3])
def test_the_fused_density_against_quadrature(pool, num_fused):
    weights, given = draw(num_fused)
    site: Any = (
        poutine.trace(fuse(regression, at="y", weight=given, num_fused=num_fused, pool=pool)).get_trace(X, Y).nodes["y"]
    )
    grid = torch.linspace(-25, 25, 20_001, dtype=torch.float64)[:, None]
    each = dist.Normal(1.5 * X, (0.3 * X).exp()).log_prob(grid)  # [points, B]
    edges = torch.tensor([members(b, num_fused) for b in range(B)])
    if pool == "linear":
        expected = (weights * each[:, edges].exp()).sum(-1)
    else:
        product = (weights * each[:, edges]).sum(-1).exp()
        expected = product / torch.trapezoid(product, grid, dim=0)
    torch.testing.assert_close(site["fn"].log_prob(grid).exp(), expected, rtol=1e-8, atol=1e-12)


def test_every_part_sees_the_edge_alike():
    """One draw for an edge gives its members one density and one label, whichever part they are in."""
    weights = Dirichlet(torch.full((3,), 0.5, dtype=torch.float64)).sample((B // 3,)).repeat(3, 1)
    site: Any = poutine.trace(fuse(regression, at="y", weight=weights, num_fused=3)).get_trace(X, Y).nodes["y"]
    for values in (site["fn"].loc, site["fn"].scale, site["value"]):
        torch.testing.assert_close(values, values[: B // 3].repeat(3))


def test_weights_of_an_asymmetric_distribution_belong_to_the_parts():
    """A row of part p has the p-th weight for itself, so that whatever the distribution, all parts' edges follow it."""
    weight = dist.Delta(torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), event_dim=1)
    fixed = torch.as_tensor(weight.mean)
    site: Any = poutine.trace(fuse(regression, at="y", weight=fixed, num_fused=3)).get_trace(X, Y).nodes["y"]
    parts = Y.reshape(3, -1)
    torch.testing.assert_close(site["value"], (0.7 * parts[0] + 0.2 * parts[1] + 0.1 * parts[2]).repeat(3))


def test_weights_are_drawn_in_the_plates_of_the_site():
    def model(x, y):
        with pyro.plate("replica", 2, dim=-2), pyro.plate("data", B, dim=-1):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    alpha = torch.tensor([[0.1], [2.0]], dtype=torch.float64)[..., None].expand(2, 1, 3)
    trace = poutine.trace(fuse(model, at="y", weight=dist.Dirichlet(alpha), num_fused=3, plate="data")).get_trace(X, Y)
    weights = trace.nodes["lambda"]["value"]
    assert weights.shape == (2, B, 3)
    parts = Y.reshape(3, -1)
    expected = sum(weights[..., q] * parts[q].repeat(3) for q in range(3))
    torch.testing.assert_close(trace.nodes["y"]["value"], expected)


def test_rows_may_lie_in_another_plate_than_the_last():
    def model(x, y):
        with pyro.plate("data", B, dim=-2), pyro.plate("outputs", 2, dim=-1):
            pyro.sample("y", dist.Normal(x[:, None], 1.0), obs=y)

    y = torch.stack([Y, Y.cos()], -1)
    weights = Dirichlet(torch.ones(B, 2, 3, dtype=torch.float64)).sample()
    site: Any = poutine.trace(fuse(model, at="y", weight=weights, num_fused=3, plate="data")).get_trace(X, y).nodes["y"]
    parts = y.reshape(3, -1, 2)
    expected = sum(weights[..., q] * parts[q].repeat(3, 1) for q in range(3))
    torch.testing.assert_close(site["value"], expected)


def test_an_embedding_of_three_rows():
    def model(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, None], (0.2 * x[:, None]).exp()).to_event(1))
            h = pyro.deterministic("h", z.tanh(), event_dim=1)
            pyro.sample("y", dist.Normal(h[:, 0], 0.5), obs=y)

    weights, given = draw(3)
    edges = torch.tensor([members(b, 3) for b in range(B)])
    precision = (weights * (-0.4 * X[edges]).exp()).sum(-1)
    mean = (weights * (-0.4 * X[edges]).exp() * X[edges]).sum(-1) / precision
    trace = poutine.trace(fuse(model, at="z", weight=given, num_fused=3)).get_trace(X, Y)
    torch.testing.assert_close(trace.nodes["z"]["fn"].base_dist.loc[:, 0], mean)
    torch.testing.assert_close(trace.nodes["y"]["value"], (weights * Y[edges]).sum(-1))
    torch.manual_seed(0)
    alone: Any = poutine.trace(model).get_trace(X, Y).nodes["h"]["value"]
    torch.manual_seed(0)
    points: Any = poutine.trace(fuse(model, at="h", weight=given, num_fused=3)).get_trace(X, Y).nodes["h"]["value"]
    torch.testing.assert_close(points[:, 0], (weights * alone[:, 0][edges]).sum(-1))


def test_classes_are_pooled_with_the_same_weights():
    labels = torch.arange(B) % 4
    weights, given = draw(3)
    logits = torch.randn(B, 4, dtype=torch.float64)
    edges = torch.tensor([members(b, 3) for b in range(B)])
    beta = 0.05

    def model(y):
        with pyro.plate("data", B):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    fused = fuse(model, at="y", weight=given, num_fused=3, beta=beta, labels="expected")
    trace = poutine.trace(fused).get_trace(labels)
    trace.compute_log_prob()
    kernels = (torch.nn.functional.one_hot(labels, 4).double() + beta) / (1 + 4 * beta)
    soft = (weights[..., None] * kernels[edges].log()).sum(1).softmax(-1)
    log_pool = (weights[..., None] * logits[edges]).sum(1).log_softmax(-1)
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], (soft * log_pool).sum(-1))
    # Assumption 4.2 at beta = 0: the linear pool of the one-hot labels.
    trace = poutine.trace(fuse(model, at="y", weight=given, num_fused=3, labels="expected")).get_trace(labels)
    trace.compute_log_prob()
    soft = (weights[..., None] * torch.nn.functional.one_hot(labels, 4)[edges]).sum(1)
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], (soft * log_pool).sum(-1))


@pytest.mark.parametrize(
    ("density", "kernel"),
    [
        (lambda x: dist.Poisson(x.exp()), None),
        (lambda x: dist.Bernoulli(logits=x), None),
        (lambda x: dist.Normal(x, 1.0), DiracKernel()),
    ],
    ids=["counts", "binary", "any"],
)
def test_a_label_is_one_of_the_three_with_its_weight(density, kernel):
    y = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0] * 2, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def model():
        with pyro.plate("draws", 2000, dim=-2), pyro.plate("data", B, dim=-1):
            pyro.sample("y", density(X), obs=y.expand(2000, B))

    trace: Any = poutine.trace(
        fuse(model, at="y", weight=weights, num_fused=3, kernel=kernel, plate="data")
    ).get_trace()
    values = trace.nodes["y"]["value"]
    parts = y.reshape(3, -1)
    p = (weights[:, None] * parts).sum(0).repeat(3)
    assert torch.all((values.mean(0) - p).abs() <= 4 * (p * (1 - p) / 2000).sqrt())


@pytest.mark.parametrize("num_fused", [2, 3])
@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_labels_of_a_linear_pool_of_responses_are_chosen_not_mixed(num_fused, beta):
    """g^y is linear where g^x is: the label is each row's with its weight, and the kernel's noise is around that one."""
    weights = Dirichlet(torch.full((num_fused,), 2.0, dtype=torch.float64)).sample((B,))
    given = weights[:, 0] if num_fused == 2 else weights
    labels = torch.linspace(-3, 3, B, dtype=torch.float64)

    def model():
        with pyro.plate("draws", 4000, dim=-2), pyro.plate("data", B, dim=-1):
            pyro.sample("y", dist.Normal(X, 1.0), obs=labels.expand(4000, B))

    trace: Any = poutine.trace(
        fuse(model, at="y", weight=given, num_fused=num_fused, pool="linear", beta=beta, plate="data")
    ).get_trace()
    values = trace.nodes["y"]["value"]
    edges = torch.tensor([members(b, num_fused) for b in range(B)])
    own = labels[edges]  # [B, k]
    nearest = (values[..., None] - own).abs().argmin(-1)
    noise = values - own.expand(4000, B, num_fused).gather(-1, nearest[..., None])[..., 0]
    assert abs(float(noise.std()) - beta**0.5) < 0.01
    for m in range(num_fused):
        p = weights[:, m]
        assert torch.all(((nearest == m).double().mean(0) - p).abs() <= 4.5 * (p * (1 - p) / 4000).sqrt())
    # In expectation: the mean of the log-densities of the labels.
    fused = fuse(regression, at="y", weight=given, num_fused=num_fused, pool="linear", labels="expected")
    trace = poutine.trace(fused).get_trace(X, labels)
    trace.compute_log_prob()
    density = torch.stack([
        torch.stack([
            torch.logsumexp(weights[b].log() + dist.Normal(1.5 * X[e], (0.3 * X[e]).exp()).log_prob(labels[i]), -1)
            for i in e
        ])
        for b, e in enumerate(edges)
    ])  # fmt: skip
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], (weights * density).sum(-1))


def test_a_masked_row_masks_those_fused_with_it():
    mask: Any = torch.ones(B, dtype=torch.bool)
    mask[5] = False
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    results = []
    for filler in (0.0, 100.0):
        filled = torch.where(mask, Y, filler)
        fused = fuse(poutine.mask(regression, mask), at="y", weight=weights, num_fused=3)
        trace = poutine.trace(fused).get_trace(X, filled)
        trace.compute_log_prob()
        results.append(trace.nodes["y"]["log_prob"])
    torch.testing.assert_close(results[0], results[1])
    assert (results[0] == 0).nonzero().flatten().tolist() == [1, 5, 9]  # the edge of row 5, in which all see its weight
    weights = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    fused = fuse(poutine.mask(regression, mask), at="y", weight=weights, num_fused=3)
    trace = poutine.trace(fused).get_trace(X, Y)
    trace.compute_log_prob()
    assert (trace.nodes["y"]["log_prob"] == 0).nonzero().flatten().tolist() == [5]  # the others give it no weight


def dirichlet(a, num_fused, dtype, symmetric):
    if symmetric:
        return SymmetricDirichlet(torch.tensor(a, dtype=dtype), num_fused)
    return Dirichlet(torch.full((num_fused,), a, dtype=dtype))


@pytest.mark.parametrize("a", [1e-5, 1e-3, 0.01, 0.1, 1.0, 50.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_fused", "symmetric"), [(3, False), (3, True), (4, True)])
def test_draws_follow_the_dirichlet_law(a, dtype, num_fused, symmetric):
    """Each weight is Beta(a, (k - 1) a); a corner is reached as often as any other."""
    draws = 100_000
    x = dirichlet(a, num_fused, dtype, symmetric).expand((2,)).sample((draws // 2,)).flatten(0, 1)
    assert x.dtype == dtype and x.shape == (draws, num_fused)
    assert bool((x > 0).all()) and bool(((x.sum(-1) - 1).abs() < 1e-5).all())
    exact = stats.beta(a, (num_fused - 1) * a)
    for m in range(num_fused):
        for low, high in [(-1.0, 0.01), (0.01, 0.25), (0.25, 0.34), (0.34, 0.5), (0.5, 0.99), (0.99, 2.0)]:
            p = exact.cdf(high) - exact.cdf(low)
            share = ((x[:, m] > low) & (x[:, m] <= high)).double().mean()
            assert abs(share - p) < 4.5 * math.sqrt(max(p * (1 - p), 0.0) / draws) + 1e-12


@pytest.mark.parametrize("num_fused", [4, 8])
def test_symmetric_weights_are_correlated_alike_wherever_they_are(num_fused):
    """Also across the halves that are drawn one after the other: cov = -1 / (k^2 (k a + 1)), and any two sum to a Beta."""
    a, draws = 0.6, 100_000
    x = SymmetricDirichlet(torch.full((2,), a, dtype=torch.float64), num_fused).sample((draws // 2,)).flatten(0, 1)
    expected = (torch.eye(num_fused, dtype=torch.float64) / num_fused - 1 / num_fused**2) / (num_fused * a + 1)
    torch.testing.assert_close(torch.cov(x.T), expected, atol=1.5e-3, rtol=0)
    for other in (1, num_fused - 1):
        exact = stats.beta(2 * a, (num_fused - 2) * a)
        assert stats.kstest((x[:20_000, 0] + x[:20_000, other]).numpy(), exact.cdf).pvalue > 1e-3
    log_prob = SymmetricDirichlet(torch.tensor(a, dtype=torch.float64), num_fused).log_prob(x[:5])
    torch.testing.assert_close(
        log_prob, torch.distributions.Dirichlet(torch.full((num_fused,), a).double()).log_prob(x[:5])
    )


def test_the_weights_of_three_are_correlated_as_they_should_be():
    a = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    x = Dirichlet(a).sample((200_000,))
    covariance = torch.cov(x.T)
    mean = a / a.sum()
    expected = (torch.diag(mean) - torch.outer(mean, mean)) / (a.sum() + 1)
    torch.testing.assert_close(covariance, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("a", [0.02, 0.5, 3.0])
def test_two_weights_of_the_dirichlet_law_are_those_of_the_beta_law(a):
    x = Dirichlet(torch.full((2,), a, dtype=torch.float64)).sample((30_000,))[:, 0]
    inside, exact = x[(x > 1e-6) & (x < 1 - 1e-6)].numpy(), stats.beta(a, a)
    low, high = exact.cdf([1e-6, 1 - 1e-6])
    assert stats.kstest(inside, lambda q: (exact.cdf(q) - low) / (high - low)).pvalue > 1e-3


def test_gradient_of_the_shapes():
    """Pathwise: the mean a_m / sum(a) has the slope (sum(a) - a_m) / sum(a)^2 in a_m."""
    a = torch.tensor([0.7, 1.3, 0.4], dtype=torch.float64).expand(100_000, 3).clone().requires_grad_()
    (slope,) = torch.autograd.grad(Dirichlet(a).rsample()[:, 0].sum(), a)
    expected = torch.tensor([1.7, -0.7, -0.7], dtype=torch.float64) / 2.4**2
    error = slope.std(0) / math.sqrt(len(a))
    assert bool(((slope.mean(0) - expected).abs() < 4 * error).all())


def test_the_elbo_of_three_rows_is_finite_at_the_corners():
    """Weights of tiny shapes lie at the corners, where the distribution's own density must not make NaN of the difference."""
    x, y = X.float(), Y.float()
    weight = dist.Dirichlet(torch.full((3,), 1e-4))
    fused = fuse(regression, at="y", weight=weight, num_fused=3)
    loss = pyro.infer.Trace_ELBO().loss(fused, PriorGuide(fused), x, y)
    assert math.isfinite(loss)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight": 0.5, "num_fused": 1}, r"num_fused=1, expected an integer of at least 2.*Try num_fused=2"),
        (
            {"weight": 0.5, "num_fused": 3},
            r"the weight 0.5 for num_fused=3, expected a tensor \[\.\.\., 3\]. Try dist.Dirichlet",
        ),
        ({"weight": torch.ones(4) / 4, "num_fused": 3}, r"of shape \(4,\) for num_fused=3"),
        ({"weight": torch.tensor([0.5, 0.4, 0.3]), "num_fused": 3}, r"expected values of at least 0 that sum to 1"),
        (
            {"weight": dist.Beta(0.5, 0.5), "num_fused": 3},
            r"drawn from Beta with event shape \(\).*the simplex of 3 weights",
        ),
        ({"weight": dist.Dirichlet(torch.ones(4)), "num_fused": 3}, r"event shape \(4,\).*the simplex of 3 weights"),
        ({"weight": dist.Dirichlet(torch.ones(3))}, r"expected the unit interval.*or num_fused=k"),
        ({"weight": dist.Beta(torch.ones(8), 1.0).to_event(1)}, r"event shape \(8,\).*expected the unit interval.*Try"),
        ({"weight": None}, r"weight=None, expected a number, a Tensor, a Distribution or a sequence.*Try"),
        ({"weight": "a"}, r"the weight 'a', expected a number, a tensor or a distribution.*Try"),
        ({"weight": dist.Beta}, r"weight=Beta, expected a number, a Tensor, a Distribution or a sequence.*Try"),
    ],
)
def test_weights_off_the_simplex_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fuse(regression, at="y", **options)


def test_a_batch_of_no_equal_parts_is_refused():
    fused = fuse(regression, at="y", weight=dist.Dirichlet(torch.ones(5)), num_fused=5)
    with pytest.raises(ValueError, match=r"'y' has a batch of 12 rows, expected 5 equal parts.*Try a batch of 15 rows"):
        fused(X, Y)
    with pytest.raises(ValueError, match=r"the weight of fuse \(7,\), expected shapes that broadcast"):
        fuse(regression, at="y", weight=torch.ones(7, 3) / 3, num_fused=3)(X, Y)
