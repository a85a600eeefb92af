"""All of ``pyro.distributions``, each in each pool: right, or refused with a sentence; see ``tests/pooling/placed.py``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor

from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from pyro_probmix.pooling.counts import CountPool
from pyro_probmix.pooling.linear import LinearPool
from pyro_probmix.pooling.numerical import NumericalPool
from tests.pooling.cases import REAL, t
from tests.pooling.placed import ABSTRACT, PLACED, Placed, Refused

Pool = Literal["log-linear", "linear"]
POOLS: tuple[Pool, ...] = ("log-linear", "linear")
WEIGHT = t(0.3, 0.8, 0.0)  # of three rows


def cases(wanted: Callable[[Placed, bool], bool]) -> pytest.MarkDecorator:
    """The pairs of a class and a pool of which a function of the class, and whether the pool is the linear one, is true."""
    return pytest.mark.parametrize(
        ("name", "pool"), [(name, pool) for pool in POOLS for name in PLACED if wanted(PLACED[name], pool == "linear")]
    )


def taken(placed: Placed, linear: bool) -> bool:
    """Whether there is the pool; the log-linear one is compared with a sum over points, which a Delta has none of."""
    how = placed.linear if linear else placed.log_linear
    return not isinstance(how, Refused) and (linear or placed.support is not None)


every_refused = cases(lambda placed, linear: isinstance(placed.linear if linear else placed.log_linear, Refused))
every_scored = cases(lambda placed, linear: taken(placed, linear) and placed.scored)
every_quick = cases(
    lambda placed, linear: taken(placed, linear) and placed.scored and (linear or not placed.value_alone)
)
every_drawn = cases(
    lambda placed, linear: taken(placed, linear) and placed.draws > 0 and (linear or not placed.value_alone)
)
every_differentiable = cases(
    lambda placed, linear: (
        taken(placed, linear)
        and placed.draws > 0
        and placed.gradients
        and (linear or not (placed.value_alone or placed.moving))
    )
)
# torch's Wishart says so of draws that are not singular.
pytestmark = pytest.mark.filterwarnings("ignore:Singular sample detected")


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Some of torch's classes make constants of the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(REAL)
    yield
    torch.set_default_dtype(before)


class Rows:
    """Three rows of a class and their partners; or two distributions of one that has no batch, one the other's partner."""

    def __init__(self, name: str, requires_grad: bool = False) -> None:
        self.placed: Placed = PLACED[name]
        self.leaves = [x.clone().requires_grad_(requires_grad) for x in self.placed.arguments]
        own, partner = (self.leaves, [x.roll(1, 0) for x in self.leaves])
        if not self.placed.batched:
            own, partner = ([x[k] for x in self.leaves] for k in (0, 1))
        self.p, self.q = self.placed.make(*own), self.placed.make(*partner)
        self.weight = WEIGHT if self.placed.batched else WEIGHT[0]

    def pools(self, pool: Pool) -> list[Any]:
        """The pool of two distributions, and that of the rows."""
        both = POOL_OF[pool](self.p, self.q, self.weight)
        return [both, pool_rows(self.p, self.weight, 1, pool=pool)] if self.placed.batched else [both]

    def density(self, pool: Pool, value: Tensor) -> Tensor:
        """The log density of the pool by brute force."""
        own, partner = scores(self.p, value), scores(self.q, value)
        if pool == "linear":
            own, partner = own + self.weight.log(), partner + torch.log1p(-self.weight)
            impossible = (own == -torch.inf) & (partner == -torch.inf)  # of which logaddexp has no gradient
            own, partner = own.masked_fill(impossible, 0.0), partner.masked_fill(impossible, 0.0)
            return torch.logaddexp(own, partner).masked_fill(impossible, -torch.inf)
        points, log_measure = self.grid()
        whole = self._powers(self._over(self.p, points), self._over(self.q, points))
        return self._powers(own, partner) - torch.logsumexp(whole + over(log_measure, whole), 0)

    def over_grid(self) -> Tensor:
        """The log density of the log-linear pool at each point of the grid."""
        points, log_measure = self.grid()
        whole = self._powers(self._over(self.p, points), self._over(self.q, points))
        return whole - torch.logsumexp(whole + over(log_measure, whole), 0)

    def grid(self) -> tuple[Tensor, Tensor]:
        assert self.placed.support is not None
        points, log_measure = self.placed.support()
        return (points.unsqueeze(1) if self.placed.batched else points), log_measure

    def common(self) -> Tensor:
        """Values ``[4, *batch_shape, *event_shape]`` of the grid, spread over the mass of the log-linear pool."""
        points, log_measure = self.grid()
        with torch.no_grad():
            whole = self._powers(self._over(self.p, points), self._over(self.q, points))
            levels = (whole + over(log_measure, whole)).softmax(0).cumsum(0)
        at = torch.stack([(levels < level).sum(0) for level in (0.05, 0.3, 0.6, 0.9)])
        return points.reshape(len(points), *self.p.event_shape)[at.clamp(max=len(points) - 1)]

    def _over(self, p: Any, points: Tensor) -> Tensor:
        return scores(p, points) if self.placed.several else torch.stack([p.log_prob(point) for point in points])

    def _powers(self, own: Tensor, partner: Tensor) -> Tensor:
        first = torch.where(self.weight > 0, self.weight * own, 0.0)
        return torch.where((own == -torch.inf) & (self.weight > 0), -torch.inf, first + (1 - self.weight) * partner)


