"""Responses that are known up to an interval: the likelihood of what is known, with gradients."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.models.distributions.incomplete import TINY, log_mass
from pyro_probmix.models.distributions.mixtures import GaussianMixture, LogNormalMixture, StudentTMixture
from pyro_probmix.models.distributions.points import WithPoints
from pyro_probmix.models.distributions.spline import LinearSpline
from pyro_probmix.models.distributions.student import StudentT
from pyro_probmix.models.distributions.zeros import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

__all__ = ["Known", "log_probability"]

#: An end so many standard deviations away is none; of a spline, whose tails fall off exponentially, so many units.
FAR, FAR_OF_SPLINE = 1e4, 1e6


@singledispatch
def log_probability(p: Any, low: Tensor, high: Tensor) -> Tensor:
    r"""The logarithm of the probability of [a, b], with gradients. Another family joins by ``@log_probability.register``.

    Args:
        p: of event shape ().
        low, high: a < b, which may be infinite; of counts a <= b.

    Raises:
        TypeError: for a family that has not joined.
    """
    raise TypeError(
        f"the probability of an interval under a {type(p).__name__} is not known here, expected the density of a named "
        "likelihood. Try likelihood=Censored(Gaussian), or log_probability.register."
    )


@log_probability.register
def _normal(p: dist.Normal, low: Tensor, high: Tensor) -> Tensor:
    loc, scale = p.loc.detach(), p.scale.detach()
    open_below, open_above = low < loc - FAR * scale, high > loc + FAR * scale
    # Stand-ins for open ends, whose gradients would be products of 0 and infinity.
    low, high = torch.where(open_below, loc - scale, low), torch.where(open_above, loc + scale, high)
    a, b = ((end - p.loc) / p.scale for end in (low, high))
    # Above the mean the two tails change places, so that small numbers are subtracted from each other, not from 1.
    flip = torch.where(open_below, b, torch.where(open_above, a, (a + b) / 2)) > 0
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    open_below, open_above = torch.where(flip, open_above, open_below), torch.where(flip, open_below, open_above)
    upper = torch.special.log_ndtr(b).masked_fill(open_above, 0.0)
    gap = (torch.special.log_ndtr(a) - upper).clamp(max=-1e-12).masked_fill(open_below, -1.0)
    total: Tensor = upper + torch.log(-torch.expm1(gap)).masked_fill(open_below, 0.0)
    return total


@log_probability.register
def _log_normal(p: dist.LogNormal, low: Tensor, high: Tensor) -> Tensor:
    none = high <= 0
    low, high = torch.where(none, 1.0, low), torch.where(none, 2.0, high)
    below = torch.where(low > 0, low, 1.0).log().where(low > 0, -torch.inf)
    found = log_probability(dist.Normal(p.loc, p.scale, validate_args=False), below, high.log())
    return found.masked_fill(none, -torch.inf)


@log_probability.register
def _student(p: StudentT, low: Tensor, high: Tensor) -> Tensor:
    return log_mass("student", low, high, p.df, p.loc, p.scale)


@log_probability.register
def _gamma(p: dist.Gamma, low: Tensor, high: Tensor) -> Tensor:
    return log_mass("gamma", low, high, p.concentration, p.rate)


@log_probability.register
def _beta(p: dist.Beta, low: Tensor, high: Tensor) -> Tensor:
    return log_mass("beta", low, high, p.concentration1, p.concentration0)


@log_probability.register
def _poisson(p: dist.Poisson, low: Tensor, high: Tensor) -> Tensor:
    return log_mass("poisson", low, high, p.rate)


@log_probability.register
def _negative_binomial(p: dist.NegativeBinomial, low: Tensor, high: Tensor) -> Tensor:
    return log_mass("negative-binomial", low, high, p.total_count, p.logits)


@log_probability.register
def _spline(p: LinearSpline, low: Tensor, high: Tensor) -> Tensor:
    low, high = (end.clamp(-FAR_OF_SPLINE, FAR_OF_SPLINE) for end in (low, high))
    left, mirror = p.cdf(low), p.mirrored()
    mass = torch.where(left < 0.5, p.cdf(high) - left, mirror.cdf(-low) - mirror.cdf(-high))
    return mass.clamp(min=torch.finfo(mass.dtype).tiny).log()


@log_probability.register(ZeroInflatedPoisson)
@log_probability.register(ZeroInflatedNegativeBinomial)
def _zero_inflated(p: Any, low: Tensor, high: Tensor) -> Tensor:
    of_counts = log_probability(p.base_dist, low, high) - torch.nn.functional.softplus(p.gate_logits)
    zero = torch.nn.functional.logsigmoid(p.gate_logits)
    return torch.where((low <= 0) & (high >= 0), torch.logaddexp(of_counts, zero), of_counts)


@log_probability.register
def _with_points(p: WithPoints, low: Tensor, high: Tensor) -> Tensor:
    weights = p.logits.log_softmax(-1)
    # A density without mass between the ends, beside a point that is there.
    total = weights[..., -1] + log_probability(p.base_dist, low, high).clamp(min=math.log(TINY))
    for k, point in enumerate(p.points):
        here = (low <= point) & (high >= point)
        total = torch.where(here, torch.logaddexp(total, weights[..., k]), total)
    return total


@log_probability.register(GaussianMixture)
@log_probability.register(LogNormalMixture)
@log_probability.register(StudentTMixture)
def _mixture(p: Any, low: Tensor, high: Tensor) -> Tensor:
    each = log_probability(p.component_distribution, low.unsqueeze(-1), high.unsqueeze(-1))
    total: Tensor = (p.logits.log_softmax(-1) + each).logsumexp(-1)
    return total


class _Ends(constraints.Constraint):
    """First the lower ends of responses, then the upper ones."""

    is_discrete = False
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        low, high = value.chunk(2, -1)
        inside: Tensor = (low <= high).all(-1)
        return inside


ENDS = _Ends()


class Known(TorchDistribution):
    r"""What is known of responses: their two ends, in one event [2 d_y], first the lower ones.

    .. math:: \log p(a, b) = \log p(a) \text{ where } a = b, \qquad \log P(a \le Y \le b) \text{ elsewhere}

    Its labels are never mixed: between a known response and one that is known from below alone lies no end.

    Args:
        base_dist: of the responses, of event shape [d_y].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False

    def __init__(self, base_dist: Any, validate_args: bool | None = None) -> None:
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, torch.Size((2 * base_dist.event_shape[0],)), validate_args=False)

    @property
    def support(self) -> Any:
        """Ends of responses, the lower ones no larger than the upper ones."""
        return ENDS

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Known(self.base_dist.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        p = self.base_dist.base_dist
        low, high = value.chunk(2, -1)
        exact = low == high
        # In the place of ends that are not used stand some that have finite densities and gradients.
        stand_in = p.mean.detach().round() if p.support.is_discrete else p.mean.detach()
        score = p.log_prob(torch.where(exact, low, stand_in))
        between = log_probability(p, torch.where(exact, stand_in - 1, low), torch.where(exact, stand_in + 1, high))
        total: Tensor = torch.where(exact, score, between).sum(-1)
        return total

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn: Tensor = self.base_dist.sample(sample_shape)
        return torch.cat([drawn, drawn], -1)
