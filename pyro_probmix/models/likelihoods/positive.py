"""Heads of positive responses, of responses that are zero or positive, and of shares from 0 to 1."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_probmix.models.distributions.mixtures import LogNormalMixture as LogNormalMixtureDensity
from pyro_probmix.models.distributions.points import ZeroOneBeta as ZeroOneBetaDensity
from pyro_probmix.models.distributions.points import ZeroOrLogNormal
from pyro_probmix.models.likelihoods.base import FLOOR, Likelihood, components, positive

__all__ = ["Gamma", "Hurdle", "LogNormal", "LogNormalMixture", "ZeroOneBeta"]


#: Above e to this power, times the unit of the response, a median grows no longer exponentially in the features, but linearly.
LARGEST_LOG = 2.0
#: Bound of the standard deviation of a logarithm: a mean is at most exp(2) times the median.
LARGEST_SCALE = 2.0


class Gamma(Likelihood):
    """Head of a gamma likelihood: positive responses, with concentration and rate from a softplus of the features."""

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        concentration, rate = positive(raw).chunk(2, -1)
        return dist.Gamma(concentration, rate).to_event(1)


class LogNormal(Likelihood):
    """Head of a log-normal likelihood: positive responses whose logarithm is Gaussian, such as prices and durations."""

    parameters_per_output = 2

    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return dist.LogNormal(_log_median(loc), _log_scale(scale)).to_event(1)


class LogNormalMixture(Likelihood):
    """Head of a mixture of 3 log-normal distributions for each response, which is positive."""

    num_components = 3
    parameters_per_output = 3 * num_components

    def density(self, raw: Tensor) -> Any:
        logits, loc, scale = components(raw, (self.num_components,) * 3)
        return LogNormalMixtureDensity(logits, _log_median(loc), _log_scale(scale)).to_event(1)


class Hurdle(Likelihood):
    """Head of a hurdle likelihood: exactly 0 with a probability of its own, else log-normal, such as rain or a claim."""

    parameters_per_output = 3

    def density(self, raw: Tensor) -> Any:
        zero, loc, scale = components(raw, (1, 1, 1))
        logits = torch.cat([zero, torch.zeros_like(zero)], -1)
        return dist.Independent(ZeroOrLogNormal(logits, _log_median(loc).squeeze(-1), _log_scale(scale).squeeze(-1)), 1)


class ZeroOneBeta(Likelihood):
    """Head of a beta likelihood with zeros and ones: shares, of which some may be exactly 0 or 1.

    The mean of the beta distribution is a sigmoid of the features, its concentration a softplus, at first near 3.
    """

    parameters_per_output = 4

    def density(self, raw: Tensor) -> Any:
        ends, mean, concentration = components(raw, (2, 1, 1))
        mean, concentration = mean.sigmoid().squeeze(-1), positive(concentration + 3.0).squeeze(-1)
        # At first an end is improbable, and stays so where no response lies there.
        logits = torch.cat([ends - 3.0, torch.zeros_like(ends[..., :1])], -1)
        shapes = (mean * concentration + FLOOR, (1 - mean) * concentration + FLOOR)
        return dist.Independent(ZeroOneBetaDensity(logits, *shapes), 1)


def _log_median(raw: Tensor) -> Tensor:
    """The mean of a logarithm, without a jump in its slope: a row far from all others is not e to its distance."""
    above = (raw - LARGEST_LOG).clamp(min=0)
    return raw - above + above.log1p()


def _log_scale(raw: Tensor) -> Tensor:
    """The standard deviation of a logarithm, in bounds: a mean is not that of a tail which no row has shown."""
    return LARGEST_SCALE * (positive(raw) / LARGEST_SCALE).tanh()
