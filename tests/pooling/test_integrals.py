"""The masses of products whose form is known, Student's t and negative binomials, against sums and integrals by others."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_probmix.pooling import log_linear_pool, pool_rows
from pyro_probmix.pooling.integrals.power_tails import PowerTail, PowerTails


def random(rows: int, seed: int) -> Tensor:
    return torch.rand(8, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ratio, bound", [(10.0, 1e-8), (1000.0, 2e-6)])
def test_the_mass_of_power_tails_is_that_of_many_more_nodes(ratio: float, bound: float, monkeypatch: Any) -> None:
    """Near and far apart, from half a degree of freedom to a thousand, with weights near 0 and 1 too."""
    u = random(4000, seed=1)
    scales = ratio ** (u[:2] - 0.5)
    df = 0.5 * 2000 ** u[2:4]
    locs = 20 * u[4:6] ** 2
    share = u[6].clamp(1e-4, 1 - 1e-4) ** 3

    def mass(dtype: torch.dtype) -> Tensor:
        pair = [PowerTail(locs[k].to(dtype), scales[k].to(dtype), df[k].to(dtype)) for k in range(2)]
        return PowerTails(pair, [share.to(dtype), 1 - share.to(dtype)]).log_mass().double()

    ours, single = mass(torch.float64), mass(torch.float32)
    monkeypatch.setattr("pyro_probmix.pooling.integrals.power_tails._FINE", 2000)
    many = mass(torch.float64)
    assert (ours - many).abs().max() < bound
    assert (single - many).abs().max() < 1e-3
    assert (single - many).abs().median() < 1e-5


def test_gradients_of_a_student_pool_are_those_of_a_sum_over_a_fine_grid() -> None:
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.4, 2.5, 0.3, 1.2, 3.0, 9.0, 0.35)]
    c1, c2, s1, s2, d1, d2, weight = leaves
    p, q = dist.StudentT(d1, c1, s1), dist.StudentT(d2, c2, s2)
    value = torch.tensor(0.9, dtype=torch.float64)
    v = torch.linspace(-25, 25, 20001, dtype=torch.float64)
    grid = torch.sinh(v)
    scores = weight * p.log_prob(grid) + (1 - weight) * q.log_prob(grid) + torch.log(torch.cosh(v) * (v[1] - v[0]))
    by_grid = weight * p.log_prob(value) + (1 - weight) * q.log_prob(value) - scores.logsumexp(0)
    ours = log_linear_pool(p, q, weight).log_prob(value)
    torch.testing.assert_close(ours, by_grid, rtol=0.0, atol=1e-8)
    wanted = torch.autograd.grad(by_grid, leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves), wanted, rtol=1e-6, atol=1e-8)


def test_a_traced_step_has_gradients_beside_a_student_that_is_not_finite() -> None:
    """A member without weight is not read, though no value can be looked at."""

    def gradients(loc: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        pool: Any = pool_rows(dist.StudentT(3.0, loc, loc.exp()), weight, 1)
        log_prob = pool.log_prob(torch.tensor([0.1, 0.2], dtype=torch.float64))
        return torch.autograd.grad(log_prob.sum(), [loc])

    loc = torch.tensor([0.5, torch.nan], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 0.0], dtype=torch.float64)  # the first row alone is read, by both
    with pyro.validation_enabled(False):  # which looks at values
        traced = make_fx(gradients)(loc, weight)
        (own,), eagerly = traced(loc, weight), gradients(loc, weight)
    assert own[0].isfinite()
    assert own[0] != 0
    torch.testing.assert_close((own,), eagerly, equal_nan=True)


@pytest.mark.parametrize("mean", [0.05, 3.0, 100.0])
def test_pools_of_negative_binomials_of_differing_totals(mean: float) -> None:
    """Value and gradient against the sum over all counts; a total of zero, whose counts are all 0, too."""
    u = random(60, seed=2)
    totals, shares = 0.2 * 500 ** u[:2], u[2].clone()
    totals[0, 0], shares[1], shares[2] = 0.0, 0.0, 1.0
    logits = (mean * (0.5 + u[3:5]) / totals.clamp(min=1e-3)).log()
    leaves = [x.requires_grad_() for x in (totals, logits, shares)]
    p, q = (dist.NegativeBinomial(totals[k], logits=logits[k], validate_args=False) for k in range(2))
    value = torch.poisson(mean * (0.5 + u[5]), generator=torch.Generator().manual_seed(3))
    value[0] = 0.0
    counts = torch.arange(30_000 if mean > 10 else 3_000, dtype=torch.float64)[:, None]

    def score(n: Tensor) -> Tensor:
        both = (share * member.log_prob(n) for share, member in zip((shares, 1 - shares), (p, q), strict=True))
        first, second = (
            term.masked_fill(none, 0.0) for term, none in zip(both, (shares == 0, shares == 1), strict=True)
        )
        total: Tensor = first + second
        return total

    by_sum = score(value) - score(counts).logsumexp(0)
    ours = log_linear_pool(p, q, shares).log_prob(value)
    torch.testing.assert_close(ours, by_sum, rtol=0.0, atol=1e-8)
    rest = slice(3, None)  # brute force has no gradient at the total of zero, nor beside what has no weight
    wanted = torch.autograd.grad(by_sum[rest].sum(), leaves)
    found = torch.autograd.grad(ours[rest].sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one[..., rest], other[..., rest], rtol=1e-5, atol=1e-5)
    assert log_linear_pool(p, q, shares).log_prob(torch.ones(60, dtype=torch.float64))[0] == -torch.inf


@pytest.mark.parametrize(
    ("totals", "means", "weight", "last"),
    [
        ((0.34, 0.76), (46.9, 20.2), 0.986, 20_000),  # a search for the mode that has come to it goes on
        ((0.61, 7.22), (62.1, 16.2), 0.977, 20_000),
        ((0.002, 0.004), (3.0, 5.0), 0.5, 120_000),  # nearly all of the mass at 0, the rest over five powers of ten
        ((3000.0, 8.0), (2500.0, 1800.0), 0.7, 40_000),
    ],
)
def test_pools_of_negative_binomials_of_odd_shapes(
    totals: tuple[float, float], means: tuple[float, float], weight: float, last: int
) -> None:
    """Value, gradient and second derivative of the normaliser against the sum over all counts."""
    r, m = (torch.tensor(x, dtype=torch.float64).requires_grad_() for x in (totals, means))
    w = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    p, q = (dist.NegativeBinomial(r[k], logits=(m[k] / r[k]).log(), validate_args=False) for k in range(2))
    n = torch.arange(last, dtype=torch.float64)
    by_sum = (
        -(w * p.log_prob(n) + (1 - w) * q.log_prob(n)).logsumexp(0) + w * p.log_prob(n[7]) + (1 - w) * q.log_prob(n[7])
    )
    ours = log_linear_pool(p, q, w).log_prob(n[7])
    torch.testing.assert_close(ours, by_sum, rtol=0.0, atol=1e-8)
    first = [torch.autograd.grad(x, (r, m, w), create_graph=True) for x in (ours, by_sum)]
    squares = [torch.cat([g.flatten() for g in found]).square().sum() for found in first]
    second = [torch.autograd.grad(square, (r, m, w), retain_graph=True) for square in squares]
    for found, wanted in (first, second):
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=3e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("totals", "means", "weight"),
    [
        ((1e6, 1e9), (1e6, 1e6), 0.1),
        ((1e7, 1e3), (1e6, 1e6), 0.9),
        ((1.0, 1e7), (1e4, 1e6), 0.1),
        ((1e8, 1e3), (1e6, 1e3), 0.9),
        ((1e5, 1e5), (1e5, 2e5), 0.5),
    ],
)
def test_pools_of_negative_binomials_that_are_nearly_poisson(
    totals: tuple[float, float], means: tuple[float, float], weight: float
) -> None:
    """A narrow peak far from 0, which a search from the tail of a total's geometric decay did not come to."""
    r, m = torch.tensor(totals, dtype=torch.float64), torch.tensor(means, dtype=torch.float64)
    p, q = (dist.NegativeBinomial(r[k], logits=(m[k] / r[k]).log()) for k in range(2))
    pool = log_linear_pool(p, q, torch.tensor(weight, dtype=torch.float64))
    log_prob = pool.log_prob(torch.arange(1_200_000, dtype=torch.float64))
    torch.testing.assert_close(log_prob.logsumexp(0), torch.zeros((), dtype=torch.float64), rtol=0.0, atol=1e-5)


