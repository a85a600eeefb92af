"""Families made of others: mixtures, values with a probability of their own, splines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from scipy import special
from torch.distributions import MixtureSameFamily

from pyro_probmix.inference.predictive.families.family import Family, family_of
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal
from pyro_probmix.models.distributions.spline import LinearSpline


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

    found = Family((weights, *of_each.parameters), cdf, sf, ppf, isf, of_each.discrete, count)
    if of_each.pdf is None:
        return found
    density, slope = of_each.pdf, of_each.score

    def pdf(y: Any, weight: Any, *values: Any) -> Any:
        return count * weight * density(y, *values)

    def score(y: Any, weight: Any, *values: Any) -> Any:
        return slope(y, *values)  # type: ignore[misc] # beside a pdf there is one

    return replace(found, pdf=pdf, score=score)


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
