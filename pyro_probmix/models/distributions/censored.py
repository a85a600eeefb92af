"""Responses that are known up to an interval: the likelihood of what is known, with gradients."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_probmix.models.distributions.mixtures import GaussianMixture, LogNormalMixture

__all__ = ["Known", "log_probability"]

#: An end so many standard deviations away is none.
FAR = 1e4


@singledispatch
def log_probability(p: Any, low: Tensor, high: Tensor) -> Tensor:
    r"""The logarithm of the probability of (a, b], with gradients. Another family joins by ``@log_probability.register``.

    Args:
        p: of event shape ().
        low, high: a < b, which may be infinite.

    Raises:
        TypeError: for a family that has not joined.
    """
    raise TypeError(
        f"the probability of an interval under a {type(p).__name__} has no gradient here, expected a normal or log-normal "
        "distribution or a mixture of them. Try likelihood=Censored(Gaussian), or log_probability.register."
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
    ends = (torch.where(end > 0, end, 1.0).log().where(end > 0, -torch.inf) for end in (low, high))
    return log_probability(dist.Normal(p.loc, p.scale, validate_args=False), *ends)


@log_probability.register(GaussianMixture)
@log_probability.register(LogNormalMixture)
def _mixture(p: Any, low: Tensor, high: Tensor) -> Tensor:
    each = log_probability(p.component_distribution, low.unsqueeze(-1), high.unsqueeze(-1))
    total: Tensor = (p.logits.log_softmax(-1) + each).logsumexp(-1)
    return total


class Known(TorchDistribution):
    r"""What is known of responses: their two ends, in one event [2 d_y], first the lower ones.

    .. math:: \log p(a, b) = \log p(a) \text{ where } a = b, \qquad \log [F(b) - F(a)] \text{ elsewhere}

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
        """All numbers, and the infinities."""
        return constraints.independent(constraints.real, 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Known(self.base_dist.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        p = self.base_dist.base_dist
        low, high = value.chunk(2, -1)
        exact = low == high
        # In the place of ends that are not used stand some that have finite densities and gradients.
        stand_in = p.mean.detach()
        score = p.log_prob(torch.where(exact, low, stand_in))
        between = log_probability(p, torch.where(exact, stand_in - 1, low), torch.where(exact, stand_in + 1, high))
        total: Tensor = torch.where(exact, score, between).sum(-1)
        return total

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn: Tensor = self.base_dist.sample(sample_shape)
        return torch.cat([drawn, drawn], -1)
