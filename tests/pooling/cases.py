"""Pairs of distributions of every family, with points and weights over which their densities sum to one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
import torch.distributions as td
from torch import Tensor

REAL = torch.float64


@dataclass(frozen=True)
class Case:
    """A family: how a member is made from tensors, the tensors of three members, and a sum over the support."""

    name: str
    make: Callable[..., Any]
    arguments: tuple[tuple[Tensor, ...], ...]  # of three members, each of batch shape (2,)
    points: Tensor  # [N, *event_shape]
    log_measure: Tensor  # [N]
    tolerance: float = 1e-9
    on_cpu: bool = False  # makes tensors of its own there

    def member(self, k: int, *, requires_grad: bool = False) -> tuple[Any, list[Tensor]]:
        leaves = [x.clone().requires_grad_(requires_grad) for x in self.arguments[k]]
        return self.make(*leaves), leaves

    def grid(self) -> Tensor:
        """The points, with a batch dimension to broadcast."""
        return self.points.unsqueeze(1)

    def log_total(self, log_density: Tensor) -> Tensor:
        """Log of the total mass of densities at :meth:`grid`, shape ``[N, 2]``."""
        return torch.logsumexp(log_density + self.log_measure.unsqueeze(-1), 0)

    def common(self) -> Tensor:
        """A few points ``[n, 1, *event_shape]`` that carry mass under every member, or that some find impossible."""
        scores = torch.stack([self.member(k)[0].log_prob(self.grid()).amin(-1) for k in range(3)]).sum(0)
        best = (scores + 3 * self.log_measure).topk(min(60, len(scores))).indices.sort().values
        return self.grid()[best[:: max(1, len(best) // 7)]]

    def log_pool(self, weights: Sequence[Tensor], members: Sequence[Any], value: Tensor) -> Tensor:
        """The log-linear pool by brute force: the product of powers over its sum."""
        return power_product(weights, members, value) - self.log_total(power_product(weights, members, self.grid()))


def power_product(weights: Sequence[Tensor], members: Sequence[Any], value: Tensor) -> Tensor:
    scores = [p.log_prob(value) for p in members]
    impossible = torch.stack([s == -math.inf for s in scores]).any(0)
    total = torch.stack([w * s.masked_fill(impossible, 0.0) for w, s in zip(weights, scores, strict=True)]).sum(0)
    return total.masked_fill(impossible, -math.inf)


def t(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=REAL)


def line(low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    x = torch.linspace(low, high, count, dtype=REAL)
    return x, torch.full((count,), math.log((high - low) / (count - 1)), dtype=REAL)


def real_line(low: float = -40.0, high: float = 40.0) -> tuple[Tensor, Tensor]:
    return line(low, high, 3001)


def heavy_line(end: float = 45.0, count: int = 4001) -> tuple[Tensor, Tensor]:
    u, step = line(-end, end, count)
    return torch.sinh(u), step + torch.cosh(u).log()


def panels(low: float, high: float, width: float = 0.5) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes in panels; kinks at multiples of the width do no harm."""
    places, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(10))
    left = torch.arange(low, high, width, dtype=REAL).unsqueeze(-1)
    points = (left + width * (1 + places) / 2).flatten()
    return points, (width * weights / 2).log().expand(len(left), -1).flatten()


def half_line(low: float = -45.0, high: float = 12.0) -> tuple[Tensor, Tensor]:
    u, step = line(low, high, 4001)
    return u.exp(), step + u


def unit_interval() -> tuple[Tensor, Tensor]:
    u, step = line(-36.0, 36.0, 3001)
    logsigmoid = torch.nn.functional.logsigmoid
    return torch.sigmoid(u).clamp(max=1 - 1e-16), step + logsigmoid(u) + logsigmoid(-u)


def circle() -> tuple[Tensor, Tensor]:
    x = torch.arange(-180, 180, dtype=REAL) * (math.pi / 180)
    return x, torch.full_like(x, math.log(math.pi / 180))


