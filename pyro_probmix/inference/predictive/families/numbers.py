"""Families of densities of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from scipy import special, stats

from pyro_probmix.inference.predictive.families.family import Family, family_of, of_scipy


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
        rough=(
            lambda y, df, loc, scale, _: _near_student((y - loc) / scale, df),
            lambda y, df, loc, scale, _: _near_student((loc - y) / scale, df),
        ),
        bracket=_student_bracket,
    )


def _near_student(t: Any, df: Any) -> Any:
    """The distribution function of Student's t within 1e-5 of itself from 5 degrees of freedom on, within 4e-3 from 2 on.

    At most 3 standard deviations out, and less exact farther out.

    References:
        Hill, 1970, "Algorithm 395: Student's t-distribution", Communications of the ACM 13(10).
    """
    a = df - 0.5
    square = a * np.log1p(t * t / df)
    b = 48 * a * a
    high = (((-0.4 * square - 3.3) * square - 24) * square - 85.5) / (0.8 * square * square + 100 + b)
    return special.ndtr(np.copysign(np.sqrt(square) * (1 + (square + 3 + high) / b), t))


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
def _multivariate_normal(p: dist.MultivariateNormal) -> Family:
    return family_of(dist.Normal(p.loc, p.variance.sqrt(), validate_args=False))


@family_of.register
def _laplace(p: dist.Laplace) -> Family:
    return of_scipy(stats.laplace, (p.loc, p.scale))


@family_of.register
def _log_normal(p: dist.LogNormal) -> Family:
    normal = family_of(dist.Normal(p.loc, p.scale, validate_args=False))

    def of_log(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, *values: function(np.log(np.maximum(y, 0)), *values)

    def to_exp(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda q, *values: np.exp(function(q, *values))

    return Family(normal.parameters, of_log(normal.cdf), of_log(normal.sf), to_exp(normal.ppf), to_exp(normal.isf))


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
def _exponential(p: dist.Exponential) -> Family:
    return family_of(dist.Gamma(p.rate.new_ones(()).expand(p.rate.shape), p.rate, validate_args=False))


@family_of.register
def _beta(p: dist.Beta) -> Family:
    return of_scipy(stats.beta, (p.concentration1, p.concentration0))
