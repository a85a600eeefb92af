"""Members and values whose weight is exactly zero: no part in a pool, nor in its gradient, whatever they hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_probmix.pooling import linear_pool, log_linear_pool, pool_rows
from pyro_probmix.pooling.rows.convex import combined

REAL = torch.float64
#: A class, two parameters of four rows, and what is scored.
CLASSES: dict[str, tuple[Callable[[Tensor, Tensor], Any], Tensor]] = {
    "Normal": (lambda a, b: dist.Normal(a, b, validate_args=False), torch.tensor([0.5, 0.6, 0.7, 0.8])),
    "Normal in an event": (
        lambda a, b: dist.Normal(a, b, validate_args=False).expand([4]).mask(torch.ones(4, dtype=torch.bool)),
        torch.tensor([0.5, 0.6, 0.7, 0.8]),
    ),
    "StudentT": (
        lambda a, b: dist.StudentT(torch.full_like(a, 5.0), a, b, validate_args=False),
        torch.tensor([0.5, 0.6, 0.7, 0.8]),
    ),
    "Laplace": (lambda a, b: dist.Laplace(a, b, validate_args=False), torch.tensor([0.5, 0.6, 0.7, 0.8])),
    "GammaPoisson": (lambda a, b: dist.GammaPoisson(a, b, validate_args=False), torch.tensor([1.0, 0.0, 2.0, 3.0])),
}
LEFT, RIGHT = [1.0, 2.0, 3.0, 4.0], [1.0, 1.5, 2.0, 0.7]


def scored(make: Any, left: Tensor, right: Tensor, value: Tensor, pool: Any) -> tuple[Tensor, list[Tensor]]:
    leaves = [left.requires_grad_(), right.requires_grad_()]
    weights = torch.tensor([0.3, 0.0, 0.6, 1.0], dtype=REAL)  # of row 1 nothing is read, by itself or by its partner 3
    score = pool_rows(make(*leaves), weights, shift=2, pool=pool).log_prob(value.to(REAL))
    return score, list(torch.autograd.grad(score.sum(), leaves))


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("bad", [(math.nan, 1.5), (math.inf, 1.5), (2.0, math.nan), (2.0, 0.0)])
def test_a_row_that_no_pool_reads_leaves_values_and_gradients_alone(name: str, pool: str, bad: Any) -> None:
    make, value = CLASSES[name]
    left, right = torch.tensor(LEFT, dtype=REAL), torch.tensor(RIGHT, dtype=REAL)
    expected, wanted = scored(make, left.clone(), right.clone(), value, pool)
    left[1], right[1] = bad
    score, gradients = scored(make, left, right, value, pool)
    torch.testing.assert_close(score, expected, rtol=0.0, atol=1e-9)
    for gradient, whole in zip(gradients, wanted, strict=True):
        assert gradient[1] == 0
        torch.testing.assert_close(gradient, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pool", [log_linear_pool, linear_pool])
def test_a_number_as_weight_leaves_a_member_out_too(pool: Any) -> None:
    loc = torch.tensor([math.nan, 1.0], dtype=REAL, requires_grad=True)
    absent, whole = dist.Normal(loc, 1.0, validate_args=False), dist.Normal(loc.new_zeros(2), 1.0)
    score = pool(absent, whole, 0).log_prob(loc.new_ones(2))
    torch.testing.assert_close(score, whole.log_prob(loc.new_ones(2)))
    assert torch.autograd.grad(score.sum(), loc)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_a_combination_and_its_gradients_are_those_without_what_has_no_weight(missing: float) -> None:
    x = torch.tensor([1.0, missing, 3.0], dtype=REAL, requires_grad=True)
    y = torch.tensor([5.0, 6.0, missing], dtype=REAL, requires_grad=True)
    weight = torch.tensor([0.25, 0.0, 1.0], dtype=REAL, requires_grad=True)
    total = combined([x, y], [weight])
    assert total.tolist() == [4.0, 6.0, 3.0]
    slopes = torch.autograd.grad(total.sum(), [x, y, weight])
    assert [slope.tolist() for slope in slopes] == [[0.25, 0.0, 1.0], [0.75, 1.0, 0.0], [-4.0, 0.0, 0.0]]
    shares = torch.stack([weight, 1 - weight, torch.zeros_like(weight)])
    assert combined([x, y, torch.full_like(x, missing)], list(shares)).tolist() == [4.0, 6.0, 3.0]


def test_the_weights_slope_at_an_end_is_the_way_between_two_finite_values() -> None:
    weight = torch.tensor([0.0, 1.0, 0.0], dtype=REAL, requires_grad=True)
    x, y = torch.tensor([1.0, 2.0, math.nan], dtype=REAL), torch.tensor([5.0, 4.0, 3.0], dtype=REAL)
    total = combined([x, y], [weight])
    assert torch.autograd.grad(total.sum(), weight)[0].tolist() == [-4.0, -2.0, 0.0]


def test_an_infinite_value_with_weight_is_infinite() -> None:
    x, y = torch.tensor([math.inf, 1.0, math.inf]), torch.tensor([1.0, math.inf, math.nan])
    assert combined([x, y], [torch.tensor([0.5, 0.5, 1.0])]).tolist() == [math.inf] * 3


def test_what_is_mapped_by_vmap_or_traced_is_the_same() -> None:
    x, y = torch.tensor([[1.0, math.nan], [2.0, 3.0]]), torch.tensor([[5.0, 6.0], [math.nan, 7.0]])
    weight = torch.tensor([[0.25, 0.0], [1.0, 0.5]])
    expected = combined([x, y], [weight])
    mapped = torch.vmap(lambda *each: combined(each[:2], each[2:]))(x, y, weight)
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda *each: combined(each[:2], each[2:]))(x, y, weight)
    assert expected.tolist() == [[4.0, 6.0], [2.0, 5.0]]
    assert torch.equal(mapped, expected) and torch.equal(traced(x, y, weight), expected)
