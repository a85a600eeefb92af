"""The check of a family: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    dist.Beta, dist.Dirichlet,
]  # fmt: skip


@pytest.mark.parametrize("family", OURS, ids=lambda family: family.__name__)
def test_our_families_pass_with_arguments_that_the_check_draws(family: Any) -> None:
    check_family(family)


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


class _Hiding(dist.Exponential):  # type: ignore[misc]
    """Keeps its argument under another name."""

    arg_constraints = {"inverse": dist.constraints.positive}  # noqa: RUF012

    def __init__(self, inverse: torch.Tensor) -> None:
        super().__init__(1 / inverse, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return type(self)(1 / self.rate.expand(batch_shape))


def hiding() -> Any:
    register_family(_Hiding, lambda p: (p.rate,), lambda p, naturals: _Hiding(1 / naturals[0]))
    return _Hiding


def _louder(p: Any, value: Any) -> Any:
    return dist.Exponential.log_prob(p, value) + 0.1


def _looking(p: Any) -> Any:
    return (p.rate if float(p.rate.detach().min()) > 0 else p.rate.abs(),)


BROKEN: dict[str, list[Callable[[], Any]]] = {
    "maps": [
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
    "rows": [hiding],
}


def test_each_invariant_that_is_not_a_pools_is_broken_in_turn() -> None:
    assert set(BROKEN) >= set(FAMILY.all) - set(POOL.all)


@pytest.mark.parametrize(("invariant", "make"), [(name, make) for name, all_ in BROKEN.items() for make in all_])
def test_a_broken_family_is_named_by_its_invariant(invariant: str, make: Callable[[], Any]) -> None:
    family = make()
    assert_breaks(invariant, family.__name__, lambda: check_family(family))
