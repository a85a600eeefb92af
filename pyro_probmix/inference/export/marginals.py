"""Univariate distributions by tensors alone: their distribution functions, as an exported program computes them."""

from __future__ import annotations

__all__ = ["Marginal", "marginal_of"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily, constraints
from torch.nn.functional import logsigmoid

from pyro_probmix.inference.export.incomplete_beta import beta_tails
from pyro_probmix.inference.export.student_t import student_t_tail
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal

#: Halvings of [0, 1] that turn a quantile function into a distribution function.
HALVINGS = 52


@dataclass(frozen=True)
class Marginal:
    """A univariate distribution by tensors, over the batch of its parameters.

    Attributes:
        tail: from values and signs to P(Y > y) where the sign is 1 and P(Y <= y) where it is -1, each as exact in its own
            tail as it can be.
        log_prob: the log density; of a discrete distribution not needed.
        icdf: the quantile of a level, a number; None where it has no formula.
        discrete: whether it lives on integers.
        ends: the least and the largest value of the support.
    """

    tail: Callable[[Tensor, Tensor], Tensor]
    log_prob: Callable[[Tensor], Tensor]
    icdf: Callable[[float], Tensor] | None = None
    discrete: bool = False
    ends: tuple[float, float] = (-math.inf, math.inf)


@singledispatch
def marginal_of(p: Any) -> Marginal:
    """The distribution functions of a univariate distribution, by its own ``cdf`` or ``icdf`` if it has not joined.

    Another family joins by ``@marginal_of.register``, which needs functions of tensors.

    Raises:
        NotImplementedError: for one that has neither function.

    Example:
        >>> marginal_of(dist.Poisson(torch.tensor(2.0))).tail(torch.tensor(1.0), torch.tensor(-1.0)).round(decimals=3)
        tensor(0.4060)
    """
    middle = torch.full((), 0.5, dtype=torch.float64)
    icdf: Any = _that_is_there(lambda level: p.icdf(torch.full_like(middle, level)), 0.5)
    below: Any = _that_is_there(p.cdf, p.mean)
    if below is None:
        if icdf is None:
            raise NotImplementedError(f"a {type(p).__name__} has neither a cdf nor an icdf")
        below = _inverted(p.icdf)
    tail = _of_two(below, lambda y: 1 - below(y))
    return Marginal(tail, p.log_prob, icdf, p.support.is_discrete, _ends(p.support))


def _of_two(below: Callable[[Tensor], Tensor], above: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda y, sign: torch.where(sign > 0, above(y), below(y))


def _that_is_there(function: Callable[[Any], Tensor], argument: Any) -> Callable[[Any], Tensor] | None:
    try:
        function(argument)
    except NotImplementedError:
        return None
    return function


def _inverted(icdf: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The distribution function of a quantile function."""

    def below(y: Tensor) -> Tensor:
        low = torch.zeros_like(y + icdf(torch.full((), 0.5, dtype=y.dtype)))
        high = torch.ones_like(low)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            reached = icdf(middle) <= y
            low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
        return low

    return below


def _ends(support: Any) -> tuple[float, float]:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.boolean:
        return 0.0, 1.0
    low, high = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    return (low if isinstance(low, int | float) else -math.inf, high if isinstance(high, int | float) else math.inf)


@marginal_of.register
def _normal(p: dist.Normal) -> Marginal:
    def tail(y: Tensor, sign: Tensor) -> Tensor:
        return 0.5 * torch.erfc((y - p.loc) / p.scale * (sign * math.sqrt(0.5)))

    def icdf(level: float) -> Tensor:
        z = float(torch.special.ndtri(torch.tensor(min(level, 1 - level), dtype=torch.float64)))
        quantile: Tensor = p.loc + p.scale * (z if level <= 0.5 else -z)
        return quantile

    return Marginal(tail, p.log_prob, icdf)


@marginal_of.register
def _log_normal(p: dist.LogNormal) -> Marginal:
    normal = marginal_of(dist.Normal(p.loc, p.scale, validate_args=False))
    assert normal.icdf is not None
    of_log = normal.icdf
    # The logarithm of 0 is minus infinity, below which there is nothing.
    return Marginal(
        lambda y, sign: normal.tail(y.clamp(min=0).log(), sign),
        p.log_prob,
        lambda level: of_log(level).exp(),
        ends=(0.0, math.inf),
    )


@marginal_of.register
def _multivariate_normal(p: dist.MultivariateNormal) -> Marginal:
    return marginal_of(dist.Normal(p.loc, p.variance.sqrt(), validate_args=False))


@marginal_of.register
def _student(p: dist.StudentT) -> Marginal:
    upper = student_t_tail(p.df)

    def tail(y: Tensor, sign: Tensor) -> Tensor:
        z = (y - p.loc) / p.scale * sign
        far = upper(z.abs())
        return torch.where(z > 0, far, 1 - far)

    return Marginal(tail, p.log_prob)


@marginal_of.register
def _gamma(p: dist.Gamma) -> Marginal:
    def of(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda y: function(*torch.broadcast_tensors(p.concentration, p.rate * y.clamp(min=0)))

    tail = _of_two(of(torch.special.gammainc), of(torch.special.gammaincc))
    return Marginal(tail, p.log_prob, ends=(0.0, math.inf))


@marginal_of.register
def _exponential(p: dist.Exponential) -> Marginal:
    return marginal_of(dist.Gamma(torch.ones_like(p.rate), p.rate, validate_args=False))


@marginal_of.register
def _poisson(p: dist.Poisson) -> Marginal:
    def of(function: Callable[[Tensor, Tensor], Tensor], before: float) -> Callable[[Tensor], Tensor]:
        def at(y: Tensor) -> Tensor:
            count, rate = torch.broadcast_tensors(y.floor().clamp(min=0) + 1, p.rate)
            return torch.where(y < 0, before, function(count, rate))

        return at

    tail = _of_two(of(torch.special.gammaincc, 0.0), of(torch.special.gammainc, 1.0))
    return Marginal(tail, p.log_prob, discrete=True, ends=(0.0, math.inf))


@marginal_of.register
def _beta(p: dist.Beta) -> Marginal:
    def tail(y: Tensor, sign: Tensor) -> Tensor:
        inside = y.clamp(0, 1)
        below, above = beta_tails(p.concentration1, p.concentration0, inside.log(), torch.log1p(-inside))
        return torch.where(sign > 0, above, below)

    return Marginal(tail, p.log_prob, ends=(0.0, 1.0))


@marginal_of.register
def _zero_one_beta(p: ZeroOneBeta) -> Marginal:
    zero, one, between = p.probs.unbind(-1)
    base = marginal_of(p.base_dist)

    def tail(y: Tensor, sign: Tensor) -> Tensor:
        inside = between * base.tail(y, sign)
        above = torch.where(y < 1, inside + one + zero * (y < 0), 0.0)
        below = torch.where(y < 0, 0.0, inside + zero + one * (y >= 1))
        return torch.where(sign > 0, above, below)

    return Marginal(tail, p.log_prob, ends=(0.0, 1.0))


@marginal_of.register
def _negative_binomial(p: dist.NegativeBinomial) -> Marginal:
    return _of_failures(p.total_count, logsigmoid(-p.logits), logsigmoid(p.logits))


@marginal_of.register
def _gamma_poisson(p: dist.GammaPoisson) -> Marginal:
    return _of_failures(p.concentration, -torch.log1p(1 / p.rate), -torch.log1p(p.rate))


def _of_failures(count: Tensor, log_end: Tensor, log_more: Tensor) -> Marginal:
    """Events before so many others, by the logarithms of the others' probability and of their own.

    References:
        Abramowitz and Stegun, 1964, 26.5.26.
    """

    def tail(y: Tensor, sign: Tensor) -> Tensor:
        below, above = beta_tails(count, y.floor().clamp(min=0) + 1, log_end, log_more)
        return torch.where(sign > 0, torch.where(y < 0, 1.0, above), torch.where(y < 0, 0.0, below))

    return Marginal(tail, _not_needed, discrete=True, ends=(0.0, math.inf))


def _not_needed(y: Tensor) -> Tensor:
    raise NotImplementedError("the quantiles of integers need no density")


@marginal_of.register
def _bernoulli(p: dist.Bernoulli) -> Marginal:
    def of(middle: Tensor, before: float) -> Callable[[Tensor], Tensor]:
        return lambda y: torch.where(y < 0, before, torch.where(y < 1, middle, 1 - before))

    tail = _of_two(of(1 - p.probs, 0.0), of(p.probs, 1.0))
    return Marginal(tail, p.log_prob, discrete=True, ends=(0.0, 1.0))


@marginal_of.register
def _mixture(p: MixtureSameFamily) -> Marginal:
    of_each, weights = marginal_of(p.component_distribution), p.mixture_distribution.probs

    def tail(y: Tensor, sign: Tensor) -> Tensor:
        return (weights * of_each.tail(y[..., None], sign[..., None])).sum(-1)

    return Marginal(tail, p.log_prob, discrete=of_each.discrete, ends=of_each.ends)


@marginal_of.register
def _zero_inflated(p: dist.ZeroInflatedDistribution) -> Marginal:
    base = marginal_of(p.base_dist)
    return Marginal(_with_zeros(base, p.gate), p.log_prob, discrete=base.discrete, ends=base.ends)


@marginal_of.register
def _zero_or_log_normal(p: ZeroOrLogNormal) -> Marginal:
    return Marginal(_with_zeros(marginal_of(p.base_dist), p.probs[..., 0]), p.log_prob, ends=(0.0, math.inf))


def _with_zeros(base: Marginal, zero: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The tails of a distribution of numbers of at least 0 that is 0 with a further probability."""

    def tail(y: Tensor, sign: Tensor) -> Tensor:
        rest = (1 - zero) * base.tail(y, sign)
        return torch.where(sign > 0, rest, rest + zero * (y >= 0))

    return tail
