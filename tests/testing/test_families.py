"""The check of a family: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td

from pyro_probmix import register_family
from pyro_probmix.testing import check_family
from pyro_probmix.testing.families import FAMILY
from pyro_probmix.testing.pools import POOL
from tests.testing.broken import assert_breaks

OURS = [
    dist.Normal, dist.LogNormal, dist.HalfNormal, dist.MultivariateNormal, dist.Bernoulli, dist.Binomial, dist.Geometric,
    dist.Categorical, dist.OneHotCategorical, dist.Multinomial, dist.Poisson, dist.Exponential, dist.Gamma, dist.InverseGamma,
    dist.Beta, dist.Dirichlet, dist.VonMises,
]  # fmt: skip


@pytest.mark.parametrize("family", OURS, ids=lambda family: family.__name__)
def test_our_families_pass_with_arguments_that_the_check_draws(family: Any) -> None:
    check_family(family)


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        (dist.Normal, [(t(0, 1000), t(0.01, 0.1)), (t(0.005, 1000.1), t(0.01, 0.2)), (t(0, 1000), t(0.02, 0.1))]),
        (dist.Normal, [(t(0, 1), t(1e-6, 1e-5)), (t(1e-6, 1), t(1e-6, 2e-5)), (t(0, 1), t(2e-6, 1e-5))]),
        (dist.Gamma, [(t(100, 1e5), t(1e3, 10)), (t(120, 1e5), t(1e3, 10)), (t(100, 1e5), t(1100, 10.1))]),
        (dist.Poisson, [(t(1e4, 3),), (t(1.1e4, 2),), (t(1.05e4, 5),)]),
        (dist.Beta, [(t(0.5, 300), t(0.5, 20)), (t(0.6, 300), t(1, 25)), (t(0.5, 320), t(0.7, 20))]),
    ],
    ids=["far from zero", "narrow", "of two scales", "large counts", "steep ends"],
)
def test_members_on_any_scale_pass(family: Any, arguments: Any) -> None:
    check_family(family, arguments)


class Silent(dist.MultivariateNormal):
    """Cannot be drawn from."""

    def sample(self, sample_shape: Any = ()) -> Any:
        raise NotImplementedError


def test_a_family_without_draws_needs_points_of_its_support() -> None:
    make = lambda loc: Silent(loc, torch.eye(2, dtype=loc.dtype, device=loc.device))  # noqa: E731
    arguments = [[torch.randn(2, 2)] for _ in range(3)]
    with pytest.raises(ValueError, match=r"neither draws nor points of its support. Try a method sample, or grid="):
        check_family(make, arguments)
    line = torch.linspace(-9, 9, 91, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line), torch.full((91 * 91,), 2 * math.log(0.2), dtype=torch.float64)
    check_family(make, arguments, grid=grid)


class Undeclared(dist.TorchDistribution):
    """A family that says nothing of its support."""

    arg_constraints: ClassVar = {"rate": dist.constraints.positive}

    def __init__(self, rate: torch.Tensor, validate_args: Any = None) -> None:
        self.rate = rate
        super().__init__(rate.shape, validate_args=False)


def test_a_family_without_a_support_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"got Undeclared, which declares no support, expected one. Try support ="):
        check_family(Undeclared)


def waiting(
    to_natural: Callable[[Any], Any] = lambda p: (p.rate,),
    from_natural: Callable[[Any, Any], Any] | None = None,
    base: Any = dist.Exponential,
    **methods: Any,
) -> Any:
    """A class of its own that is registered with these maps."""
    made: Any = type("Waiting", (base,), {"expand": _expanded, **methods})
    register_family(made, to_natural, from_natural or (lambda p, naturals: made(naturals[0])))
    return made


def _expanded(p: Any, batch_shape: Any, _instance: Any = None) -> Any:
    return type(p)(p.rate.expand(batch_shape))


def test_a_family_of_ones_own_passes() -> None:
    check_family(waiting())
    made = waiting()
    check_family(lambda log_rate: made(log_rate.exp()), [[torch.randn(2)] for _ in range(3)])


class Unregistered(dist.Logistic):
    pass


class _Ranked(dist.Exponential):  # type: ignore[misc]
    """Whose rate grows with the number of the row."""

    def __init__(self, first: torch.Tensor, validate_args: Any = None) -> None:
        self.first = first
        super().__init__(first * torch.arange(1, 3, device=first.device), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return dist.Exponential(self.rate.expand(batch_shape))


def ranked() -> Any:
    _Ranked.arg_constraints = {"first": dist.constraints.positive}
    register_family(_Ranked, lambda p: (p.rate,), lambda p, naturals: dist.Exponential(naturals[0]))
    return _Ranked


def _summed(p: Any, value: Any) -> Any:
    return dist.Exponential.log_prob(p, value).sum(-1)


def _louder(p: Any, value: Any) -> Any:
    return dist.Exponential.log_prob(p, value) + 0.1


def _looking(p: Any) -> Any:
    return (p.rate if float(p.rate.detach().min()) > 0 else p.rate.abs(),)


BROKEN: dict[str, list[Callable[[], Any]]] = {
    "log density": [lambda: waiting(log_prob=_summed), lambda: waiting(log_prob=lambda p, value: p.rate.log())],
    "maps": [
        lambda: waiting(from_natural=lambda p, naturals: dist.Exponential(naturals[0].float())),
        lambda: Unregistered,
        lambda: waiting(lambda p: p.rate),
        lambda: waiting(lambda p: (p.rate[:1].repeat(3),)),
        lambda: waiting(from_natural=lambda p, naturals: td.Exponential(naturals[0])),
        lambda: waiting(from_natural=lambda p, naturals: dist.Exponential(naturals[0].sum())),
    ],
    "round trip": [lambda: waiting(from_natural=lambda p, naturals: dist.Exponential(2 * naturals[0]))],
    "product of powers": [
        lambda: waiting(lambda p: (1 / p.rate,), lambda p, naturals: dist.Exponential(1 / naturals[0])),
        lambda: waiting(lambda p: (p.rate.detach(),)),
    ],
    "normalisation": [lambda: waiting(log_prob=_louder)],
    "device": [lambda: waiting(_looking)],
    "dtype": [lambda: waiting(lambda p: (p.rate.double(),))],
    "rows": [ranked],
}


def test_each_invariant_that_is_not_a_pools_is_broken_in_turn() -> None:
    assert set(BROKEN) >= set(FAMILY.all) - set(POOL.all)


@pytest.mark.parametrize(("invariant", "make"), [(name, make) for name, all_ in BROKEN.items() for make in all_])
def test_a_broken_family_is_named_by_its_invariant(invariant: str, make: Callable[[], Any]) -> None:
    family = make()
    assert_breaks(invariant, family.__name__, lambda: check_family(family))
