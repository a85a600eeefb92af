"""A fused density by brute force: the unfused model run twice, once on the rows and once on their partners' rows."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from torch import Tensor


def halves(values: Tensor, dim: int = 0) -> Tensor:
    """The values of each row's partner."""
    return values.roll(-(values.shape[dim] // 2), dim)


def own_weight(weight: Any, rows: int, trailing: int = 0) -> Tensor:
    """Each row's own weight, [rows] and trailing dims of size 1."""
    first = (torch.arange(rows) < rows // 2).reshape(rows, *(1,) * trailing)
    return torch.where(first, torch.as_tensor(weight, dtype=torch.float64), 1 - torch.as_tensor(weight).double())


def pooled_log_prob(p: Any, q: Any, own: Tensor, value: Tensor, pool: str = "log-linear") -> Tensor:
    """Of the pool of two normal, or two Bernoulli, distributions; the normaliser as an integral or a sum."""
    if pool == "linear":
        mixture: Tensor = torch.logaddexp(own.log() + p.log_prob(value), (1 - own).log() + q.log_prob(value))
        return mixture

    def score(at: Tensor) -> Tensor:
        scores: Tensor = own * p.log_prob(at) + (1 - own) * q.log_prob(at)
        return scores

    if p.support.is_discrete:
        return score(value) - torch.stack([score(torch.full_like(value, k)) for k in (0.0, 1.0)]).logsumexp(0)
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)  # the trapezoidal rule, exact for such smooth densities
    scores = score(grid.reshape(-1, *(1,) * value.dim()))
    log_prob: Tensor = score(value) - scores.logsumexp(0) - (grid[1] - grid[0]).log()
    return log_prob


def run_twice(model: Callable[..., Any], site: str, args: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """The unfused densities at a site, of the rows and of their partners; rows are dim 0 of each argument."""
    own, partner = (
        poutine.trace(model).get_trace(*given).nodes[site]["fn"] for given in (args, tuple(halves(a) for a in args))
    )
    return own, partner
