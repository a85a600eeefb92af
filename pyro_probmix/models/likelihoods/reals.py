"""Heads of real responses: Gaussian, Student's t, mixtures of them, and a spline."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_probmix.models.distributions.mixtures import GaussianMixture as GaussianMixtureDensity
from pyro_probmix.models.distributions.mixtures import StudentTMixture as StudentTMixtureDensity
from pyro_probmix.models.distributions.spline import LinearSpline
from pyro_probmix.models.distributions.student import StudentT as StudentTDensity
from pyro_probmix.models.layers.scales import scale_map
from pyro_probmix.models.likelihoods.base import FLOOR, Likelihood, components, positive

__all__ = ["Gaussian", "GaussianMixture", "HomoscedasticGaussian", "Spline", "StudentT", "StudentTMixture"]


class Gaussian(Likelihood):
    r"""Head of a heteroscedastic Gaussian likelihood, :math:`\mathcal{N}(\mu(x), \sigma^2(x))`.

    Args:
        in_features, num_outputs, replicas: see :class:`Likelihood`.
        scale: the map of the scale, a name in ``SCALES``: ``"softplus"``, or ``"exp"``, where the features give the log of
            the variance.
        floor: added to the scale, at least 0.

    Raises:
        ValueError: for an unknown map or a negative floor.
    """

    parameters_per_output = 2

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 1,
        replicas: int | None = None,
        *,
        scale: str = "softplus",
        floor: float = FLOOR,
    ) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.scale, self.floor = scale_map("Gaussian", scale, floor), float(floor)

    def density(self, raw: Tensor) -> Any:
        loc, scale = raw.chunk(2, -1)
        return dist.Normal(loc, self.scale(scale) + self.floor).to_event(1)


class HomoscedasticGaussian(Likelihood):
    r"""Head of a Gaussian likelihood with one learnt scale for each output, :math:`\mathcal{N}(\mu(x), \sigma^2)`."""

    def __init__(self, in_features: int, num_outputs: int = 1, replicas: int | None = None) -> None:
        super().__init__(in_features, num_outputs, replicas)
        self.raw_scale = nn.Parameter(torch.zeros(*(() if replicas is None else (replicas, 1)), num_outputs))

    def density(self, raw: Tensor) -> Any:
        return dist.Normal(raw, positive(self.raw_scale)).to_event(1)


class StudentT(Likelihood):
    r"""Head of a Student's t likelihood: location, scale, degrees of freedom above 2, at first near 18.

    At first it is near a Gaussian: what a few steps fit, where noise is all there is to learn, has no heavier tails than that.
    """

    parameters_per_output = 3

    def density(self, raw: Tensor) -> Any:
        loc, scale, df = raw.chunk(3, -1)
        return StudentTDensity(_degrees(df), loc, positive(scale)).to_event(1)


class GaussianMixture(Likelihood):
    r"""Head of a mixture of 3 Gaussians for each response, :math:`\sum_k \pi_k(x)\, \mathcal{N}(\mu_k(x), \sigma_k^2(x))`.

    At first the components have locations that differ, so that they part.

    References:
        Bishop, 1994, "Mixture density networks".
    """

    num_components = 3
    parameters_per_output = 3 * num_components

    def density(self, raw: Tensor) -> Any:
        logits, loc, scale = components(raw, (self.num_components,) * 3)
        return GaussianMixtureDensity(logits, loc + _apart(loc), positive(scale)).to_event(1)


class StudentTMixture(Likelihood):
    """Head of a mixture of 2 Student's t distributions for each response, each with more than 2 degrees of freedom."""

    num_components = 2
    parameters_per_output = 4 * num_components

    def density(self, raw: Tensor) -> Any:
        logits, loc, scale, df = components(raw, (self.num_components,) * 4)
        return StudentTMixtureDensity(logits, _degrees(df), loc + _apart(loc), positive(scale)).to_event(1)


class Spline(Likelihood):
    r"""Head of a density that is linear between 9 knots, with exponential tails: any shape, with one mode or several.

    The knots lie in the location plus and minus 3 scales; their distances, the heights of the density there and the lengths
    of the tails are learnt. At first it is near a Gaussian. The distribution function is a monotone spline, and it, the
    quantiles and the moments have closed forms, see :class:`~pyro_probmix.models.distributions.spline.LinearSpline`.
    """

    bins, reach = 8, 3.0
    parameters_per_output = 2 + bins + (bins + 1) + 2

    def density(self, raw: Tensor) -> Any:
        loc, scale, widths, heights, tails = components(raw, (1, 1, self.bins, self.bins + 1, 2))
        scale = positive(scale)
        share = FLOOR + (1 - self.bins * FLOOR) * widths.softmax(-1)
        inner = 2 * self.reach * share.cumsum(-1) - self.reach
        knots = loc + scale * torch.cat([torch.full_like(inner[..., :1], -self.reach), inner], -1)
        even = torch.linspace(-self.reach, self.reach, self.bins + 1, dtype=raw.dtype, device=raw.device)
        # Bounded, so that no height is without a gradient or infinite.
        logs = 8 * (heights / 8).tanh() - even.square() / 2
        return dist.Independent(LinearSpline(knots, logs.exp(), scale * (softplus(tails - 1.0) + 10 * FLOOR)), 1)


def _degrees(raw: Tensor) -> Tensor:
    """Degrees of freedom above 2, near 18 at raw 0, that grow slowly where they are few and fast where tails hardly matter."""
    u = softplus(raw + 7.0)
    return 2 + FLOOR + u * (1 + (u / 6).square())


def _apart(loc: Tensor) -> Tensor:
    """Where the components' locations are at first, in units of the standardised response, [K]."""
    k = loc.shape[-1]
    return torch.arange(k, dtype=loc.dtype, device=loc.device) * (1.0 / k) - (k - 1) / (2.0 * k)