POOL_OF = {"log-linear": log_linear_pool, "linear": linear_pool}


def over(log_measure: Tensor, whole: Tensor) -> Tensor:
    return log_measure.reshape(-1, *(1,) * (whole.dim() - 1))


def scores(p: Any, value: Tensor) -> Tensor:
    """The density of one member, zero outside of its support."""
    try:
        inside = p.support.check(value)
    except NotImplementedError:
        inside = torch.tensor(True)
    if not inside.all():
        value = torch.where(inside.reshape(*inside.shape, *(1,) * len(p.event_shape)), value, p.sample())
    score: Tensor = p.log_prob(value)
    return torch.where(inside, score, -torch.inf) if not inside.all() else score


def test_every_class_has_its_place() -> None:
    found = {
        name
        for name in dir(dist)
        if inspect.isclass(getattr(dist, name)) and issubclass(getattr(dist, name), td.Distribution)
    }
    assert found - ABSTRACT == set(PLACED), (
        "a class of pyro.distributions is not in tests/pooling/placed.py, or is gone"
    )
    without = [name for name, placed in PLACED.items() if isinstance(placed.log_linear, str) and placed.support is None]
    assert without == ["Delta"], "their log-linear pools have no points to be compared at"
    assert all(isinstance(PLACED[name].make(*rows(name)), getattr(dist, name)) for name in PLACED)


def test_the_pool_of_rows_of_deltas_lies_between_them() -> None:
    both = Rows("Delta")
    assert both.placed.log_linear == "closed"
    for pooled in both.pools("log-linear"):
        torch.testing.assert_close(pooled(), both.weight * both.p.v + (1 - both.weight) * both.q.v)
        assert (pooled.log_prob(pooled()) == 0).all()


def rows(name: str) -> list[Tensor]:
    placed = PLACED[name]
    return [x if placed.batched else x[0] for x in placed.arguments]


@every_scored
def test_a_pool_is_what_brute_force_says_in_value_and_gradient(name: str, pool: Pool) -> None:
    both, plain = Rows(name, requires_grad=True), Rows(name)  # one keeps what it computes for draws, without gradient
    how, tolerance = both.placed.how(pool), both.placed.tolerance
    torch.manual_seed(0)
    if pool == "linear":
        own, partner = (both.placed.values(p) for p in (plain.p, plain.q))
        value = torch.cat([own, partner]) if both.placed.several else own[0]
    else:
        value = plain.common() if both.placed.several else plain.common()[1]
    expected = both.density(pool, value)
    possible = expected.isfinite()
    assert possible.any()
    still = pool == "linear" or not (both.placed.moving or both.placed.value_alone)
    smooth = expected.requires_grad and both.placed.smooth and still
    leaves = both.leaves if smooth else []
    wanted = (
        torch.autograd.grad(expected[possible].sum(), leaves, allow_unused=True, retain_graph=True) if smooth else ()
    )
    for validates in (True, False) if still else (True,):
        with pyro.validation_enabled(validates):
            pools = both.pools(pool) if still else both.pools(pool)[-1:]
            assert kind(pools[-1]) == how
            for pooled in pools:
                assert pooled.batch_shape == both.p.batch_shape and pooled.event_shape == both.p.event_shape
                ours = pooled.log_prob(value)
                torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
                given = (
                    torch.autograd.grad(ours[possible].sum(), leaves, allow_unused=True, retain_graph=True)
                    if smooth
                    else ()
                )
                for actual, want in zip(given, wanted, strict=True):
                    torch.testing.assert_close(actual, want, rtol=100 * tolerance, atol=100 * tolerance)


def kind(pooled: Any) -> str:
    """How a pool is computed, as its parts show."""
    while not isinstance(pooled, (NumericalPool, CountPool, LinearPool)) and hasattr(pooled, "base_dist"):
        pooled = pooled.base_dist
    return {NumericalPool: "quadrature", CountPool: "sum", LinearPool: "any"}.get(type(pooled), "closed")


@every_refused
def test_what_is_refused_says_why_and_what_to_try(name: str, pool: Pool) -> None:
    both = Rows(name)
    how = both.placed.how(pool)
    assert isinstance(how, Refused)
    for validates in (True, False):
        with pyro.validation_enabled(validates):
            with pytest.raises(how.error, match=how.message):
                POOL_OF[pool](both.p, both.q, both.weight)
            if both.placed.batched:
                with pytest.raises(how.error, match=how.message):
                    pool_rows(both.p, both.weight, 1, pool=pool)