def test_a_negative_binomial_without_weight_is_constant_to_the_weights() -> None:
    u = torch.tensor([0.25, 0.75], dtype=torch.float64, requires_grad=True)
    shares = torch.cat([u, 1 - u.sum(0, keepdim=True)])
    assert shares[2] == 0
    logits = torch.tensor([0.3, 1.5, -0.4], dtype=torch.float64)
    p = [
        dist.NegativeBinomial(torch.tensor(r, dtype=torch.float64), logits=x)
        for r, x in zip((1.5, 4, 0.3), logits, strict=True)
    ]
    n = torch.arange(2_000, dtype=torch.float64)
    score = sum(shares[k] * p[k].log_prob(n) for k in range(2))
    ours = log_linear_pool(p[0], p[1:], shares).log_prob(n[3])
    (wanted,) = torch.autograd.grad(score[3] - score.logsumexp(0), u, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(ours, u)[0], wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch in forward mode
def test_torch_func_goes_through_pools_of_negative_binomials() -> None:
    logits, weight = random(2, seed=4)[:5] - 0.5, random(5, seed=5)[0]
    totals, seven = torch.tensor([0.7, 3.0], dtype=torch.float64), torch.tensor(7.0, dtype=torch.float64)

    def score(r: Tensor, logits: Tensor, w: Tensor) -> Tensor:
        p, q = (dist.NegativeBinomial(r[k], logits=logits[k]) for k in range(2))
        log_prob: Tensor = log_linear_pool(p, q, w).log_prob(seven)
        return log_prob

    with pyro.validation_enabled(False):
        mapped = torch.vmap(score, in_dims=(None, 0, 0))(totals, logits, weight)
        slopes = torch.vmap(torch.func.grad(score, argnums=(0, 1, 2)), in_dims=(None, 0, 0))(totals, logits, weight)
        for i in range(5):
            inputs = tuple(x.clone().requires_grad_() for x in (totals, logits[i], weight[i]))
            own = score(*inputs)
            torch.testing.assert_close(mapped[i], own)
            torch.testing.assert_close(tuple(x[i] for x in slopes), torch.autograd.grad(own, inputs))
        bends = torch.func.hessian(score)(totals, logits[0], weight[0])  # forward over reverse
        wanted = torch.autograd.functional.hessian(lambda r: score(r, logits[0], weight[0]), totals)
        torch.testing.assert_close(bends, wanted)


class Pointed(dist.TorchDistribution):
    """A Laplace density whose class says nothing of where it is pointed."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as in every torch distribution
    support = constraints.real

    def __init__(self, point: Tensor) -> None:
        self.point = point
        super().__init__(point.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return -(value - self.point).abs() - math.log(2)


def test_a_class_of_ones_own_may_have_kinks_that_it_says_nothing_of() -> None:
    points = torch.tensor([-2.3, -0.61, 0.117, 1.37], dtype=torch.float64)
    weight = torch.tensor([0.3, 0.9, 0.55, 0.2], dtype=torch.float64)
    pool = pool_rows(Pointed(points), weight, 2)
    known = pool_rows(dist.Laplace(points, 1.0), weight, 2)
    value = torch.tensor([0.4, -1.0, 2.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(pool.log_prob(value), known.log_prob(value), rtol=0.0, atol=2e-5)
