"""What every pool of every family must satisfy, and what the linear and the numerical pool promise beyond."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from pyro.distributions import TorchDistribution, transforms
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from scipy.integrate import quad
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from pyro_probmix.pooling.families import find_family, register_family
from pyro_probmix.pooling.linear import LinearPool
from pyro_probmix.pooling.numerical import NumericalPool
from pyro_probmix.pooling.rows.batches import roll_batch
from pyro_probmix.testing import check_family, check_pool
from tests.pooling.cases import CLOSED, EVERY, NUMERICAL, REAL, Case, panels, real_line, t

POOLS: dict[str, Callable[..., Any]] = {"log-linear": log_linear_pool, "linear": linear_pool}
every_case = pytest.mark.parametrize("case", EVERY, ids=[case.name for case in EVERY])
every_pool = pytest.mark.parametrize("pool", POOLS)


# What every pool of every family satisfies


@every_case
@every_pool
def test_a_pool_holds_the_invariants_of_pools(case: Case, pool: str) -> None:
    if pool == "log-linear" and case in CLOSED:
        return check_family(case.make, case.arguments, grid=(case.points, case.log_measure), tolerance=case.tolerance)
    skip = ["dtype", "device"] if case.on_cpu else []
    if pool == "log-linear" and case.name in ("Gumbel", "Weibull", "Kumaraswamy"):
        skip = ["device"]  # whose transforms, made anew for each member, are compared by their values
    if case.name == "LowRankMultivariateNormal":
        skip = ["device"]  # its matrix product takes values of its parameters' precision alone
    grid = case.points, case.log_measure
    check_pool(POOLS[pool], case.make, case.arguments, grid=grid, tolerance=case.tolerance, skip=skip)


@every_case
@every_pool
def test_a_pool_of_three_is_that_of_brute_force(case: Case, pool: str) -> None:
    members = [case.member(k)[0] for k in range(3)]
    weights = t([0.2, 0.5, 0.3], [0.0, 0.9, 0.1])
    value = case.common()
    if pool == "linear":
        scores = torch.stack([p.log_prob(value) for p in members], -1)
        expected = (weights * scores.exp()).sum(-1).log()
    else:
        first = case.log_pool(weights[0].unbind(), members, value)[:, 0]
        second = case.log_pool(weights[1, 1:].unbind(), members[1:], value)[:, 1]  # the first has no weight there
        expected = torch.stack([first, second], -1)
    pooled = POOLS[pool](members[0], members[1:], weights)
    torch.testing.assert_close(pooled.log_prob(value), expected, rtol=0.0, atol=10 * case.tolerance)


@every_case
@every_pool
def test_pooling_rows_is_pooling_with_the_rows_exchanged(case: Case, pool: str) -> None:
    p, leaves = case.member(0, requires_grad=True)
    value, weight = case.common(), t(0.3, 0.0)
    ours = pool_rows(p, weight, shift=1, pool=pool).log_prob(value)  # type: ignore[arg-type]
    expected = POOLS[pool](p, case.make(*(x.roll(1, 0) for x in leaves)), weight).log_prob(value)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=case.tolerance)
    possible = expected.isfinite()
    for actual, wanted in zip(
        torch.autograd.grad(ours[possible].sum(), leaves, retain_graph=True),
        torch.autograd.grad(expected[possible].sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-7, atol=100 * case.tolerance)


@every_case
@every_pool
def test_pooling_three_rows_is_pooling_with_the_rows_exchanged_twice(case: Case, pool: str) -> None:
    weights = torch.stack([t(0.3, 0.0), t(0.5, 0.2), t(0.2, 0.8)], -1)
    (p, leaves), value = case.member(0), case.common()
    ours = pool_rows(p, weights, shift=1, pool=pool, num_fused=3).log_prob(value)  # type: ignore[arg-type]
    expected = POOLS[pool](p, [case.make(*(x.roll(m, 0) for x in leaves)) for m in (1, 2)], weights).log_prob(value)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=case.tolerance)


# The ideas of Pyro's own checks of distributions: shapes, samples, expansion, support, pickling


X = torch.arange(6.0, dtype=REAL).reshape(2, 3) / 3
WRAPPED = {
    "Delta": lambda k: dist.Delta(X + k, event_dim=1),
    "Independent": lambda k: dist.Normal(X + k, X.exp()).to_event(1),
    "Independent StudentT": lambda k: dist.StudentT(4.0 + k, X, t(1.0)).to_event(1),
}
MEMBERS = {case.name: lambda k, case=case: case.member(k)[0] for case in (*CLOSED, *NUMERICAL)} | WRAPPED
NAMES = [f"{pool} {name}" for pool in POOLS for name in MEMBERS if not name.startswith("torch")]
every_conforming = pytest.mark.parametrize("name", NAMES)


def build(name: str) -> Any:
    pool, _, member = name.partition(" ")
    return POOLS[pool](MEMBERS[member](0), MEMBERS[member](1), t(0.4, 0.7))


@every_conforming
def test_samples_and_scores_have_the_right_shapes_and_lie_in_the_support(name: str) -> None:
    pool = build(name)
    for sample_shape in ((), (5,), (3, 2)):
        sample = pool.sample(torch.Size(sample_shape))
        assert sample.shape == pool.shape(torch.Size(sample_shape))
        assert not sample.requires_grad
        score = pool.log_prob(sample)
        assert score.shape == torch.Size(sample_shape) + pool.batch_shape
        assert score.isfinite().all()
        inside = pool.support.check(sample)
        assert inside.shape == score.shape and inside.all()
    assert pool.support.event_dim == pool.event_dim
    if pool.has_rsample:
        assert pool.rsample((5,)).shape == pool.shape(torch.Size((5,)))


@every_conforming
@pytest.mark.parametrize("default", [False, True], ids=["own expand", "Pyro's expand"])
def test_expanding_leaves_the_density_alone(name: str, default: bool) -> None:
    small = build(name)
    for sample_shape in ((), (2,), (2, 3)):
        batch_shape = torch.Size(sample_shape) + small.batch_shape
        large = TorchDistribution.expand(small, batch_shape) if default else small.expand(batch_shape)
        assert large.batch_shape == batch_shape and large.event_shape == small.event_shape
        value = large.sample()
        assert value.shape == large.shape()
        torch.testing.assert_close(large.log_prob(value), small.log_prob(value))
    with pytest.raises((RuntimeError, ValueError)):
        small.expand((2, 2)).expand((2,))


@every_conforming
def test_a_value_of_the_wrong_shape_is_refused(name: str) -> None:
    pool = build(name)
    shape = pool.shape()
    with pytest.raises((ValueError, RuntimeError)):
        pool.log_prob(torch.ones(shape[0] + 1, *shape[1:], dtype=REAL))


@every_conforming
def test_a_pool_can_be_pickled(name: str) -> None:
    pool = build(name)
    value = pool.sample()
    torch.testing.assert_close(pickle.loads(pickle.dumps(pool)).log_prob(value), pool.log_prob(value))


@every_conforming
def test_draws_in_plates_are_independent_across_the_plate(name: str) -> None:
    pool = build(name)
    with pyro.plate("outer", 3, dim=-2), pyro.plate("rows", 2, dim=-1):
        draw = pyro.sample("y", pool)
    assert draw.shape == (3, *pool.shape())
    if not pool.support.is_discrete and not name.endswith("Delta"):
        assert len(draw[:, 0].reshape(3, -1)[:, -1].unique()) == 3


@pytest.mark.parametrize(
    "case", [case for case in CLOSED if case.member(0)[0].has_enumerate_support], ids=lambda case: case.name
)
@every_pool
def test_finite_supports_can_be_enumerated(case: Case, pool: str) -> None:
    (p, _), (q, _) = case.member(0), case.member(1)
    pooled = POOLS[pool](p, q, 0.3)
    for expand in (False, True):
        values = pooled.enumerate_support(expand=expand)
        assert values.shape == p.enumerate_support(expand=expand).shape
        torch.testing.assert_close(pooled.log_prob(values).exp().sum(0), t(1.0, 1.0))


def test_the_finite_support_of_a_linear_pool_goes_up_to_the_largest_total() -> None:
    rows = dist.BetaBinomial(t(1.0, 2.0), t(2.0, 1.0), total_count=t(3.0, 7.0))
    for pooled in (
        linear_pool(dist.Binomial(3, t(0.2, 0.4)), dist.Binomial(7, t(0.5, 0.9)), t(0.3, 1.0)),
        linear_pool(dist.ExtendedBinomial(3, t(0.2, 0.4)), dist.ExtendedBinomial(7, t(0.5, 0.9)), t(0.3, 1.0)),
        pool_rows(rows, t(0.3, 1.0), 1, pool="linear"),
    ):
        values = pooled.enumerate_support()
        assert values.shape == (8, 2)
        torch.testing.assert_close(pooled.log_prob(values).exp().sum(0), t(1.0, 1.0))
    with pytest.raises(NotImplementedError, match=r"no finite support\. Try sample"):
        linear_pool(dist.Poisson(t(1.0)), dist.Poisson(t(2.0)), 0.5).enumerate_support()


# Weights


@every_pool
@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_a_weight_outside_the_unit_interval_is_refused(pool: str, weight: float) -> None:
    p = dist.Normal(t(0.0, 1.0), 1.0)
    with pytest.raises(ValueError, match=r"A pool got the weight .* expected a value in \[0, 1\]"):
        POOLS[pool](p, p, weight)
    with pytest.raises(ValueError, match=r"A pool got the weights .* expected values in \[0, 1\]"):
        POOLS[pool](p, p, t(0.5, weight))
    with pytest.raises(ValueError, match=r"expected a value in \[0, 1\]"):
        pool_rows(p, weight, 1, pool=pool)  # type: ignore[arg-type] # a parametrised literal


@every_pool
def test_weights_off_the_simplex_are_refused(pool: str) -> None:
    p = dist.Normal(t(0.0, 1.0), 1.0)
    with pytest.raises(ValueError, match=r"weights that sum to .* expected 1"):
        POOLS[pool](p, [p, p], t(0.5, 0.2, 0.1))
    with pytest.raises(ValueError, match=r"weights of shape \(2,\), expected .*batch shape \(2,\) followed by 3"):
        POOLS[pool](p, [p, p], t(0.5, 0.5))
    with pytest.raises(ValueError, match=r"weights of shape \(3,\), expected .*batch shape \(2,\)"):
        POOLS[pool](p, p, t(0.5, 0.5, 0.5))


def test_tensor_weights_are_not_looked_at_without_validation() -> None:
    p = dist.Normal(t(0.0, 1.0), 1.0)
    with pyro.validation_enabled(False):
        log_linear_pool(p, p, t(0.5, 1.5))
        with pytest.raises(ValueError, match="expected a value in"):
            log_linear_pool(p, p, 1.5)


@every_pool
def test_a_weight_may_bring_further_batch_dimensions_and_another_dtype(pool: str) -> None:
    p, q = dist.Normal(t(0.0, 1.0, 2.0), 1.0), dist.Normal(t(5.0), 2.0)
    weight = torch.tensor([[0.25], [0.75]])
    pooled = POOLS[pool](p, q, weight)
    assert pooled.batch_shape == (2, 3)
    for i in range(2):
        for j in range(3):
            alone = POOLS[pool](dist.Normal(p.loc[j], 1.0), dist.Normal(t(5.0)[0], 2.0), weight[i, 0].item())
            torch.testing.assert_close(pooled.log_prob(t(0.7))[i, j], alone.log_prob(t(0.7)[0]))
    assert POOLS[pool](p, q, torch.tensor(1)).log_prob(t(0.0)).dtype == REAL


# Members that do not fit


@every_pool
@pytest.mark.parametrize(
    ("p", "q", "error", "message"),
    [
        (dist.Normal(0.0, 1.0), dist.Gamma(1.0, 1.0), TypeError, r"pool Normal\(.* with Gamma\(.*one family"),
        (dist.Laplace(0.0, 1.0), dist.Cauchy(0.0, 1.0), TypeError, r"pool Laplace\(.* with Cauchy\("),
        (dist.Normal(0.0, 1.0), dist.Normal(0.0, 1.0).mask(True), TypeError, r"Normal\(.* with MaskedDistribution\("),
        (
            dist.Normal(torch.zeros(2), 1.0).to_event(1),
            dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            TypeError,
            r"Independent\(.* with MultivariateNormal\(",
        ),
        (
            dist.Normal(torch.zeros(2), 1.0).to_event(1),
            dist.Normal(torch.zeros(3), 1.0).to_event(1),
            ValueError,
            r"Independent\(.*event_shape=\(2,\)\) with Independent\(.*event_shape=\(3,\)\).*equal event shapes",
        ),
        (dist.Normal(torch.zeros(2), 1.0), dist.Normal(torch.zeros(3), 1.0), ValueError, "batch shapes that broadcast"),
        (dist.Normal(0.0, 1.0), [], ValueError, "expected at least one further member"),
        (dist.Normal(0.0, 1.0), [0.5], TypeError, r"got a member of type float, expected a distribution"),
    ],
)
def test_members_that_do_not_fit_are_both_named(pool: str, p: Any, q: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        POOLS[pool](p, q, 0.5)


def test_different_numbers_of_classes_have_no_log_linear_pool() -> None:
    p, q = dist.Multinomial(3, torch.ones(2)), dist.Multinomial(4, torch.ones(2))
    with pytest.raises(ValueError, match=r"supports differ.*same total_count"):
        log_linear_pool(p, q, 0.5)
    with pytest.raises(ValueError, match="supports differ"):
        log_linear_pool(dist.Categorical(torch.ones(3)), dist.Categorical(torch.ones(4)), 0.5)


@pytest.mark.parametrize(
    "p",
    [
        dist.MultivariateStudentT(torch.tensor(3.0), torch.zeros(2), torch.eye(2)),
        dist.MixtureSameFamily(
            dist.Categorical(torch.ones(2)), dist.MultivariateNormal(torch.zeros(2, 2), torch.eye(2))
        ),
    ],
    ids=lambda p: type(p).__name__,
)
def test_a_family_without_a_closed_pool_beyond_one_continuous_dimension_is_refused(p: Any) -> None:
    with pytest.raises(TypeError, match=rf"A {type(p).__name__} .*Try the linear pool, or register_family"):
        log_linear_pool(p, p, 0.5)


def test_rows_of_no_such_dimension_or_pool_are_refused() -> None:
    p = dist.Normal(torch.zeros(4), 1.0)
    for dim in (0, -2):
        with pytest.raises(ValueError, match=f"got dim={dim} for a Normal"):
            pool_rows(p, 0.5, 2, dim)
    with pytest.raises(ValueError, match="got pool='geometric', expected 'log-linear' or 'linear'"):
        pool_rows(p, 0.5, 2, pool="geometric")  # type: ignore[arg-type]


# Through wrappers


def test_the_pool_of_products_is_the_product_of_pools() -> None:
    x, y, weight = torch.randn(2, 3, 2, dtype=REAL), torch.randn(2, 3, 2, dtype=REAL), t(0.3, 0.8)
    for family in (dist.Normal, dist.Laplace):
        p, q = (family(loc, t(1.0)).to_event(2) for loc in (x, y))
        pooled = log_linear_pool(p, q, weight)
        assert pooled.batch_shape == (2,) and pooled.event_shape == (3, 2)
        value = torch.randn(2, 3, 2, dtype=REAL)
        inner = log_linear_pool(family(x, t(1.0)), family(y, t(1.0)), weight.reshape(2, 1, 1))
        torch.testing.assert_close(pooled.log_prob(value), inner.log_prob(value).sum((-1, -2)))


def test_log_linear_pooling_commutes_with_a_shared_bijection() -> None:
    shared = [transforms.AffineTransform(0.5, 2.0), transforms.SigmoidTransform()]
    bases = [dist.Normal(t(0.0, 1.0), 1.0), dist.Normal(t(2.0, -1.0), 0.5)]
    p, q = (dist.TransformedDistribution(base, list(shared)) for base in bases)
    pooled = log_linear_pool(p, q, 0.3)
    u, step = real_line()
    grid, jacobian = u.sigmoid(), torch.nn.functional.logsigmoid
    log_measure = step + jacobian(u) + jacobian(-u)
    keep = (grid > 1e-12) & (grid < 1 - 1e-12)
    grid, log_measure = grid[keep].unsqueeze(-1), log_measure[keep].unsqueeze(-1)
    raw = 0.3 * p.log_prob(grid) + 0.7 * q.log_prob(grid)
    expected = raw - torch.logsumexp(raw + log_measure, 0)
    torch.testing.assert_close(pooled.log_prob(grid[::50]), expected[::50], rtol=1e-8, atol=1e-8)
    assert type(pooled) is dist.TransformedDistribution


def test_transforms_that_differ_are_pooled_numerically() -> None:
    def moved(loc: torch.Tensor) -> Any:
        return dist.TransformedDistribution(
            dist.Normal(torch.zeros_like(loc), 1.0), transforms.AffineTransform(loc, 2.0)
        )

    loc, value = t(0.0, 1.0, 4.0), t(0.5, 0.7, 3.0)
    expected = pool_rows(dist.Normal(loc, 2.0), 0.3, 1).log_prob(value)
    pooled = pool_rows(moved(loc), 0.3, 1)
    assert isinstance(pooled, NumericalPool)
    torch.testing.assert_close(pooled.log_prob(value), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_linear_pool(moved(loc), moved(loc.roll(1)), 0.3).log_prob(value), expected)


def test_rows_behind_a_shared_flow_are_pooled_at_its_base() -> None:
    flow = transforms.affine_coupling(2, [4]).double()
    loc = torch.randn(4, 2, dtype=REAL)
    p = dist.TransformedDistribution(dist.Normal(loc, 1.0).to_event(1), [flow])
    pooled = pool_rows(p, 0.3, 2)
    torch.testing.assert_close(pooled.base_dist.mean, 0.3 * loc + 0.7 * loc.roll(2, 0))
    conditional = transforms.conditional_affine_coupling(2, 3, [4]).double()
    rows = dist.TransformedDistribution(p.base_dist, [conditional.condition(torch.randn(4, 3, dtype=REAL))])
    with pytest.raises(TypeError, match=r"TransformedDistribution with event shape \(2,\) has no closed"):
        pool_rows(rows, 0.3, 2)


@every_pool
def test_a_row_is_masked_where_a_member_of_positive_weight_is(pool: str) -> None:
    mask = torch.tensor([True, False, True, False])
    p = dist.Normal(t(0.0, 0.0, 0.0, 0.0), 1.0).mask(mask)
    q = dist.Normal(t(1.0, 1.0, 1.0, 1.0), 1.0).mask(torch.tensor([True, True, False, False]))
    for weight, expected in (
        (t(0.5, 0.5, 0.5, 0.5), [True, False, False, False]),
        (t(1.0, 1.0, 1.0, 1.0), mask.tolist()),
        (t(0.0, 0.0, 1.0, 0.0), [True, True, True, False]),
    ):
        pooled = POOLS[pool](p, q, weight)
        assert isinstance(pooled, MaskedDistribution)
        unmasked = POOLS[pool](p.base_dist, q.base_dist, weight)
        score = pooled.log_prob(t(0.3))
        torch.testing.assert_close(score, unmasked.log_prob(t(0.3)) * torch.tensor(expected))
    rows = pool_rows(p, 0.5, 1, pool=pool)  # type: ignore[arg-type] # a parametrised literal
    torch.testing.assert_close(rows.log_prob(t(0.3)) != 0, torch.tensor([False] * 4))


@every_pool
def test_a_deterministic_site_keeps_its_mask(pool: str) -> None:
    p = dist.Delta(torch.randn(4, 2), event_dim=1).mask(False)
    pooled = pool_rows(p, 0.5, 2, pool=pool)  # type: ignore[arg-type] # a parametrised literal
    assert pooled.log_prob(torch.zeros(4, 2)).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="masked by False with one masked by True"):
        POOLS[pool](p, p.base_dist.mask(True), 0.5)
    with pytest.raises(ValueError, match="masked by a bool with one masked by a tensor"):
        POOLS[pool](p, p.base_dist.mask(torch.ones(4, dtype=torch.bool)), 0.5)


def test_coordinates_that_a_member_masks_inside_an_event_are_left_out_of_a_linear_pool() -> None:
    loc, value = torch.randn(4, 3, dtype=REAL), torch.randn(4, 3, dtype=REAL)
    mask = torch.tensor([[True, False, True], [True, True, True], [False, False, False], [True, True, False]])
    weight = t(0.3, 1.0, 0.0, 0.6)
    p, both = dist.Normal(loc, 2.0).mask(mask).to_event(1), mask & mask.roll(1, 0)
    both = torch.where(
        (weight == 1).unsqueeze(-1), mask, torch.where((weight == 0).unsqueeze(-1), mask.roll(1, 0), both)
    )
    own, partner = ((dist.Normal(x, 2.0).log_prob(value) * both).sum(-1).exp() for x in (loc, loc.roll(1, 0)))
    expected = (weight * own + (1 - weight) * partner).log()
    for pooled in (pool_rows(p, weight, 1, pool="linear"), linear_pool(p.expand([4]), roll_batch(p, 1), weight)):
        torch.testing.assert_close(pooled.log_prob(value), expected)
        assert pooled.sample((2,)).shape == (2, 4, 3)
    with pytest.raises(ValueError, match=r"masks of their own.*Try linear_pool"):
        LinearPool([p, p.base_dist.base_dist.to_event(1)], t(0.5, 0.5))


@every_pool
def test_expanded_members_are_not_changed_and_their_draws_are_independent(pool: str) -> None:
    p = ExpandedDistribution(dist.Normal(t(0.0), 1.0), (3, 1))
    q = dist.Normal(t(1.0), 1.0)
    for weight in (0.5, t([0.2], [0.4], [0.6])):
        pooled = POOLS[pool](p, q, weight)
        assert pooled.batch_shape == (3, 1) and p.batch_shape == (3, 1)
        assert len(pooled.sample().unique()) == 3
        alone = POOLS[pool](dist.Normal(t(0.0), 1.0), q, weight)
        torch.testing.assert_close(pooled.log_prob(t(0.4)), alone.log_prob(t(0.4)).expand(3, 1))


@pytest.mark.parametrize("dim", [-1, -2])
def test_rows_of_replicas_are_pooled_along_their_own_dimension(dim: int) -> None:
    loc, weight = torch.randn(2, 4, 3, dtype=REAL), torch.rand(2, 4, dtype=REAL)
    p = dist.Normal(loc, 1.0).to_event(1)
    shift = p.batch_shape[dim] // 2
    pooled = pool_rows(p, weight, shift, dim)
    partner = loc.roll(shift, dim - 1)
    torch.testing.assert_close(pooled.mean, weight.unsqueeze(-1) * loc + (1 - weight.unsqueeze(-1)) * partner)


def test_natural_parameters_are_computed_once_for_a_batch_of_rows() -> None:
    calls = []

    class Counted(dist.Exponential):  # type: ignore[misc]  # Pyro makes the class at run time
        pass

    def to_natural(p: Any) -> tuple[torch.Tensor]:
        calls.append(p)
        return (p.rate,)

    register_family(Counted, to_natural, lambda p, naturals: Counted(naturals[0]))
    assert pool_rows(Counted(torch.tensor([1.0, 3.0])), 0.25, 1).rate.tolist() == [2.5, 1.5]
    assert len(calls) == 1
    assert find_family(Counted(torch.ones(2))) is not find_family(dist.Exponential(torch.ones(2)))


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: dist.Normal(x, x.exp()).to_event(1),
        lambda x: dist.Categorical(logits=x),
        lambda x: dist.OneHotCategorical(logits=x),
        lambda x: dist.MultivariateNormal(x, scale_tril=torch.eye(6, dtype=REAL)),
        lambda x: dist.Poisson(x.exp()).to_event(1),
        lambda x: dist.Delta(x, event_dim=1),
        lambda x: dist.Laplace(x, x.exp()).to_event(1),
        lambda x: dist.TransformedDistribution(dist.Normal(x, 1.0).to_event(1), [transforms.LeakyReLUTransform()]),
    ],
    ids=[
        "Normal",
        "Categorical",
        "OneHotCategorical",
        "MultivariateNormal",
        "Poisson",
        "Delta",
        "Laplace",
        "Transformed",
    ],
)
def test_nothing_waits_for_the_device_without_validation(make: Callable[..., Any], pool: Any) -> None:
    """Tracing with tensors that have no values fails wherever a value is asked for."""

    def score(x: torch.Tensor, weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        total = pool_rows(make(x), weight, 2, pool=pool).log_prob(value).sum()
        return torch.autograd.grad(total, x)[0] if total.requires_grad else total

    value = torch.zeros(4, 6, dtype=REAL) if make(torch.zeros(4, 6, dtype=REAL)).event_shape else torch.zeros(4)
    with pyro.validation_enabled(False):
        make_fx(score, tracing_mode="fake")(torch.randn(4, 6, dtype=REAL).requires_grad_(), torch.rand(4), value)


@pytest.mark.gpu
@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("case", [case for case in EVERY if not case.on_cpu], ids=lambda case: case.name)
def test_pools_on_a_gpu_are_those_on_the_cpu(case: Case, pool: Any) -> None:
    results = []
    for device in ("cpu", "cuda"):
        leaves = [x.to(device).requires_grad_() for x in case.arguments[0]]
        pooled = pool_rows(case.make(*leaves), t(0.3, 0.0).to(device), 1, pool=pool)
        score = pooled.log_prob(case.common().to(device))
        assert score.device.type == pooled.sample().device.type == device
        results.append([score, *torch.autograd.grad(score[score.isfinite()].sum(), leaves)])
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-6, atol=100 * case.tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize(
    "name", ["Normal", "Bernoulli", "Categorical", "OneHotCategorical", "Poisson", "Gamma", "Laplace"]
)
def test_pools_do_not_wait_for_the_gpu(name: str, pool: Any) -> None:
    case = next(case for case in EVERY if case.name == name)
    leaves = [x.cuda().requires_grad_() for x in case.arguments[0]]
    value, weight = case.common().cuda(), t(0.3, 0.0).cuda()
    with pyro.validation_enabled(False):
        torch.cuda.set_sync_debug_mode("error")
        try:
            score = pool_rows(case.make(*leaves), weight, 1, pool=pool).log_prob(value)
            torch.autograd.grad(score.sum(), leaves)
        finally:
            torch.cuda.set_sync_debug_mode("default")


# The linear pool


def test_a_linear_pool_shows_its_members_and_weights() -> None:
    pool = linear_pool(dist.Normal(t(0.0, 1.0), 1.0), dist.Normal(t(2.0), 1.0), 0.25)
    assert isinstance(pool, LinearPool)
    torch.testing.assert_close(pool.weights, t([0.25, 0.75], [0.25, 0.75]))
    assert [p.mean.tolist() for p in pool.members] == [[0.0, 1.0], [2.0, 2.0]]


def test_the_distribution_function_of_a_linear_pool_has_its_density_as_derivative() -> None:
    pool = linear_pool(dist.Gumbel(t(0.0, 3.0), 1.0), dist.Gumbel(t(5.0, 1.0), 2.0), t(0.3, 1.0))
    value = torch.linspace(-2.0, 9.0, 12, dtype=REAL).unsqueeze(-1).expand(-1, 2).clone().requires_grad_()
    (slope,) = torch.autograd.grad(pool.cdf(value).sum(), value)
    torch.testing.assert_close(slope, pool.log_prob(value).exp())


def test_the_moments_of_a_linear_pool_are_those_of_its_draws() -> None:
    pool = linear_pool(dist.Normal(t(0.0, 1.0, 2.0), 1.0), dist.Normal(t(4.0), 2.0), t(0.3, 1.0, 0.0))
    n = 20_000
    for draws in (pool.sample((n,)), pool.rsample((n,))):
        four_errors = 4 * (pool.variance / n).sqrt()
        assert ((draws.mean(0) - pool.mean).abs() < four_errors).all()
        centred = (draws - pool.mean).square()
        assert ((centred.mean(0) - pool.variance).abs() < 4 * centred.std(0) / n**0.5).all()
    torch.testing.assert_close(pool.mean, t(2.8, 1.0, 4.0))
    torch.testing.assert_close(pool.variance, t(0.3 * 1 + 0.7 * 4 + 0.3 * 0.7 * 16, 1.0, 4.0))


def test_moments_that_are_infinite_have_no_part_at_weight_zero() -> None:
    pool = linear_pool(dist.StudentT(t(0.5, 0.5), 0.0, 1.0), dist.StudentT(t(5.0), 1.0, 1.0), t(0.0, 0.5))
    assert pool.mean[0] == 1.0 and pool.variance[0] == 5 / 3
    assert not pool.mean[1].isfinite()


def test_reparameterised_draws_of_a_linear_pool_have_the_gradient_of_the_mean() -> None:
    loc = t(0.0, 4.0).requires_grad_()
    pool = linear_pool(dist.Normal(loc[:1], 1.0), dist.Normal(loc[1:], 1.0), 0.3)
    (gradient,) = torch.autograd.grad(pool.rsample((20_000,)).mean(), loc)
    torch.testing.assert_close(gradient, t(0.3, 0.7), rtol=0.0, atol=4 * (0.21 / 20_000) ** 0.5)


def test_a_linear_pool_is_not_reparameterised_where_a_gradient_would_be_missing() -> None:
    p, q = dist.Normal(t(0.0), 1.0), dist.Normal(t(1.0), 1.0)
    assert linear_pool(p, q, t(0.5)).has_rsample
    for pool in (
        linear_pool(p, q, t(0.5).requires_grad_()),
        linear_pool(dist.Poisson(t(1.0)), dist.Poisson(t(2.0)), 0.5),
    ):
        assert not pool.has_rsample
        with pytest.raises(NotImplementedError, match="no rsample"):
            pool.rsample()


def test_the_weights_of_a_linear_pool_carry_a_gradient() -> None:
    p, q, value = dist.Normal(t(0.0), 1.0), dist.Normal(t(1.0), 1.0), t(0.3)
    weight = t(0.4).requires_grad_()
    (ours,) = torch.autograd.grad(linear_pool(p, q, weight).log_prob(value).sum(), weight)
    density_p, density_q = p.log_prob(value).exp(), q.log_prob(value).exp()
    torch.testing.assert_close(ours, (density_p - density_q) / (0.4 * density_p + 0.6 * density_q))


def test_labels_are_drawn_from_a_linear_pool_of_deltas() -> None:
    for labels, partners in ((torch.tensor([1, 5]), torch.tensor([3, 5])), (t(1.0, 5.0), t(3.0, 5.0))):
        pool = linear_pool(dist.Delta(labels), dist.Delta(partners), torch.tensor([0.25, 0.5]))
        draws = pool.sample((4000,))
        assert draws.dtype == labels.dtype
        assert set(draws[:, 0].tolist()) == {1, 3} and set(draws[:, 1].tolist()) == {5}
        share = (draws[:, 0] == 1).double().mean().item()
        assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
        torch.testing.assert_close(pool.log_prob(labels).exp().double(), t(0.25, 1.0))
        assert pool.log_prob(labels + 1).exp().tolist() == [0.0, 0.0]
    ends = linear_pool(dist.Delta(t(1.0)), dist.Delta(t(3.0)), t(0.0, 1.0))
    assert (ends.sample((1000,)) == t(3.0, 1.0)).all()


def test_supports_that_depend_on_parameters_are_united() -> None:
    low = t(0.0, 2.0).requires_grad_()
    pool = linear_pool(dist.Uniform(low, t(4.0, 4.0)), dist.Uniform(t(3.0), t(5.0)), 0.25)
    value = t([1.0, 3.5, 4.5], [1.0, 3.5, 4.5]).T
    expected = t([1 / 16, 1 / 16 + 3 / 8, 3 / 8], [0.0, 1 / 8 + 3 / 8, 3 / 8]).T
    inside = expected > 0
    score = torch.where(inside, pool.log_prob(torch.where(inside, value, 3.5)), -math.inf)
    torch.testing.assert_close(score.exp(), expected)
    torch.testing.assert_close(pool.cdf(t(4.0)), t(0.25 + 0.75 / 2, 0.25 + 0.75 / 2))
    assert torch.autograd.grad(pool.log_prob(t(4.5)).sum(), low)[0].isfinite().all()
    assert pool.support.check(t(4.5)).all() and not pool.support.check(t(5.5)).any()
    with pytest.raises(ValueError, match="within the support"):
        pool.log_prob(t(5.5))
    counts = linear_pool(dist.Binomial(2, t(0.5)), dist.Binomial(4, t(0.5)), 0.5)
    torch.testing.assert_close(counts.log_prob(t(4.0)).exp(), t(1 / 32))


def test_a_linear_pool_validates_as_its_members_do() -> None:
    low, high, outside = t(0.0, 1.0), t(1.0, 2.0), t(0.5, 9.0)
    for wrap in (
        lambda p: p,
        lambda p: p.expand([3, 2]),
        lambda p: p.expand([3, 2]).to_event(1),
        lambda p: p.mask(t(1.0, 1.0).bool()),
    ):
        p, q = (wrap(dist.Uniform(low + k, high + k, validate_args=False)) for k in (0, 1))
        for pooled in (linear_pool(p, q, 0.5), pool_rows(p, 0.5, 1, pool="linear"), log_linear_pool(p, p, 0.5)):
            assert (pooled.log_prob(outside) == -math.inf).any()
        with pytest.raises(ValueError, match="within the support"):
            linear_pool(wrap(dist.Uniform(low, high)), wrap(dist.Uniform(low + 1, high + 1)), 0.5).log_prob(outside)
    missing = dist.NanMaskedNormal(t(0.0, 1.0), t(1.0, 1.0))
    assert linear_pool(missing, missing, 0.5).log_prob(t(math.nan, 1.0))[0] == 0
    with pytest.raises(ValueError, match="within the support"):
        linear_pool(dist.Poisson(t(1.0)), dist.Poisson(t(2.0)), 0.5).log_prob(t(-1.0))


def test_a_linear_pool_names_its_support_and_what_its_members_lack() -> None:
    pool = pool_rows(dist.Uniform(t(0.0, 1.0), t(1.0, 2.0)), 0.5, 1, pool="linear")
    assert repr(pool.support).startswith("AnyOf(Interval(") and "RolledSupport(Interval(" in repr(pool.support)
    for p in (dist.Poisson(t(1.0, 2.0)), dist.Poisson(t([1.0], [2.0])).to_event(1)):
        with pytest.raises(
            NotImplementedError, match=r"LinearPool of Poisson has no cdf, as a Poisson has none.*Try draws"
        ):
            pool_rows(p, 0.5, 1, pool="linear").cdf(t(1.0, 1.0))
    with pytest.raises(NotImplementedError, match="has no mean"):
        _ = linear_pool(dist.RelaxedBernoulli(t(1.0), t(0.5)), dist.RelaxedBernoulli(t(1.0), t(0.1)), 0.5).mean


def test_totals_that_differ_are_told_from_the_value_in_a_linear_pool() -> None:
    four, six = (dist.DirichletMultinomial(t([1.0, 2.0]), total_count=n) for n in (t(4.0), t(6.0)))
    counts = t([[1.0, 3.0]], [[2.0, 4.0]])
    for p, q in ((four, six), (dist.Multinomial(4, t([0.2, 0.8])), dist.Multinomial(6, t([0.5, 0.5])))):
        expected = torch.cat([p.log_prob(counts[0]) + math.log(0.3), q.log_prob(counts[1]) + math.log(0.7)])
        torch.testing.assert_close(linear_pool(p, q, 0.3).log_prob(counts)[:, 0], expected)
    rows = dist.DirichletMultinomial(t([1.0, 2.0], [3.0, 1.0]), total_count=t(4.0, 6.0))
    expected = rows.log_prob(counts[:, 0]) + math.log(0.3)
    torch.testing.assert_close(pool_rows(rows, 0.3, 1, pool="linear").log_prob(counts[:, 0]), expected)
    assert pool_rows(dist.Categorical(t([0.2, 0.8])), 0.5, 1, pool="linear").log_prob(t(1.0)).isfinite().all()
    classes = linear_pool(dist.Categorical(t([0.2, 0.8])), dist.Categorical(t([0.2, 0.3, 0.5])), 0.5)
    torch.testing.assert_close(classes.log_prob(classes.enumerate_support()).exp()[:, 0], t(0.2, 0.55, 0.25))


def test_a_linear_pool_made_by_hand_is_checked() -> None:
    p = dist.Normal(torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match=r"got 1 members and weights of shape \(1,\)"):
        LinearPool([p], torch.ones(1))
    with pytest.raises(ValueError, match=r"members of event shapes \(\), \(2,\)"):
        LinearPool([p, p.to_event(1)], torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="weights"):
        LinearPool([p, p], torch.tensor([0.5, 0.6]))


# The numerical pool


def test_one_number_as_an_event_is_pooled_as_one_number() -> None:
    loc, scale, weight = torch.randn(4, 1, dtype=REAL), torch.rand(4, 1, dtype=REAL) + 0.2, t(0.3, 0.8, 0.0, 1.0)

    def flow(shift: float) -> Any:
        base = dist.Normal(torch.zeros(4, 1, dtype=REAL), 1.0).to_event(1)
        return dist.TransformedDistribution(base, [transforms.AffineTransform(loc + shift, scale, event_dim=1)])

    pool = log_linear_pool(flow(0.0), flow(2.0), weight)
    assert pool.batch_shape == (4,) and pool.event_shape == (1,) and pool.sample((3,)).shape == (3, 4, 1)
    expected = dist.Normal(loc + 2 * (1 - weight).unsqueeze(-1), scale).to_event(1)
    torch.testing.assert_close(pool.log_prob(loc), expected.log_prob(loc), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(pool.mean, expected.mean, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("order", ["linear", "quadratic"])
def test_flows_of_one_number_are_pooled(order: str) -> None:
    """The integral is within 1e-6 with the kinks of the rows' splines, also where these are parts of a composition."""
    torch.manual_seed(0)
    base = dist.Normal(torch.zeros(2, 1, dtype=REAL), 1.0).to_event(1)
    spline = transforms.conditional_spline(1, 2, [4], order=order).double().condition(torch.randn(2, 2, dtype=REAL))
    scaled = transforms.AffineTransform(0.0, 0.7)
    points, log_measure = panels(-8.0, 8.0, 2e-3)
    grid = points.reshape(-1, 1, 1).expand(-1, 2, 1)
    for chain in ([spline, scaled], [transforms.ComposeTransform([spline, scaled])]):
        flow = dist.TransformedDistribution(base, chain)
        for pool in (
            pool_rows(flow, t(0.4, 0.8), 1),
            log_linear_pool(flow, dist.TransformedDistribution(base, [scaled]), 0.4),
        ):
            mass = (pool.log_prob(grid) + log_measure.unsqueeze(-1)).logsumexp(0)
            torch.testing.assert_close(mass, torch.zeros_like(mass), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("base", [dist.Normal, dist.Laplace])
@pytest.mark.parametrize("bend, low", [(transforms.LeakyReLUTransform(), -2.5), (transforms.ELUTransform(), -1.5)])
def test_kinks_of_bases_and_transforms_are_cut_at(bend: Any, low: float, base: Any) -> None:
    """What is below 0 is compressed, a hundredfold or to an end at -1; a Laplace has a kink at its location's image too."""
    chain = [transforms.AffineTransform(t(0.0, 1.0), t(1.0, 0.5)), bend, transforms.AffineTransform(0.5, 2.0)]
    pool = pool_rows(dist.TransformedDistribution(base(t(0.5, 0.5), 1.0), chain), t(0.4, 0.8), 1)
    points, log_measure = panels(low, 200.0, 0.01)
    mass = (pool.log_prob(points.unsqueeze(-1)) + log_measure.unsqueeze(-1)).logsumexp(0)
    torch.testing.assert_close(mass, torch.zeros_like(mass), rtol=0.0, atol=1e-8)


def test_flows_without_an_inverse_are_refused() -> None:
    base = dist.Normal(torch.zeros(2, 1, dtype=REAL), 1.0).to_event(1)
    p, q = (dist.TransformedDistribution(base, [transforms.planar(1).double()]) for _ in range(2))
    with pytest.raises(TypeError, match=r"log densities at other values than their draws.*Try invertible transforms"):
        log_linear_pool(p, q, 0.4)


def test_student_pools_of_all_scales_agree_with_adaptive_quadrature() -> None:
    """Scales in a ratio of up to a thousand, and tails from nearly Cauchy to nearly normal."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(12, 7, generator=generator, dtype=REAL)
    for row in draw:
        locs, scales = 10 * row[:2] - 5, 10 ** (3 * row[2:4] - 1.5)
        members = [dist.StudentT(1 + 30 * row[4 + k] ** 3, locs[k], scales[k]) for k in (0, 1)]
        weight = row[6]

        def score(x: float, members: Any = members, weight: Any = weight) -> float:
            at = torch.tensor(x, dtype=REAL)
            return float((weight * members[0].log_prob(at) + (1 - weight) * members[1].log_prob(at)).exp())

        cuts = sorted({float(c + o * s) for c, s in zip(locs, scales, strict=True) for o in (-30, -6, -1, 0, 1, 6, 30)})
        ends = [-math.inf, *cuts, math.inf]
        total = sum(quad(score, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in itertools.pairwise(ends))
        ours = score(0.3) / float(log_linear_pool(members[0], members[1], weight).log_prob(t(0.3)[0]).exp())
        assert math.log(ours) == pytest.approx(math.log(total), abs=1e-6)


UNIVARIATE = [case for case in CLOSED if not case.points.shape[1:] and not case.member(0)[0].support.is_discrete]
UNIVARIATE = [case for case in UNIVARIATE if case.name.isidentifier() and case.name not in ("VonMises", "Chi2")]


@pytest.mark.parametrize("case", UNIVARIATE, ids=[case.name for case in UNIVARIATE])
def test_numerical_and_closed_pools_agree(case: Case) -> None:
    (p, p_leaves), (q, q_leaves) = (case.member(k, requires_grad=True) for k in (0, 1))
    weight = t(0.3, 0.85)
    closed = log_linear_pool(p, q, weight)
    numerical = NumericalPool([p, q], torch.stack([weight, 1 - weight], -1))
    value = case.common()
    names = ["log_prob", "cdf"] if case.name not in ("Beta", "InverseGamma") else ["log_prob"]  # torch has no cdf there
    pairs = [(getattr(closed, name)(value), getattr(numerical, name)(value)) for name in names]
    if case.name != "InverseGamma":
        pairs += [(closed.mean, numerical.mean), (closed.variance, numerical.variance)]
    for wanted, ours in pairs:
        torch.testing.assert_close(ours, wanted, rtol=1e-7, atol=1e-7)
        if wanted.requires_grad and case.name != "Gamma":  # torch's Gamma.cdf has no gradient in the concentration
            chosen = torch.randn(wanted.shape, dtype=REAL)
            gradients = [
                torch.autograd.grad((chosen * x).sum(), p_leaves + q_leaves, retain_graph=True, materialize_grads=True)
                for x in (ours, wanted)
            ]
            for actual, expected in zip(*gradients, strict=True):
                torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", NUMERICAL, ids=[case.name for case in NUMERICAL])
def test_quantiles_invert_the_distribution_function_whose_slope_is_the_density(case: Case) -> None:
    (p, _), (q, _) = case.member(0), case.member(1)
    pool = log_linear_pool(p, q, t(0.3, 0.8))
    level = torch.linspace(0.001, 0.999, 41, dtype=REAL).unsqueeze(-1).expand(-1, 2)
    value = pool.icdf(level).requires_grad_()
    below = pool.cdf(value)
    torch.testing.assert_close(below, level, rtol=0.0, atol=1e-8)
    (slope,) = torch.autograd.grad(below.sum(), value)
    torch.testing.assert_close(slope, pool.log_prob(value).exp(), rtol=1e-6, atol=1e-8)


def test_the_moments_of_a_numerical_pool_are_those_of_its_draws() -> None:
    pool = log_linear_pool(dist.Laplace(t(0.0, 1.0), t(1.0, 0.1)), dist.Laplace(t(3.0, 1.5), 1.0), t(0.4, 0.7))
    n = 20_000
    draws = pool.sample((n,))
    assert ((draws.mean(0) - pool.mean).abs() < 4 * (pool.variance / n).sqrt()).all()
    centred = (draws - pool.mean).square()
    assert ((centred.mean(0) - pool.variance).abs() < 4 * centred.std(0) / n**0.5).all()


def test_draws_of_a_numerical_pool_are_reparameterised() -> None:
    """The gradient of E[y^2] by draws of the numerical pool of normals, against that of the closed pool."""
    loc = t(0.0, 2.0).requires_grad_()
    scale = t(1.0, 0.5).requires_grad_()
    p, q = (dist.Normal(loc[k], scale[k]) for k in (0, 1))
    draws = NumericalPool([p, q], t(0.3, 0.7)).rsample((4000,))
    closed = log_linear_pool(p, q, 0.3)
    wanted = torch.autograd.grad(closed.variance + closed.mean.square(), [loc, scale], retain_graph=True)
    for k, leaf in enumerate((loc, scale)):
        halves = [torch.autograd.grad(part.square().mean(), leaf, retain_graph=True)[0] for part in draws.split(200)]
        spread = torch.stack(halves)
        error = 4 * spread.std(0) / len(halves) ** 0.5
        assert ((spread.mean(0) - wanted[k]).abs() < error).all()


def test_moments_that_do_not_exist_are_not_made_up() -> None:
    pool = log_linear_pool(dist.StudentT(t(1.0, 1.6, 9.0), 0.0, 1.0), dist.StudentT(t(1.0, 1.6, 9.0), 2.0, 1.0), 0.5)
    assert pool.mean.isnan().tolist() == [True, False, False]
    assert pool.variance.isnan().tolist() == [True, False, False]
    assert pool.variance.isinf().tolist() == [False, True, False]
    torch.testing.assert_close(pool.mean[1:], t(1.0, 1.0))


def test_mixtures_of_angles_are_pooled_over_one_turn() -> None:
    mixing = dist.Categorical(t([0.3, 0.7], [0.5, 0.5]))
    p = dist.MixtureSameFamily(mixing, dist.VonMises(t([0.5, -2.0], [1.0, 3.0]), t([2.0, 1.0], [0.5, 4.0])))
    for pooled in (pool_rows(p, t(0.3, 0.8), 1), log_linear_pool(p, linear_pool(p, p, 0.5).members[1], 0.5)):
        angle = torch.arange(-180, 180, dtype=REAL).unsqueeze(-1) * (math.pi / 180)
        torch.testing.assert_close(pooled.log_prob(angle).exp().sum(0) * (math.pi / 180), t(1.0, 1.0))
        assert (pooled.sample((100,)).abs() <= math.pi).all()


def test_supports_that_depend_on_parameters_are_intersected() -> None:
    low = t(0.0).requires_grad_()
    pool = log_linear_pool(dist.Uniform(low, t(4.0)), dist.Uniform(t(3.0), t(5.0)), t(0.25, 1.0, 0.0))
    torch.testing.assert_close(pool.log_prob(t(3.5)), -t(1.0, 4.0, 2.0).log(), rtol=0.0, atol=1e-9)
    (gradient,) = torch.autograd.grad(pool.log_prob(t(3.5))[1], low)
    torch.testing.assert_close(gradient, t(0.25))
    pareto = log_linear_pool(dist.Pareto(t(1.0, 3.0), t(2.0, 4.0)), dist.Pareto(t(2.0), t(5.0)), 0.25)
    expected = dist.Pareto(t(2.0, 3.0), t(0.25 * 2 + 0.75 * 5, 0.25 * 4 + 0.75 * 5))
    torch.testing.assert_close(pareto.log_prob(t(3.5)), expected.log_prob(t(3.5)), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(pareto.mean, expected.mean, rtol=1e-8, atol=0.0)
    assert pareto.sample((100,)).min() >= 2
    with pytest.raises(ValueError, match=r"Uniform and Uniform does not exist.*supports overlap"):
        log_linear_pool(dist.Uniform(t(0.0), t(1.0)), dist.Uniform(t(2.0), t(3.0)), 0.5)


def test_a_support_may_be_unbounded_in_some_rows() -> None:
    class Truncated(dist.Laplace):  # type: ignore[misc] # Pyro makes the class at run time
        """Up to its mass, which the pool makes one."""

        support = dist.constraints.interval(t(-math.inf, 0.0, -math.inf, 0.0), t(math.inf, math.inf, 0.0, 1.0))

    loc, x = t(0.5, 0.5, -0.5, 0.5).requires_grad_(), t(0.3, 0.3, -0.3, 0.3)
    p = dist.Laplace(loc, 1.0)
    pool = log_linear_pool(Truncated(loc, 1.0), Truncated(loc, 1.0), 0.5)
    low, high = p.cdf(t(-1e9, 0.0, -1e9, 0.0)), p.cdf(t(1e9, 1e9, 0.0, 1.0))
    expected = p.log_prob(x) - (high - low).log()
    torch.testing.assert_close(pool.log_prob(x), expected, rtol=0.0, atol=1e-8)
    torch.testing.assert_close(pool.cdf(x), (p.cdf(x) - low) / (high - low), rtol=0.0, atol=1e-8)
    gradients = [torch.autograd.grad(score.sum(), loc, retain_graph=True)[0] for score in (pool.log_prob(x), expected)]
    torch.testing.assert_close(*gradients, rtol=0.0, atol=1e-6)
    assert pool.support.check(pool.sample((100,))).all()


@every_pool
def test_generalized_paretos_are_pooled_with_and_without_an_upper_bound(pool: str) -> None:
    shape = torch.tensor([0.0, 0.0, -1.0, -1.0])  # exponential and uniform densities
    p = td.GeneralizedPareto(torch.zeros(4), torch.tensor([1.0, 4.0, 2.0, 8.0]), shape)
    pooled = pool_rows(p, 0.5, 1, pool=pool)  # type: ignore[arg-type] # a parametrised literal
    assert pooled.mean.isfinite().all()
    if pool == "log-linear":
        torch.testing.assert_close(pooled.mean[[1, 3]], torch.tensor([1 / 0.625, 1.0]), rtol=1e-3, atol=0.0)


def test_densities_with_gaps_and_steps_are_pooled() -> None:
    p = linear_pool(dist.Uniform(t(0.0), 1.0), dist.Uniform(t(2.0), 3.0), 0.25)
    q = linear_pool(dist.Uniform(t(0.5), 2.5), dist.Uniform(t(0.0), 3.0), 0.5)
    pool = log_linear_pool(p, q, 0.5)
    middles = t(0.25, 0.75, 2.25, 2.75)
    product = (t(0.25, 0.25, 0.75, 0.75) * t(1 / 6, 5 / 12, 5 / 12, 1 / 6)).sqrt()
    expected = product / (0.5 * product.sum())
    torch.testing.assert_close(pool.log_prob(middles), expected.log(), rtol=0.0, atol=1e-9)
    assert (pool.log_prob(t(1.5)) == -math.inf).all()


@pytest.mark.parametrize("gap", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_pool_far_from_both_members_is_found(gap: float, scale: float) -> None:
    """Mixtures of one component are normals; with light tails their pool lies where neither has mass."""

    def one(loc: float) -> Any:
        component = dist.Normal(t([scale * loc]), t([scale]))
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(1, 1, dtype=REAL)), component)

    pool = log_linear_pool(one(0.0), one(gap), 0.5)
    expected = dist.Normal(t(scale * gap / 2), scale)
    value = expected.mean + scale * t(-2.0, 0.0, 1.0)
    torch.testing.assert_close(pool.log_prob(value), expected.log_prob(value), rtol=0.0, atol=1e-6)


def test_single_precision_is_kept() -> None:
    pool = log_linear_pool(dist.Laplace(torch.tensor([0.0, 5.0]), 1.0), dist.Laplace(torch.tensor(2.0), 0.1), 0.3)
    wide = log_linear_pool(dist.Laplace(t(0.0, 5.0), 1.0), dist.Laplace(t(2.0), 0.1), 0.3)
    value = torch.tensor([1.5, 2.2])
    assert pool.log_prob(value).dtype == pool.sample().dtype == torch.float32
    torch.testing.assert_close(pool.log_prob(value).double(), wide.log_prob(value.double()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pool.variance.double(), wide.variance, rtol=1e-4, atol=1e-5)


def test_pools_of_pools_are_pools() -> None:
    p, q, r = (linear_pool(dist.Normal(t(x), 1.0), dist.Normal(t(-x), 2.0), 0.5) for x in (0.0, 1.0, 2.0))
    nested = log_linear_pool(log_linear_pool(p, q, 0.5), log_linear_pool(r, r, 0.5), 0.5)
    flat = log_linear_pool(p, [q, r], t(0.25, 0.25, 0.5))
    torch.testing.assert_close(nested.log_prob(t(0.7)), flat.log_prob(t(0.7)), rtol=0.0, atol=1e-9)
    of_rows = log_linear_pool(dist.Laplace(t(0.0, 1.0), 1.0), dist.Laplace(t(3.0), 1.0), 0.5)
    torch.testing.assert_close(pool_rows(of_rows, t(1.0, 0.0), 1).mean, t(1.5, 1.5))


def test_torch_distributions_pool_with_those_of_pyro() -> None:
    for p, q in ((td.Normal(t(0.0), 1.0), dist.Normal(t(1.0), 1.0)), (td.StudentT(t(4.0)), dist.StudentT(t(5.0)))):
        for pool in POOLS.values():
            assert pool(p, q, 0.5).log_prob(t(0.3)).isfinite().all()
            assert pool(q, p, 0.5).log_prob(t(0.3)).isfinite().all()


@pytest.mark.parametrize("shift", [2**70 + 1, -3, 5])
def test_rows_are_rolled_around_as_often_as_asked(shift: int) -> None:
    rates = torch.tensor([1.0, 4.0, 9.0, 16.0])
    torch.testing.assert_close(pool_rows(dist.Poisson(rates), 0.5, shift).rate, (rates * rates.roll(1)).sqrt())
