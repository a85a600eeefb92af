"""Densities widened by a factor, by a rule of each family."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_probmix.models.distributions.censored import Known
from pyro_probmix.models.distributions.mixtures import GaussianMixture, LogNormalMixture, Mixture, StudentTMixture
from pyro_probmix.models.distributions.points import ZeroOneBeta, ZeroOrLogNormal
from pyro_probmix.models.distributions.spline import LinearSpline
from pyro_probmix.models.distributions.zeros import ZeroInflatedNegativeBinomial

__all__ = ["widened"]

#: A negative binomial distribution of so large a count is a Poisson distribution.
POISSON_COUNT = 1e6


@singledispatch
def widened(p: Any, factor: float) -> Any:
    """The density with its standard deviation times a factor, its mean as it was; classes get a temperature.

    Another family joins by ``@widened.register``; one that has not is left as it is.
    """
    return p


@widened.register
def _independent(p: dist.Independent, factor: float) -> Any:
    return widened(p.base_dist, factor).to_event(p.reinterpreted_batch_ndims)


@widened.register
def _known(p: Known, factor: float) -> Any:
    inner = widened(p.base_dist, factor)
    return p if inner.base_dist is p.base_dist.base_dist else Known(inner)


@widened.register
def _normal(p: dist.Normal, factor: float) -> Any:
    return dist.Normal(p.loc, p.scale * factor, validate_args=False)


@widened.register
def _student(p: dist.StudentT, factor: float) -> Any:
    return type(p)(p.df, p.loc, p.scale * factor, validate_args=False)


@widened.register
def _gamma(p: dist.Gamma, factor: float) -> Any:
    return dist.Gamma(p.concentration / factor**2, p.rate / factor**2, validate_args=False)


@widened.register
def _categorical(p: dist.Categorical, factor: float) -> Any:
    return dist.Categorical(logits=p.logits / factor, validate_args=False)


@widened.register
def _bernoulli(p: dist.Bernoulli, factor: float) -> Any:
    return dist.Bernoulli(logits=p.logits / factor, validate_args=False)


def _about_mean(p: Mixture, factor: float) -> dict[str, Tensor]:
    mean = p.mean.unsqueeze(-1)
    return {"logits": p.logits, "loc": mean + factor * (p.loc - mean), "scale": factor * p.scale}


@widened.register
def _gaussian_mixture(p: GaussianMixture, factor: float) -> Any:
    return GaussianMixture(**_about_mean(p, factor), validate_args=False)


@widened.register
def _student_mixture(p: StudentTMixture, factor: float) -> Any:
    return StudentTMixture(**_about_mean(p, factor), df=p.df, validate_args=False)


@widened.register
def _spline(p: LinearSpline, factor: float) -> Any:
    mean = p.mean.unsqueeze(-1)
    return LinearSpline(mean + factor * (p.knots - mean), p.heights, factor * p.tails, validate_args=False)


def _of_logs(loc: Tensor, scale: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """The logarithm's mean and standard deviation, that times the factor: the mean of the number itself stays."""
    return loc + (1 - factor**2) * scale.square() / 2, factor * scale


@widened.register
def _log_normal(p: dist.LogNormal, factor: float) -> Any:
    return dist.LogNormal(*_of_logs(p.loc, p.scale, factor), validate_args=False)


@widened.register
def _log_normal_mixture(p: LogNormalMixture, factor: float) -> Any:
    return LogNormalMixture(p.logits, *_of_logs(p.loc, p.scale, factor), validate_args=False)


@widened.register
def _zero_or_log_normal(p: ZeroOrLogNormal, factor: float) -> Any:
    return ZeroOrLogNormal(p.logits, *_of_logs(p.loc, p.scale, factor), validate_args=False)


@widened.register
def _zero_one_beta(p: ZeroOneBeta, factor: float) -> Any:
    shapes = (p.concentration1 / factor**2, p.concentration0 / factor**2)
    return ZeroOneBeta(p.logits, *shapes, validate_args=False)


@widened.register
def _negative_binomial(p: dist.NegativeBinomial, factor: float) -> Any:
    # Of mean m and count r the variance is m + m^2 / r, which no count takes below Poisson's, m.
    mean = p.mean
    more = factor**2 * (mean + mean.square() / p.total_count) - mean
    count = torch.where(more > 0, mean.square() / more, POISSON_COUNT).clamp(max=POISSON_COUNT)
    return type(p)(count, logits=mean.log() - count.log(), validate_args=False)


@widened.register
def _zero_inflated_negative_binomial(p: ZeroInflatedNegativeBinomial, factor: float) -> Any:
    base = widened(p.base_dist, factor)
    return ZeroInflatedNegativeBinomial(base.total_count, base.logits, p.gate_logits, validate_args=False)
