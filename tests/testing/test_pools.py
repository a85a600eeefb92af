"""The check of a pool: ours pass, and one that is broken on purpose is named by the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from pyro.distributions.torch_distribution import MaskedDistribution

from pyro_probmix.pooling import linear_pool, log_linear_pool
from pyro_probmix.testing import check_pool
from pyro_probmix.testing.pools import POOL
from tests.testing.broken import assert_breaks


@pytest.mark.parametrize("pool", [linear_pool, log_linear_pool])
@pytest.mark.parametrize(
    "family", [dist.Normal, dist.Poisson, dist.Categorical, dist.Dirichlet, dist.MultivariateNormal]
)
def test_our_pools_of_arguments_that_the_check_draws_pass(pool: Any, family: Any) -> None:
    check_pool(pool, family)


@pytest.mark.parametrize("pool", [linear_pool, log_linear_pool])
def test_members_whose_support_depends_on_them_pass(pool: Any) -> None:
    low, high = [[0.0, 1.0], [0.5, 1.5], [-1.0, 0.0]], [[2.0, 4.0], [3.0, 3.0], [1.0, 2.0]]
    arguments = [[torch.tensor(a), torch.tensor(b)] for a, b in zip(low, high, strict=True)]
    check_pool(pool, dist.Uniform, arguments)
    with pytest.raises(ValueError, match="Try arguments whose supports overlap"):
        check_pool(pool, dist.Uniform, [[a + 5 * k, b + 5 * k] for k, (a, b) in enumerate(arguments)])


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"check_pool got 'linear', expected a function.* Try check_pool"):
        check_pool("linear")  # type: ignore[arg-type]


class _Changed(dist.Normal):
    """A normal distribution to break."""

    @classmethod
    def of(cls, p: Any, q: Any, weight: Any) -> Any:
        pooled: Any = log_linear_pool(p, q, weight)
        if type(pooled) is not dist.Normal:  # masked
            return pooled
        return cls(pooled.loc, pooled.scale)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return type(self)(self.loc.expand(batch_shape), self.scale.expand(batch_shape))


class Wide(_Changed):
    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.loc + 1.2 * (super().rsample(torch.Size(sample_shape)) - self.loc)

    def sample(self, sample_shape: Any = ()) -> Any:
        return self.rsample(sample_shape).detach()


class Transposed(_Changed):
    def sample(self, sample_shape: Any = ()) -> Any:
        return super().sample(torch.Size(sample_shape)[::-1])


class Forgetful(_Changed):
    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return dist.Normal(self.loc.expand(batch_shape), torch.ones(batch_shape, dtype=self.loc.dtype))


class Unnormalised(_Changed):
    def log_prob(self, value: Any) -> Any:
        return super().log_prob(value) + 0.1


def _of_torch(p: Any, q: Any, weight: Any) -> Any:
    pooled: Any = log_linear_pool(p, q, weight)
    return td.Normal(pooled.loc, pooled.scale)


def _only_two(p: Any, q: Any, weight: Any) -> Any:
    if isinstance(q, list):
        raise TypeError("expected two distributions")
    return log_linear_pool(p, q, weight)


def _first_two(p: Any, q: Any, weight: Any) -> Any:
    return log_linear_pool(p, q[0], weight[..., 0]) if isinstance(q, list) else log_linear_pool(p, q, weight)


def _moved(p: Any, q: Any, weight: Any) -> Any:
    if isinstance(q, list):
        return log_linear_pool(p, q, weight)
    q = dist.Normal(q.loc + 0.1, q.scale) if isinstance(q, dist.Normal) else q
    return log_linear_pool(p, q, weight)


def _squared(p: Any, q: Any, weight: Any) -> Any:
    return log_linear_pool(p, q, weight if isinstance(q, list) else weight**2)


def _clamped(p: Any, q: Any, weight: Any) -> Any:
    return log_linear_pool(p, q, weight.clamp(0.01, 0.99) if isinstance(weight, torch.Tensor) else weight)


def _logarithms(p: Any, q: Any, weight: Any) -> Any:
    """The linear pool by the logarithms of weights, whose gradient is NaN where one is 0."""
    if isinstance(q, list):
        return linear_pool(p, q, weight)

    class Naive(dist.TorchDistribution):
        arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as in every torch distribution
        support = p.support

        def log_prob(self, value: Any) -> Any:
            w = torch.as_tensor(weight, dtype=torch.float64)
            return torch.logsumexp(torch.stack([w.log() + p.log_prob(value), (1 - w).log() + q.log_prob(value)]), 0)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            return _logarithms(p.expand(batch_shape), q.expand(batch_shape), weight)

    shapes = p.batch_shape, torch.as_tensor(weight).shape
    return Naive(torch.broadcast_shapes(*shapes), p.event_shape)


def _detached(p: Any, q: Any, weight: Any) -> Any:
    return log_linear_pool(p, q, weight.detach() if isinstance(weight, torch.Tensor) else weight)


def _unmasked(p: Any, q: Any, weight: Any) -> Any:
    p, q = (x.base_dist if isinstance(x, MaskedDistribution) else x for x in (p, q))
    return log_linear_pool(p, q, weight)


def _wrongly_masked(p: Any, q: Any, weight: Any) -> Any:
    pooled = log_linear_pool(p, q, weight)
    return pooled.base_dist.mask(~pooled._mask) if isinstance(pooled, MaskedDistribution) else pooled


def _double(p: Any, q: Any, weight: Any) -> Any:
    pooled: Any = log_linear_pool(p, q, weight)
    if type(pooled) is not dist.Normal or not isinstance(weight, torch.Tensor):
        return pooled
    return dist.Normal(pooled.loc.double(), pooled.scale.double())


def _looking(p: Any, q: Any, weight: Any) -> Any:
    if isinstance(weight, torch.Tensor) and bool((weight > 1).any()):
        raise ValueError("a weight above 1")
    return log_linear_pool(p, q, weight)


def _elsewhere(p: Any, q: Any, weight: Any) -> Any:
    pooled: Any = log_linear_pool(p, q, weight)
    return dist.Normal(pooled.loc + torch.zeros(2), pooled.scale) if type(pooled) is dist.Normal else pooled


BROKEN: dict[str, list[Callable[..., Any]]] = {
    "shape": [_of_torch, lambda p, q, weight: log_linear_pool(p, q, 0.5), lambda p, q, weight: None],
    "normalisation": [Unnormalised.of],
    "unanimity": [_moved],
    "symmetry": [_squared],
    "ends": [_clamped, _logarithms],
    "several members": [_only_two, _first_two],
    "gradient": [_detached],
    "draws": [Wide.of, Transposed.of],
    "expansion": [Forgetful.of],
    "masks": [_unmasked, _wrongly_masked],
    "dtype": [_double],
    "device": [_looking, _elsewhere],
}


def test_each_invariant_is_broken_in_turn() -> None:
    assert set(BROKEN) == set(POOL.all)


@pytest.mark.parametrize(("invariant", "pool"), [(name, pool) for name, pools in BROKEN.items() for pool in pools])
def test_a_broken_pool_is_named_by_its_invariant(invariant: str, pool: Callable[..., Any]) -> None:
    name = pool.__name__ if pool.__name__ != "<lambda>" else "function"
    assert_breaks(invariant, name, lambda: check_pool(pool))
