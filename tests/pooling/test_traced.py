"""Pools in traced steps, as those of ``JitTrace_ELBO``: the gradients are those of the same step run eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_probmix.pooling import pool_rows

ROWS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "quadrature, bounded slopes": lambda a, b: dist.StudentT(4.0, a, b.exp()),
    "quadrature": lambda a, b: dist.Laplace(a, b.exp()),
    "quadrature between bounds that move": lambda a, b: dist.Uniform(a - 5, b + 5),
    "sum over counts": lambda a, b: dist.GammaPoisson(a.exp(), b.exp()),
    "linear": lambda a, b: dist.Gamma(a.exp(), b.exp()),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("drawn", [False, True])
def test_gradients_are_those_of_an_eager_step(kind: str, drawn: bool) -> None:
    """A traced step has no ``no_grad``: all that is chosen without a gradient has to be told so."""

    def step(a: Tensor, b: Tensor) -> Any:
        pool: Any = pool_rows(
            ROWS[kind](a, b), torch.sigmoid(a), 2, pool="linear" if kind == "linear" else "log-linear"
        )
        if not drawn:
            return pool.log_prob(torch.arange(1.0, 5.0, dtype=torch.float64)).sum()
        value = pool.rsample() if pool.has_rsample else pool.sample()
        return value.sum() + pool.log_prob(value.detach()).sum()

    def parameters() -> tuple[Tensor, Tensor]:
        return tuple(torch.linspace(low, 1, 4, dtype=torch.float64).requires_grad_() for low in (-1.0, 0.0))  # type: ignore[return-value] # two

    def gradients(of: Callable[..., Any]) -> tuple[Tensor, ...]:
        pyro.set_rng_seed(0)
        at = parameters()
        return torch.autograd.grad(of(*at), at)

    with pyro.validation_enabled(False):
        eager, traced = gradients(step), gradients(torch.jit.trace(step, parameters(), check_trace=False))
    for wanted, given in zip(eager, traced, strict=True):
        torch.testing.assert_close(given, wanted)