def sphere() -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes of the height, and equal angles."""
    heights, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(30))
    angles = torch.arange(40, dtype=REAL) * (math.pi / 20)
    z, angle = torch.cartesian_prod(heights, angles).unbind(-1)
    radius = (1 - z.square()).sqrt()
    points = torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)
    return points, (weights * (math.pi / 20)).log().repeat_interleave(40)


def correlations() -> tuple[Tensor, Tensor]:
    """Cholesky factors of two-by-two correlation matrices, by r = tanh(u): their density is over the off-diagonal r."""
    u, step = line(-18.0, 18.0, 3001)
    r, root = torch.tanh(u), 1 / torch.cosh(u)
    points = torch.stack([torch.stack([torch.ones_like(r), torch.zeros_like(r)], -1), torch.stack([r, root], -1)], -2)
    return points, step + 2 * root.log()


def counted(points: Tensor) -> tuple[Tensor, Tensor]:
    return points, torch.zeros(len(points), dtype=REAL)


def counts(high: int) -> tuple[Tensor, Tensor]:
    return counted(torch.arange(high + 1, dtype=REAL))


def plane() -> tuple[Tensor, Tensor]:
    x, step = line(-14.0, 14.0, 141)
    return torch.cartesian_prod(x, x), torch.full((141 * 141,), 2 * step[0].item(), dtype=REAL)


def triangle() -> tuple[Tensor, Tensor]:
    u, step = line(-30.0, 30.0, 181)
    ratios = torch.cat([torch.cartesian_prod(u, u), torch.zeros(181 * 181, 1, dtype=REAL)], -1)
    log_y = ratios.log_softmax(-1)  # additive log-ratios, whose Jacobian is the product of the coordinates
    return log_y.exp(), 2 * step[0] + log_y.sum(-1)


def compositions(total: int, parts: int) -> Tensor:
    rows = [row for row in itertools.product(range(total + 1), repeat=parts) if sum(row) == total]
    return torch.tensor(rows, dtype=REAL)


LOGITS = (t([0.3, -1.2, 0.5], [1.0, 0.0, -2.0]),), (t([-1.0, 0.4, 0.8], [0.2, 0.2, 2.0]),), (t([0, 1, 0], [2, 0, 1]),)
HOLES = tuple(
    (x[0].masked_fill(torch.tensor([[False, k == 1, False], [k == 2, False, False]]), -math.inf),)
    for k, x in enumerate(LOGITS)
)
REAL_LOGITS = (t(0.3, -1.5),), (t(-2.0, 1.0),), (t(0.0, 0.4),)
PAIRS = (t(0.0, 1.0), t(1.0, 0.5)), (t(2.0, -1.5), t(0.7, 2.0)), (t(-1.0, 0.5), t(1.5, 1.0))
SHAPES = (t(1.5, 4.0), t(1.0, 2.5)), (t(3.0, 2.0), t(0.5, 1.5)), (t(2.2, 1.2), t(2.0, 0.8))
RATES = (t(1.0, 4.0),), (t(2.5, 0.6),), (t(6.0, 1.3),)
SCALE_TRIL = t([[1.0, 0.0], [0.4, 0.8]], [[0.7, 0.0], [-0.3, 1.1]])
VECTORS = (
    (t([0.0, 1.0], [1.0, -1.0]), SCALE_TRIL),
    (t([1.5, 0.0], [-0.5, 0.3]), 1.3 * SCALE_TRIL.flip(0)),
    (t([0.2, 0.4], [0.0, 0.0]), 0.8 * SCALE_TRIL),
)
CONCENTRATIONS = (
    (t([1.5, 2.0, 3.0], [4.0, 1.2, 1.1]),),
    (t([3.0, 1.0, 1.2], [2.0, 2.0, 5.0]),),
    (t([1.0, 1.0, 1.0], [2.5, 1.4, 2.0]),),
)
ANGLES = (t(0.5, -2.0), t(1.0, 3.0)), (t(2.5, 2.9), t(2.0, 0.7)), (t(-1.0, 0.0), t(0.5, 0.9))

CLOSED = [
    Case("Normal", dist.Normal, PAIRS, *real_line()),
    Case("LogNormal", dist.LogNormal, PAIRS, *half_line(-30.0, 30.0)),
    Case("HalfNormal", dist.HalfNormal, RATES, *half_line(high=4.0)),
    Case(
        "MultivariateNormal", lambda loc, tril: dist.MultivariateNormal(loc, scale_tril=tril.tril()), VECTORS, *plane()
    ),
    Case("Bernoulli", lambda x: dist.Bernoulli(logits=x), REAL_LOGITS, *counts(1)),
    Case("Bernoulli-probs", lambda x: dist.Bernoulli(x.sigmoid()), REAL_LOGITS, *counts(1)),
    Case("Binomial", lambda x: dist.Binomial(5, logits=x), REAL_LOGITS, *counts(5)),
    Case("NegativeBinomial", lambda x: dist.NegativeBinomial(2.5, logits=x - 1), REAL_LOGITS, *counts(300)),
    Case("Geometric", lambda x: dist.Geometric(logits=x), REAL_LOGITS, *counts(300)),
    Case("Categorical", lambda x: dist.Categorical(logits=x), LOGITS, *counts(2)),
    Case("Categorical-probs", lambda x: dist.Categorical(x.softmax(-1)), LOGITS, *counts(2)),
    Case("Categorical-holes", lambda x: dist.Categorical(logits=x), HOLES, *counts(2)),
    Case("OneHotCategorical", lambda x: dist.OneHotCategorical(logits=x), LOGITS, *counted(torch.eye(3, dtype=REAL))),
    Case(
        "OneHotCategorical-holes", lambda x: dist.OneHotCategorical(logits=x), HOLES, *counted(torch.eye(3, dtype=REAL))
    ),
    Case("Multinomial", lambda x: dist.Multinomial(4, logits=x), LOGITS, *counted(compositions(4, 3))),
    Case("Poisson", dist.Poisson, RATES, *counts(60)),
    Case("Exponential", dist.Exponential, RATES, *half_line(high=6.0)),
    Case("Gamma", dist.Gamma, SHAPES, *half_line(high=6.0)),
    Case("Chi2", dist.Chi2, RATES, *half_line(low=-90.0, high=6.0)),
    Case("InverseGamma", dist.InverseGamma, SHAPES, *half_line(low=-6.0, high=45.0)),
    Case("Beta", dist.Beta, SHAPES, *unit_interval(), tolerance=1e-8),
    Case("ContinuousBernoulli", lambda x: dist.ContinuousBernoulli(logits=x), REAL_LOGITS, *unit_interval()),
    Case(
        "LowRankMultivariateNormal",
        lambda loc, tril: dist.LowRankMultivariateNormal(loc, tril[..., :1], tril[..., 1].square() + 0.5),
        VECTORS,
        *plane(),
    ),
    Case("LKJCholesky", lambda x: dist.LKJCholesky(2, x), RATES, *correlations(), tolerance=1e-7),
    Case("Dirichlet", dist.Dirichlet, CONCENTRATIONS, *triangle()),
    Case("VonMises", dist.VonMises, ANGLES, *circle(), tolerance=1e-7),  # of torch's Bessel function,
]
CLOSED += [
    Case(f"torch-{case.name}", getattr(td, case.name), case.arguments, case.points, case.log_measure, case.tolerance)
    for case in CLOSED
    if case.name in {"Normal", "LogNormal", "HalfNormal", "Poisson", "Exponential", "Gamma", "InverseGamma", "Beta"}
    or case.name in {"Dirichlet", "VonMises"}
]


def mixture(loc: Tensor, scale: Tensor) -> Any:
    components = dist.Normal(torch.stack([loc, loc + 3], -1), torch.stack([scale, scale / 2], -1))
    return dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.3, 0.7], dtype=REAL).expand(*loc.shape, -1)), components
    )


def linear(loc: Tensor, scale: Tensor) -> Any:
    from pyro_probmix.pooling.linear import LinearPool

    return LinearPool([dist.Normal(loc, scale), dist.Normal(-loc, 2 * scale)], torch.tensor([0.6, 0.4], dtype=REAL))


STUDENTS = tuple((4 * scale, loc, scale) for loc, scale in PAIRS)
NUMERICAL = [
    Case("StudentT", dist.StudentT, STUDENTS, *heavy_line(), tolerance=1e-8),
    Case("Cauchy", dist.Cauchy, PAIRS, *heavy_line(), tolerance=1e-8),
    Case("Laplace", dist.Laplace, PAIRS, *panels(-80.0, 80.0), tolerance=1e-8),
    Case("Gumbel", dist.Gumbel, PAIRS, *line(-20.0, 100.0, 6001), tolerance=1e-8),
    Case("MixtureSameFamily", mixture, PAIRS, *real_line(), tolerance=1e-8, on_cpu=True),
    Case("LinearPool", linear, PAIRS, *real_line(), tolerance=1e-8, on_cpu=True),
    Case("HalfCauchy", dist.HalfCauchy, RATES, *half_line(high=45.0), tolerance=1e-8),
    Case("Weibull", lambda a, b: dist.Weibull(a, b + 0.2), SHAPES, *half_line(), tolerance=1e-8),
    Case("Kumaraswamy", lambda a, b: dist.Kumaraswamy(a, b + 0.8), SHAPES, *unit_interval(), tolerance=1e-7),
    Case("torch-StudentT", td.StudentT, STUDENTS, *heavy_line(), tolerance=1e-8),
]
EVERY = CLOSED + NUMERICAL
