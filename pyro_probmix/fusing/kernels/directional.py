"""Label kernels on the circle and on the sphere, where a convex combination of two labels is no label."""

from __future__ import annotations

__all__ = ["Angles", "CircularKernel", "Directions", "SphericalKernel"]

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from scipy.special import ive
from torch import Tensor
from torch.distributions import Distribution, VonMises

from pyro_probmix.fusing.kernels.kernels import Kernel, Partners, all_labels, mixed_labels
from pyro_probmix.fusing.kernels.spread import check_spread, checked_beta, trailing
from pyro_probmix.pooling.expectation import register_expected_log_prob
from pyro_probmix.pooling.weights import Beta


class CircularKernel(Kernel):
    r"""The von Mises distribution around an angle, pooled log-linearly: labels are mixed along the circle.

    With :math:`m = \lambda e^{\mathrm{i} y_i} + (1 - \lambda) e^{\mathrm{i} y_j}`,

    .. math:: g^y_\lambda = \mathrm{VonMises}(\arg m,\; |m| / \beta)

    so that the label half way between 3.1 and -3.1 is :math:`\pi`, and it is spread the wider, the farther the labels lie
    apart. Where :math:`\beta = 0` it is the point :math:`\arg m`; of two opposite labels of equal weight, which have no
    middle, the row's own label.

    Args:
        beta: the inverse concentration, at least 0, nearly a variance in squared units of the label; a tensor broadcasts over
            the batch (``[R, 1]``: one value a replica), belongs on the labels' device and may hold zeros.
        period: length of the circle in units of the label, 24 for hours of the day, say. Draws are in
            [-period/2, period/2).

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch, or if the period is not positive.

    References:
        Mardia and Jupp, 2000, Directional Statistics, section 3.5.4, eq. (3.5.17).

    Example:
        >>> kernel = CircularKernel()
        >>> kernel.pooled(torch.tensor([3.0]), torch.tensor([-3.2]), torch.tensor([0.5]), event_dim=0).sample()
        tensor([3.0416])
    """

    def __init__(self, beta: float | Tensor = 0.0, period: float = 2 * math.pi) -> None:
        if not isinstance(period, int | float) or not 0 < period < math.inf:
            raise ValueError(
                f"CircularKernel got period={period!r}, expected a positive number. Try period=2 * math.pi."
            )
        self.beta = checked_beta(beta)
        self.period = period

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        radians = 2 * math.pi / self.period
        # Seen from the own label, at angle 0: exact where that is all there is, and the middle where there is none. One that
        # is missing may have no weight.
        labels_of_rows = all_labels(y, partner)
        for label in labels_of_rows[1:]:
            y = torch.where(y.isfinite(), y, label)
        turns = [(label - y) * radians for label in labels_of_rows]
        sine, cosine = (mixed_labels([part(t) for t in turns], weight, event_dim) for part in (torch.sin, torch.cos))
        check_spread(self.beta, sine.shape[: sine.dim() - event_dim])
        angle = y + torch.atan2(sine, cosine) / radians
        angle = angle - self.period * ((angle + self.period / 2) / self.period).floor()
        if not isinstance(self.beta, Tensor) and self.beta == 0:
            return dist.Delta(angle, event_dim=event_dim)
        concentration = _concentration(torch.hypot(sine, cosine), self.beta, event_dim, radians)
        labels: Any = Angles(angle, concentration, self.period)
        events: Distribution = labels.to_event(event_dim)
        return events


