"""Densities that a class has of its own, bounds behind transforms, angles, and members of no weight."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as T
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor

from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from pyro_probmix.pooling.numerical import NumericalPool
from tests.pooling.cases import REAL, t

SHIFTS = t(0.0, 0.5, 3.0, -2.0)
ZEROS = torch.zeros(4, dtype=REAL)
TENT = 2.0  # what each own density adds


def shifted(p: Any, scale: Any = 1.0, shifts: Tensor = SHIFTS) -> Any:
    return dist.TransformedDistribution(p, [T.AffineTransform(shifts, scale)])


def test_angles_behind_shifts_are_pooled_over_one_turn() -> None:
    y, weight = t(0.3, 1.0, 2.5, -2.2), t(0.3, 0.5, 1.0, 0.0)
    of_angles = pool_rows(dist.VonMises(SHIFTS, 2.0), weight, 1)
    behind = pool_rows(shifted(dist.VonMises(ZEROS, t(2.0))), weight, 1)
    torch.testing.assert_close(behind.log_prob(y), of_angles.log_prob(y), rtol=0.0, atol=1e-6)
    doubled = pool_rows(shifted(dist.VonMises(ZEROS, t(2.0)), 2.0, 2 * SHIFTS), weight, 1)
    torch.testing.assert_close(doubled.log_prob(2 * y) + math.log(2), of_angles.log_prob(y), rtol=0.0, atol=1e-6)
    parts = dist.Categorical(torch.ones(4, 2, dtype=REAL))
    spread = t(0.0, 1.0)
    directly = dist.MixtureSameFamily(parts, dist.VonMises(SHIFTS[:, None] + spread, 3.0))
    mixed = dist.MixtureSameFamily(parts, dist.VonMises(ZEROS[:, None] + spread, 3.0))
    expected = pool_rows(directly, weight, 1).log_prob(y)
    torch.testing.assert_close(pool_rows(shifted(mixed), weight, 1).log_prob(y), expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        T.AffineTransform(ZEROS, SHIFTS.abs() + 1),
        T.ComposeTransform([T.AffineTransform(SHIFTS, 1.0), T.ExpTransform()]),
    ],
)
def test_angles_without_one_turn_are_refused(transform: Any) -> None:
    p = dist.TransformedDistribution(dist.VonMises(ZEROS, t(2.0)), [transform])
    with pytest.raises(TypeError, match=r"has? ?.*no log-linear pool.*Try"):
        pool_rows(p, 0.5, 1)


class ShiftedLogNormal(dist.LogNormal):
    def __init__(self, loc: Tensor, scale: Any, shift: Any) -> None:
        super().__init__(loc, scale)
        self.transforms = [*self.transforms, T.AffineTransform(shift, 1.0)]


def test_a_subclass_that_adds_a_transform_is_not_taken_for_its_base() -> None:
    y = t(3.2, 4.0, 5.0, 2.5)
    pooled = pool_rows(ShiftedLogNormal(SHIFTS, 1.0, 2.0), 0.3, 1)
    expected = pool_rows(dist.LogNormal(SHIFTS, 1.0), 0.3, 1).log_prob(y - 2)
    torch.testing.assert_close(pooled.log_prob(y), expected)
    p = ShiftedLogNormal(ZEROS, 1.0, SHIFTS)
    ends = pool_rows(p, t(1.0, 1.0, 1.0, 1.0), 1)
    torch.testing.assert_close(ends.log_prob(y), dist.LogNormal(ZEROS, 1.0).log_prob(y - SHIFTS))


def adding(base: type[Any]) -> Any:
    """A subclass that scores values at TENT times what its base says."""

    class Own(base):  # type: ignore[misc]
        def log_prob(self, value: Tensor) -> Tensor:
            own: Tensor = super().log_prob(value)
            return own * TENT

    return Own


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("name", ["Independent", "Masked", "Expanded", "StraightThrough"])
def test_a_wrapper_with_a_density_of_its_own_keeps_it(name: str, pool: Any) -> None:
    normal = dist.Normal(SHIFTS, 1.0)
    p, y = {
        "Independent": lambda: (adding(dist.Independent)(normal, 0), SHIFTS + 0.3),
        "Masked": lambda: (adding(MaskedDistribution)(normal, torch.ones(4, dtype=torch.bool)), SHIFTS + 0.3),
        "Expanded": lambda: (adding(ExpandedDistribution)(normal, torch.Size([4])), SHIFTS + 0.3),
        "StraightThrough": lambda: (
            adding(dist.RelaxedBernoulliStraightThrough)(t(0.7), logits=SHIFTS),
            t(0.3, 0.4, 0.5, 0.6),
        ),
    }[name]()
    half = pool_rows(p, 0.5, 1, pool=pool)
    own, partner = p.log_prob(y), torch.stack([p.log_prob(y.roll(-1)).roll(1)])[0]
    if pool == "linear":
        torch.testing.assert_close(half.log_prob(y), torch.logaddexp(own, partner) - math.log(2))
    else:  # up to its normaliser, which one value does not tell
        z = y + 0.01
        slope = half.log_prob(z) - half.log_prob(y)
        there = (p.log_prob(z) + p.log_prob(z.roll(-1)).roll(1) - own - partner) / 2
        torch.testing.assert_close(slope, there)


class Inflated(dist.Binomial):
    """A tenth of its mass at 37."""

    def log_prob(self, value: Tensor) -> Tensor:
        here = (value == 37).to(REAL)
        return torch.log(0.9 * super().log_prob(value).exp() + 0.1 * here)


def test_counts_with_a_density_of_their_own_are_summed_one_by_one() -> None:
    p, q = Inflated(t(200.0), t(0.3)), Inflated(t(210.0), t(0.5))
    n = torch.arange(201, dtype=REAL)
    exact = 0.5 * (p.log_prob(n) + q.log_prob(n))
    pooled = log_linear_pool(p, q, t(0.5)).log_prob(n)
    torch.testing.assert_close(pooled, exact - exact.logsumexp(0), rtol=0.0, atol=1e-9)


class Hurdle(dist.TorchDistribution):
    """Zero with a probability of its own, else a count above zero; made of a distribution that checks its values."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as in every torch distribution
    support = dist.constraints.nonnegative_integer

    def __init__(self, zero: Tensor, rate: Tensor) -> None:
        self.zero, self.rate = zero, rate
        super().__init__(rate.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        above = torch.log1p(-self.zero) + dist.Poisson(self.rate).log_prob(value) - torch.log(-torch.expm1(-self.rate))
        return torch.where(value == 0, self.zero.log(), above)


def test_counts_whose_parts_check_their_values_are_summed() -> None:
    p, q = Hurdle(t(0.2, 0.5), t(3.0, 40.0)), Hurdle(t(0.5, 0.2), t(40.0, 3.0))
    n = torch.arange(400, dtype=REAL).unsqueeze(-1)
    exact = 0.3 * p.log_prob(n) + 0.7 * q.log_prob(n)
    for pool in (log_linear_pool(p, q, 0.3), pool_rows(p, t(0.3, 0.3), 1)):
        torch.testing.assert_close(pool.log_prob(n), exact - exact.logsumexp(0), rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_shifts_that_differ_bound_the_rows_where_they_end(sign: float, validate: bool) -> None:
    with pyro.validation_enabled(validate):
        for base in (dist.LogNormal(ZEROS, 1.0), dist.Exponential(ZEROS + 1), dist.Uniform(ZEROS, ZEROS + 6)):
            for scale in (sign, ZEROS + sign):
                p = shifted(base, scale)
                own = sign * (t(3.5, 3.5, 3.5, 3.5) * sign - SHIFTS)  # 3.5 from where the rows begin
                partner = sign * (t(3.5, 3.5, 3.5, 3.5) * sign - SHIFTS.roll(1))

                def density(x: Tensor, base: Any = base) -> Tensor:
                    inside = (x > 0) & ((x < 6) if isinstance(base, dist.Uniform) else True)
                    return torch.where(inside, base.log_prob(torch.where(inside, x, 1.0)).exp(), 0.0)

                linear = pool_rows(p, 0.3, 1, pool="linear")
                y = t(3.5, 3.5, 3.5, 3.5) * sign
                expected = 0.3 * density(own) + 0.7 * density(partner)
                torch.testing.assert_close(linear.log_prob(y).exp(), expected)
                assert bool(linear.log_prob(linear.sample((200,))).isfinite().all())
                pooled = pool_rows(p, 0.3, 1)
                assert isinstance(pooled, NumericalPool)
                assert bool(pooled.log_prob(pooled.sample((50,))).isfinite().all())


@pytest.mark.parametrize("pool", [linear_pool, log_linear_pool])
@pytest.mark.parametrize("weight", [t(1.0), t(0.0), 1.0, 0.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_member_of_no_weight_may_say_anything(bad: float, weight: Any, pool: Any) -> None:
    for family in (dist.Normal, dist.Laplace, dist.Poisson):
        with pyro.validation_enabled(False):
            arguments = ((t(1.0),), (t(bad),)) if family is dist.Poisson else ((t(1.0), t(2.0)), (t(bad), t(2.0)))
            good, broken = (family(*x) for x in arguments)
            p, q = (good, broken) if float(weight) else (broken, good)
            score = pool(p, q, weight).log_prob(t(2.0))
        torch.testing.assert_close(score, good.log_prob(t(2.0)), rtol=0.0, atol=1e-7)


def test_nearly_singular_covariances_are_pooled_in_single_precision() -> None:
    x = torch.linspace(0, 3, 30, dtype=REAL)
    wide = torch.exp(-0.5 * (x[:, None] - x).square()) + 1e-6 * torch.eye(30, dtype=REAL)
    tril = torch.linalg.cholesky(wide).float()
    p = dist.MultivariateNormal(torch.zeros(4, 30), scale_tril=tril)
    torch.manual_seed(0)
    y = p.sample()
    exact = dist.MultivariateNormal(torch.zeros(4, 30, dtype=REAL), scale_tril=tril.double()).log_prob(y.double())
    for weight in (1.0, 0.4):
        pooled = pool_rows(p, weight, 1)
        assert pooled.loc.dtype is torch.float32
        torch.testing.assert_close(pooled.log_prob(y).double(), exact, rtol=0.0, atol=2e-2)


def test_a_flow_without_an_inverse_is_refused_by_a_linear_pool_in_a_sentence() -> None:
    base = dist.Normal(torch.zeros(4, 2), 1.0).to_event(1)
    pooled = pool_rows(
        dist.TransformedDistribution(base, [T.Planar(2)]),
        0.5,
        1,
        pool="linear",
    )
    with pytest.raises(TypeError, match=r"linear pool.*other values than their draws.*Try invertible transforms"):
        pooled.log_prob(torch.zeros(4, 2))


def test_the_line_is_mapped_onto_a_union_of_intervals_that_overlap() -> None:
    low = t(0.0, 0.5, 1.0, 1.5)
    near = pool_rows(dist.Uniform(low, low + 2), 0.5, 1, pool="linear")
    support: Any = near.support
    y = torch.distributions.biject_to(support)(t(-3.0, 0.1, 1.0, 9.0))
    assert bool(support.check(y).all())
    far = pool_rows(dist.Uniform(3 * low, 3 * low + 1), 0.5, 1, pool="linear")
    with pytest.raises(NotImplementedError, match="do not overlap"):
        torch.distributions.biject_to(far.support)