@pytest.mark.parametrize("name", [name for name, placed in PLACED.items() if not placed.batched])
def test_a_class_without_a_batch_has_no_rows(name: str) -> None:
    for pool in POOLS:
        with pytest.raises(ValueError, match=r"without a batch.*Try linear_pool or log_linear_pool of two"):
            pool_rows(Rows(name).p, 0.3, 1, pool=pool)


@every_quick
def test_expansion_and_masks_of_rows_leave_the_density_alone(name: str, pool: Pool) -> None:
    both = Rows(name)
    torch.manual_seed(0)
    value = both.common()[1] if pool == "log-linear" else both.placed.values(both.p)[0]
    pooled = both.pools(pool)[-1]
    expected = pooled.log_prob(value)
    if both.placed.several and both.placed.expands:
        large = pooled.expand((2, *pooled.batch_shape))
        torch.testing.assert_close(large.log_prob(value), expected.expand(large.batch_shape))
    if both.placed.batched:
        mask = torch.tensor([True, False, True])
        masked = pool_rows(MaskedDistribution(both.p, mask), both.weight, 1, pool=pool)
        torch.testing.assert_close(
            masked.log_prob(value), torch.where(torch.tensor([True, False, False]), expected, 0.0)
        )


# Draws: means of bounded functions of the values, and their gradients


def bounded(value: Tensor, event_dim: int) -> Tensor:
    """Functions of values ``[n, *batch_shape, *event_shape]``, in a last dimension."""
    flat = value.to(REAL).reshape(*value.shape[: value.dim() - event_dim], -1)
    squashed = flat / (1 + flat.abs())
    return torch.cat([squashed, squashed.square()], -1)


def mean_and_error(p: Any, count: int, several: bool) -> tuple[Tensor, Tensor]:
    """Of draws as a sample site makes them."""
    with torch.no_grad():
        values = p((count,)) if several else torch.stack([p() for _ in range(count)])
    values = bounded(values, len(p.event_shape))
    return values.mean(0), values.std(0) / count**0.5


@every_drawn
def test_draws_have_the_pools_density(name: str, pool: Pool) -> None:
    """Means are within five standard errors of those of the members, or of the density over the support."""
    both = Rows(name)
    torch.manual_seed(0)
    pooled, count, several = both.pools(pool)[-1], both.placed.draws, both.placed.several
    ours, error = mean_and_error(pooled, count, several)
    weight = both.weight.unsqueeze(-1)
    if pool == "linear":
        (own, own_error), (partner, partner_error) = (
            mean_and_error(member, count, several) for member in (both.p, both.q)
        )
        expected = weight * own + (1 - weight) * partner
        error = (error**2 + (weight * own_error) ** 2 + ((1 - weight) * partner_error) ** 2).sqrt()
    else:
        points, log_measure = both.grid()
        density = both.over_grid()
        mass = (density + over(log_measure, density)).exp()
        expected = (mass.unsqueeze(-1) * bounded(both.placed.shown(points), len(both.p.event_shape))).sum(0)
    assert ((ours - expected).abs() <= 5 * error + 1e-6).all()


def slopes(p: Any, weight: Tensor | float, leaves: list[Tensor], direction: list[Tensor], several: bool) -> Tensor:
    """Directional derivatives of weighted means of bounded draws, one of each of 20 batches of 50 draws."""
    found = []
    for _ in range(20):
        draws = p.rsample((50,)) if several else torch.stack([p.rsample() for _ in range(50)])
        mean = bounded(draws, len(p.event_shape)).mean(0)
        given = torch.autograd.grad((weight * mean.sum(-1)).sum(), leaves, allow_unused=True, retain_graph=True)
        found.append(sum((d * g).sum() for d, g in zip(direction, given, strict=True) if g is not None))
    return torch.stack([torch.as_tensor(x) for x in found])


@every_differentiable
def test_gradients_of_draws_are_those_of_means(name: str, pool: Pool) -> None:
    """Within six standard errors, by means of batches, wherever the class says that its draws carry a gradient."""
    both = Rows(name, requires_grad=True)
    torch.manual_seed(0)
    pooled = both.pools(pool)[-1]
    if not both.p.has_rsample:
        assert pool == "log-linear" or not pooled.has_rsample
        return
    direction = [torch.randn_like(x) for x in both.leaves]
    ours = slopes(pooled, 1.0, both.leaves, direction, both.placed.several)
    error = ours.var() / len(ours)
    if pool == "linear":
        weighted = ((both.p, both.weight), (both.q, 1 - both.weight))
        members = [slopes(p, weight, both.leaves, direction, both.placed.several) for p, weight in weighted]
        expected = sum(x.mean() for x in members)
        error = error + sum(x.var() / len(x) for x in members)
    else:
        points, log_measure = both.grid()
        density = both.over_grid()
        mass = (density + over(log_measure, density)).exp()
        mean = (mass.unsqueeze(-1) * bounded(points, len(both.p.event_shape))).nansum(0)
        given = torch.autograd.grad(mean.sum(), both.leaves, allow_unused=True)
        expected = sum((d * g).sum() for d, g in zip(direction, given, strict=True) if g is not None)
    assert abs(ours.mean() - expected) <= 6 * error.sqrt() + 1e-6