class SphericalKernel(Kernel):
    r"""The von Mises-Fisher distribution around a unit vector, pooled log-linearly: labels are mixed along the sphere.

    With :math:`m = \lambda y_i + (1 - \lambda) y_j`,

    .. math:: g^y_\lambda(\tilde y) \propto \exp(m^\top \tilde y / \beta)

    Where :math:`\beta = 0` it is the point :math:`m / |m|`; of two opposite labels of equal weight, which have no middle, the
    row's own label.

    Args:
        beta: the inverse concentration, at least 0, nearly the variance in each direction; a tensor broadcasts over the
            batch (``[R, 1]``: one value a replica), belongs on the labels' device and may hold zeros.

    Raises:
        TypeError: if beta is no number or tensor.
        ValueError: if beta is negative or not finite, or does not broadcast with the batch, or if labels are no unit vectors.

    References:
        Mardia and Jupp, 2000, Directional Statistics, section 9.3.2.

    Example:
        >>> y, partner = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
        >>> SphericalKernel().pooled(y, partner, torch.tensor([0.5]), event_dim=1).sample()
        tensor([[0.7071, 0.7071, 0.0000]])
    """

    def __init__(self, beta: float | Tensor = 0.0) -> None:
        self.beta = checked_beta(beta)

    def pooled(self, y: Tensor, partner: Partners, weight: Tensor, event_dim: int) -> Distribution:
        if dist.is_validation_enabled() and not bool(constraints.sphere.check(y).all()):
            raise ValueError("Labels must be vectors of length 1, got others. Try y / y.norm(dim=-1, keepdim=True).")
        mean = mixed_labels(all_labels(y, partner), weight, event_dim)
        check_spread(self.beta, mean.shape[: mean.dim() - event_dim])
        length = mean.norm(dim=-1, keepdim=True)
        direction = torch.where(length > 0, mean / length.masked_fill(length == 0, 1.0), y.to(mean))
        if not isinstance(self.beta, Tensor) and self.beta == 0:
            return dist.Delta(direction, event_dim=event_dim)
        labels: Any = Directions(direction, _concentration(length.squeeze(-1), self.beta, event_dim - 1))
        events: Distribution = labels.to_event(event_dim - 1)
        return events


class Angles(TorchDistribution):
    r"""The von Mises distribution on a circle of any length, whose concentration may be infinite: there it is a point.

    .. math:: p(y) \propto \exp(\kappa \cos(2 \pi (y - \mu) / P))

    Args:
        loc: the mode mu, in [-P/2, P/2).
        concentration: kappa in [0, inf], of the shape of ``loc``.
        period: the length P of the circle.
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.nonnegative}  # noqa: RUF012 (torch's attribute)
    support = constraints.real

    def __init__(
        self, loc: Tensor, concentration: Tensor, period: float = 2 * math.pi, validate_args: bool | None = None
    ) -> None:
        self.loc, self.concentration = torch.broadcast_tensors(loc, concentration)
        self.period = period
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Angles:
        return Angles(self.loc.expand(batch_shape), self.concentration.expand(batch_shape), self.period, False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            concentration = self.concentration.expand((*sample_shape, *self.batch_shape))
            angle = 2 * (_drop_of_cosine(concentration, 2) / 2).clamp(max=1).sqrt().asin()
            side = torch.rand_like(angle) < 0.5
            draw: Tensor = self.loc + torch.where(side, angle, -angle) * (self.period / (2 * math.pi))
            return (draw - self.period * ((draw + self.period / 2) / self.period).floor()).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        drop = 1 - torch.cos((value - self.loc) * (2 * math.pi / self.period))
        return _log_density(drop, self.concentration, 2) + math.log(2 * math.pi / self.period)


class Directions(TorchDistribution):
    r"""The von Mises-Fisher distribution on the sphere of any dimension, whose concentration may be infinite: a point.

    .. math:: p(y) \propto \exp(\kappa\, \mu^\top y)

    Args:
        direction: the unit vector mu, [..., d], d at least 2.
        concentration: kappa in [0, inf], [...].
    """

    arg_constraints = {"direction": constraints.sphere, "concentration": constraints.nonnegative}  # noqa: RUF012 (likewise)
    support = constraints.sphere

    def __init__(self, direction: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(direction.shape[:-1], concentration.shape)
        self.direction = direction.expand((*batch_shape, -1))
        self.concentration = concentration.expand(batch_shape)
        super().__init__(batch_shape, direction.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Directions:
        return Directions(self.direction.expand((*batch_shape, -1)), self.concentration.expand(batch_shape), False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            drop = _drop_of_cosine(self.concentration.expand(shape), self.event_shape[0]).unsqueeze(-1)
            direction = self.direction.expand((*shape, -1))
            aside = torch.randn_like(direction)
            aside = aside - (aside * direction).sum(-1, keepdim=True) * direction
            aside = aside / aside.norm(dim=-1, keepdim=True)
            draw = (1 - drop) * direction + (drop * (2 - drop)).clamp(min=0).sqrt() * aside
            unit: Tensor = draw / draw.norm(dim=-1, keepdim=True)
            return unit.detach()

    def log_prob(self, value: Tensor) -> Tensor:
        return _log_density(1 - (self.direction * value).sum(-1), self.concentration, self.event_shape[0])


def _concentration(length: Tensor, beta: float | Tensor, dims: int, radians: float = 1.0) -> Tensor:
    """The pooled concentration; infinite where beta is zero."""
    if isinstance(beta, Tensor):
        beta = trailing(beta, dims).to(length)
        return torch.where(beta > 0, length / (radians**2 * torch.where(beta > 0, beta, 1.0)), math.inf)
    return length / (radians**2 * beta)


# Proposals for each draw, of which each is accepted with probability 0.65 or more: all are refused once in 10^14 draws.
# A loop until the last draw is accepted would wait for the device.
_PROPOSALS = 32


def _drop_of_cosine(concentration: Tensor, d: int) -> Tensor:
    """Draws of 1 - cos of the angle to the mode, by Ulrich's rejections as corrected by Wood (1994), to no loss of digits."""
    m = d - 1
    root = (4 * concentration.square() + m**2).sqrt()
    b = m / (2 * concentration + root)
    slope = m / (2 + (4 + (m / concentration).square()).sqrt())  # concentration * b, also at infinity
    shape_parameter = torch.full_like(b, m / 2)
    z = Beta(shape_parameter, shape_parameter, validate_args=False).sample((_PROPOSALS,))
    q = z / (1 - (1 - b) * z)
    log_ratio = 2 * slope * (1 / (1 + b) - q) + m * torch.log((1 + b) / 2 * (1 + (1 - b) * q))
    accepted = log_ratio >= -torch.empty_like(z).exponential_()
    first = accepted.to(torch.uint8).argmax(0, keepdim=True)
    return (2 * b * q).gather(0, first).squeeze(0)


