"""Univariate families of distributions in NumPy, each exact in its own tails: for quantiles, and where torch has no cdf."""

from __future__ import annotations

__all__ = ["Family", "columns_of", "family_of", "marginals_of"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from scipy import special, stats
from torch import Tensor
from torch.distributions import MixtureSameFamily

from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal
from pyro_probmix.models.distributions.spline import LinearSpline


def marginals_of(p: Any) -> Any:
    """The distribution of each coordinate, without the wrappers that gather coordinates to events, or mask rows."""
    while isinstance(p, dist.Independent | MaskedDistribution | ExpandedDistribution):
        p = p.base_dist
    return p


@dataclass(frozen=True)
class Family:
    """A univariate family of distributions in NumPy, each function of (argument, *parameters), all arrays that broadcast.

    Attributes:
        parameters: tensors of the batch shape.
        cdf, sf: P(Y <= y) and P(Y > y), each exact in its own tail.
        ppf, isf: their inverses; of a discrete family the smallest integer at which the cdf reaches the level.
        discrete: whether it lives on integers.
        num_components: K, of a mixture: its parameters have the shape [..., K], and ``cdf`` and ``sf`` are those of the
            components, each times K and its weight.
        points: values with a probability of their own, where a distribution function jumps.
        pdf: the density, by which quantiles are found in fewer steps; None where ``cdf`` alone is known.
        score: the derivative of its logarithm; wherever ``pdf`` is.
        bracket: from levels, that they are above one half, and parameters [M, rows, 1] to bounds of the components' quantiles
            and a guess between, [rows, L] each, where that takes less time than all quantiles.
    """

    parameters: tuple[Tensor, ...]
    cdf: Callable[..., Any]
    sf: Callable[..., Any]
    ppf: Callable[..., Any]
    isf: Callable[..., Any]
    discrete: bool = False
    num_components: int | None = None
    points: tuple[float, ...] = ()
    pdf: Callable[..., Any] | None = None
    score: Callable[..., Any] | None = None
    bracket: Callable[..., tuple[Any, Any, Any]] | None = None


@singledispatch
def family_of(p: Any) -> Family:
    """The family and the parameters of a univariate distribution. Another family joins by ``@family_of.register``.

    Raises:
        TypeError: for a family that has not joined.
    """
    raise TypeError(
        f"quantiles of a {type(p).__name__} are not known, expected a univariate family that is registered. "
        f"Try pyro_probmix.inference.predictive.families.family_of.register({type(p).__name__}), or quantiles of its samples."
    )


def columns_of(family: Family, components: Any, num_mixed: int) -> list[npt.NDArray[np.float64]]:
    """The parameters of mixed components, each [M, columns]: every response of every row is a column.

    Components that are mixtures of K count for K each, M is K times as many.

    Args:
        family: of the components' marginals.
        components: with batch shape [*mixed, *batch].
        num_mixed: number of leading batch dims that are mixed over.
    """
    full = (*components.batch_shape, *components.event_shape)
    count = math.prod(components.batch_shape[:num_mixed])
    inner = () if family.num_components is None else (family.num_components,)

    def columns(t: Tensor) -> npt.NDArray[np.float64]:
        each = t.detach().expand(*full, *inner).reshape(count, -1, *inner)
        return (each.movedim(-1, 0).flatten(0, 1) if inner else each).double().cpu().numpy()

    return [columns(t) for t in family.parameters]


@family_of.register
def _normal(p: dist.Normal) -> Family:
    return Family(
        (p.loc, p.scale),
        lambda y, loc, scale: special.ndtr((y - loc) / scale),
        lambda y, loc, scale: special.ndtr((loc - y) / scale),
        lambda q, loc, scale: loc + scale * special.ndtri(q),
        lambda q, loc, scale: loc - scale * special.ndtri(q),
        pdf=lambda y, loc, scale: np.exp(-0.5 * ((y - loc) / scale) ** 2) / (math.sqrt(2 * math.pi) * scale),
        score=lambda y, loc, scale: (loc - y) / scale / scale,
    )


@family_of.register
def _student(p: dist.StudentT) -> Family:
    half = p.df / 2
    height = torch.exp(torch.lgamma(half + 0.5) - torch.lgamma(half)) / ((math.pi * p.df).sqrt() * p.scale)
    return Family(
        (p.df, p.loc, p.scale, height),
        lambda y, df, loc, scale, _: special.stdtr(df, (y - loc) / scale),
        lambda y, df, loc, scale, _: special.stdtr(df, (loc - y) / scale),
        lambda q, df, loc, scale, _: loc + scale * _student_quantile(q, df),
        lambda q, df, loc, scale, _: loc - scale * _student_quantile(q, df),
        pdf=lambda y, df, loc, scale, height: height * (1 + ((y - loc) / scale) ** 2 / df) ** (-(df + 1) / 2),
        score=lambda y, df, loc, scale, _: (df + 1) * (loc - y) / scale / (df + ((y - loc) / scale) ** 2) / scale,
        bracket=_student_bracket,
    )


def _student_bracket(q: Any, upper: Any, df: Any, loc: Any, scale: Any, _: Any) -> tuple[Any, Any, Any]:
    """Between quantiles by the least and by the largest degrees of freedom, in which a tail's quantile is monotone."""
    tail, sign = np.where(upper, 1 - q, q), np.where(upper, -1.0, 1.0)
    ends = [sign * _student_quantile(tail, extreme) for extreme in (df.min(0), df.max(0))]
    low, high = np.minimum(*ends), np.maximum(*ends)
    with np.errstate(invalid="ignore"):  # infinite at levels 0 and 1
        deviation = np.sqrt((scale**2).mean(0) + loc.var(0))  # of components about their common mean
        guess = loc.mean(0) + deviation * (low + high) / 2
    return (loc + scale * low).min(0), (loc + scale * high).max(0), guess


def _student_quantile(q: Any, df: Any) -> Any:
    # SciPy's has the wrong infinity at either end.
    return np.select([q == 0, q == 1], [-np.inf, np.inf], special.stdtrit(df, q))


@family_of.register
def _gamma(p: dist.Gamma) -> Family:
    return Family(
        (p.concentration, p.rate),
        lambda y, shape, rate: special.gammainc(shape, rate * np.maximum(y, 0)),
        lambda y, shape, rate: special.gammaincc(shape, rate * np.maximum(y, 0)),
        lambda q, shape, rate: special.gammaincinv(shape, q) / rate,
        lambda q, shape, rate: special.gammainccinv(shape, q) / rate,
    )


@family_of.register
def _poisson(p: dist.Poisson) -> Family:
    def at_least(real: Any) -> Any:
        # The regularised incomplete gamma functions interpolate between integers; rounding may put them on either side.
        return np.maximum(np.ceil(real) - 1, 0)

    return Family(
        (p.rate,),
        lambda y, rate: np.where(y < 0, 0.0, special.pdtr(np.maximum(np.floor(y), 0), rate)),
        lambda y, rate: np.where(y < 0, 1.0, special.pdtrc(np.maximum(np.floor(y), 0), rate)),
        lambda q, rate: at_least(special.pdtrik(q, rate)),
        lambda q, rate: np.where(q == 0, np.inf, at_least(special.pdtrik(1 - q, rate))),
        discrete=True,
    )


@family_of.register
def _bernoulli(p: dist.Bernoulli) -> Family:
    return Family(
        (p.probs,),
        lambda y, probs: np.where(y < 0, 0.0, np.where(y < 1, 1 - probs, 1.0)),
        lambda y, probs: np.where(y < 0, 1.0, np.where(y < 1, probs, 0.0)),
        lambda q, probs: np.where(q > 1 - probs, 1.0, 0.0),
        lambda q, probs: np.where(q < probs, 1.0, 0.0),
        discrete=True,
    )


@family_of.register
def _multivariate_normal(p: dist.MultivariateNormal) -> Family:
    return family_of(dist.Normal(p.loc, p.variance.sqrt(), validate_args=False))


def _of_scipy(found: Any, parameters: tuple[Tensor, ...], discrete: bool = False) -> Family:
    """A family of SciPy's, by the order of its parameters there; a ``loc`` of None is one that it has no tensor for."""

    def smallest(level: Any, *values: Any) -> Any:
        return np.maximum(found.ppf(level, *values), found.support(*values)[0])  # at level 0 SciPy is one below

    return Family(parameters, found.cdf, found.sf, smallest if discrete else found.ppf, found.isf, discrete)


@family_of.register
def _beta(p: dist.Beta) -> Family:
    return _of_scipy(stats.beta, (p.concentration1, p.concentration0))


@family_of.register
def _binomial(p: dist.Binomial) -> Family:
    return _of_scipy(stats.binom, (p.total_count, p.probs), discrete=True)


@family_of.register
def _negative_binomial(p: dist.NegativeBinomial) -> Family:
    return _of_scipy(
        stats.nbinom, (p.total_count, 1 - p.probs), discrete=True
    )  # torch counts successes, SciPy failures


@family_of.register
def _gamma_poisson(p: dist.GammaPoisson) -> Family:
    return _of_scipy(stats.nbinom, (p.concentration, p.rate / (1 + p.rate)), discrete=True)


@family_of.register
def _geometric(p: dist.Geometric) -> Family:
    return _of_scipy(stats.nbinom, (p.probs.new_ones(()), p.probs), discrete=True)


@family_of.register
def _log_normal(p: dist.LogNormal) -> Family:
    normal = family_of(dist.Normal(p.loc, p.scale, validate_args=False))

    def of_log(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, *values: function(np.log(np.maximum(y, 0)), *values)

    def to_exp(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda q, *values: np.exp(function(q, *values))

    return Family(normal.parameters, of_log(normal.cdf), of_log(normal.sf), to_exp(normal.ppf), to_exp(normal.isf))


@family_of.register
def _exponential(p: dist.Exponential) -> Family:
    return family_of(dist.Gamma(p.rate.new_ones(()).expand(p.rate.shape), p.rate, validate_args=False))


@family_of.register
def _laplace(p: dist.Laplace) -> Family:
    return _of_scipy(stats.laplace, (p.loc, p.scale))


@family_of.register
def _mixture(p: MixtureSameFamily) -> Family:
    of_each, weights = family_of(p.component_distribution), p.mixture_distribution.probs
    count = weights.shape[-1]

    def cdf(y: Any, weight: Any, *values: Any) -> Any:
        return count * weight * of_each.cdf(y, *values)

    def sf(y: Any, weight: Any, *values: Any) -> Any:
        return count * weight * of_each.sf(y, *values)

    def ppf(q: Any, weight: Any, *values: Any) -> Any:
        return of_each.ppf(q, *values)

    def isf(q: Any, weight: Any, *values: Any) -> Any:
        return of_each.isf(q, *values)

    return Family((weights, *of_each.parameters), cdf, sf, ppf, isf, of_each.discrete, count)


@family_of.register
def _zero_inflated(p: dist.ZeroInflatedDistribution) -> Family:
    base = family_of(p.base_dist)

    def cdf(y: Any, gate: Any, *values: Any) -> Any:
        return np.where(y < 0, 0.0, gate + (1 - gate) * base.cdf(y, *values))

    def sf(y: Any, gate: Any, *values: Any) -> Any:
        return np.where(y < 0, 1.0, (1 - gate) * base.sf(y, *values))

    def ppf(q: Any, gate: Any, *values: Any) -> Any:
        rest = np.clip((q - gate) / (1 - gate), 0, 1)
        return np.where(q <= gate, 0.0, base.ppf(rest, *values))

    def isf(q: Any, gate: Any, *values: Any) -> Any:
        rest = np.minimum(q / (1 - gate), 1)
        return np.where(q >= 1 - gate, 0.0, base.isf(rest, *values))

    return Family((p.gate, *base.parameters), cdf, sf, ppf, isf, discrete=base.discrete)


@family_of.register
def _zero_one_beta(p: ZeroOneBeta) -> Family:
    zero, one, between = p.probs.unbind(-1)

    def cdf(y: Any, zero: Any, one: Any, between: Any, a: Any, b: Any) -> Any:
        inside = zero + between * special.betainc(a, b, np.clip(y, 0, 1))
        return np.select([y < 0, y >= 1], [0.0, 1.0], inside)

    def sf(y: Any, zero: Any, one: Any, between: Any, a: Any, b: Any) -> Any:
        inside = one + between * special.betaincc(a, b, np.clip(y, 0, 1))
        return np.select([y < 0, y >= 1], [1.0, 0.0], inside)

    def ppf(q: Any, zero: Any, one: Any, between: Any, a: Any, b: Any) -> Any:
        inside = special.betaincinv(a, b, np.clip((q - zero) / between, 0, 1))
        return np.select([q <= zero, q > zero + between], [0.0, 1.0], inside)

    def isf(q: Any, zero: Any, one: Any, between: Any, a: Any, b: Any) -> Any:
        inside = special.betainccinv(a, b, np.clip((q - one) / between, 0, 1))
        return np.select([q >= one + between, q < one], [0.0, 1.0], inside)

    return Family((zero, one, between, p.concentration1, p.concentration0), cdf, sf, ppf, isf, points=p.points)


@family_of.register
def _zero_or_log_normal(p: ZeroOrLogNormal) -> Family:
    body = family_of(p.base_dist)
    zero, above = p.probs.unbind(-1)

    def cdf(y: Any, zero: Any, above: Any, *values: Any) -> Any:
        return np.where(y < 0, 0.0, zero + above * body.cdf(y, *values))

    def sf(y: Any, zero: Any, above: Any, *values: Any) -> Any:
        return np.where(y < 0, 1.0, above * body.sf(y, *values))

    def ppf(q: Any, zero: Any, above: Any, *values: Any) -> Any:
        return np.where(q <= zero, 0.0, body.ppf(np.clip((q - zero) / above, 0, 1), *values))

    def isf(q: Any, zero: Any, above: Any, *values: Any) -> Any:
        return np.where(q >= above, 0.0, body.isf(np.clip(q / above, 0, 1), *values))

    return Family((zero, above, *body.parameters), cdf, sf, ppf, isf, points=p.points)


@family_of.register
def _linear_spline(p: LinearSpline) -> Family:
    sizes = [v.shape[-1] for v in (p.knots, p.heights, p.tails)]

    def made(values: tuple[Any, ...]) -> LinearSpline:
        columns = torch.stack([torch.tensor(v) for v in values], -1)
        knots, heights, tails = columns.split(sizes, -1)
        return LinearSpline(knots, heights, tails, validate_args=False)

    columns = [part for v in (p.knots, p.heights, p.tails) for part in v.unbind(-1)]
    return Family(
        tuple(columns),
        lambda y, *values: made(values).cdf(torch.tensor(y)).numpy(),
        lambda y, *values: made(values).mirrored().cdf(-torch.tensor(y)).numpy(),
        lambda q, *values: made(values).icdf(torch.tensor(q)).numpy(),
        lambda q, *values: -made(values).mirrored().icdf(torch.tensor(q)).numpy(),
    )