def _log_density(drop: Tensor, concentration: Tensor, d: int) -> Tensor:
    """The log density on the unit sphere of d dimensions, at 1 - cos of the angle to the mode; that of a point is 0 there."""
    is_point = concentration.isinf()
    finite = torch.where(is_point, 1.0, concentration).clamp(min=1e-6)
    order = d / 2 - 1
    log_bessel = torch.special.i0e(finite).log() if d == 2 else _log_bessel(order, finite)
    log_density = order * finite.log() - d / 2 * math.log(2 * math.pi) - log_bessel - finite * drop
    return torch.where(is_point, torch.where(drop.abs() <= 1e-6, 0.0, -math.inf), log_density)


def _log_bessel(order: float, x: Tensor) -> Tensor:
    """The log of the exponentially scaled modified Bessel function of the first kind, with its first derivative."""
    at = x.detach().cpu().numpy()
    scaled = ive(order, at)
    slope = torch.as_tensor(ive(order + 1, at) / scaled + order / at - 1).to(x)
    return torch.as_tensor(scaled).to(x).log() + slope * (x - x.detach())


@register_expected_log_prob(VonMises, Angles)
def _angle(p: VonMises, labels: Angles) -> Tensor:
    # E[cos(y - mu)] = A cos(m - mu), with A = I_1 / I_0.
    finite = torch.where(labels.concentration.isinf(), 0.0, labels.concentration)
    shrinkage = torch.where(labels.concentration.isinf(), 1.0, torch.special.i1e(finite) / torch.special.i0e(finite))
    at_mode: Tensor = p.log_prob(labels.loc)
    return at_mode - p.concentration * (1 - shrinkage) * torch.cos(labels.loc - p.loc)


@register_expected_log_prob(dist.VonMises3D, Directions)
def _direction(p: Any, labels: Directions) -> Tensor:
    # E[y] = A m, with A = coth(kappa) - 1 / kappa.
    small = labels.concentration < 1e-2
    kappa = torch.where(small, 1.0, labels.concentration)
    shrinkage = torch.where(small, labels.concentration / 3, 1 / kappa.tanh() - 1 / kappa)
    expected: Tensor = p.log_prob(labels.direction) - (1 - shrinkage) * (p.concentration * labels.direction).sum(-1)
    return expected
