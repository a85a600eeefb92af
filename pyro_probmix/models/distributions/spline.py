"""A density that is linear between knots, with exponential tails: its distribution function is a monotone spline."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints

__all__ = ["LinearSpline"]

_POSITIVE = constraints.independent(constraints.positive, 1)


class LinearSpline(TorchDistribution):
    r"""The density that is linear between K + 1 knots and falls off exponentially beyond them, without a jump.

    The distribution function is a monotone quadratic spline. It, the quantiles and the moments have closed forms.

    Args:
        knots: increasing, [..., K + 1].
        heights: values of the density at the knots, up to one factor, [..., K + 1].
        tails: the lengths, below the first knot and above the last, over which the density falls by the factor e, [..., 2].

    References:
        Mueller et al., 2019, "Neural importance sampling", section 4.2 (the piecewise-quadratic case).

    Example:
        >>> import torch
        >>> from pyro_probmix.models.distributions.spline import LinearSpline
        >>> hat = LinearSpline(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1e-9, 1.0, 1e-9]), torch.ones(2))
        >>> hat.cdf(torch.tensor(0.0)), hat.variance
        (tensor(0.5000), tensor(0.1667))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "knots": constraints.real_vector,
        "heights": _POSITIVE,
        "tails": _POSITIVE,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, knots: Tensor, heights: Tensor, tails: Tensor, validate_args: bool | None = None) -> None:
        batch_shape = torch.Size(broadcast_shape(knots.shape[:-1], heights.shape[:-1], tails.shape[:-1]))
        self.knots, self.heights, self.tails = (v.expand(*batch_shape, v.shape[-1]) for v in (knots, heights, tails))
        super().__init__(batch_shape, torch.Size(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self.__new__(type(self)) if _instance is None else _instance
        knots, heights, tails = (v.expand(*batch_shape, v.shape[-1]) for v in (self.knots, self.heights, self.tails))
        LinearSpline.__init__(new, knots, heights, tails, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def mirrored(self) -> LinearSpline:
        """The distribution of -y."""
        return LinearSpline(-self.knots.flip(-1), self.heights.flip(-1), self.tails.flip(-1), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        first, last = self.knots[..., 0], self.knots[..., -1]
        start, width, low, high = self._bin(value)
        share = ((value - start) / width).clamp(0, 1)
        inside = (low + (high - low) * share).log()
        below, above = ((first - value) / self.tails[..., 0]), ((value - last) / self.tails[..., 1])
        # At the ends the line has the height of the outermost knot, from which the tail falls.
        found = inside - torch.where(value < first, below, torch.where(value > last, above, torch.zeros_like(below)))
        return found - self._masses().sum(-1).log()

    def cdf(self, value: Tensor) -> Tensor:
        masses = self._masses()
        start, width, low, high = self._bin(value)
        u = torch.minimum((value - start).clamp(min=0), width)
        inside = self._taken(masses.cumsum(-1), value) + u * low + (high - low) * u.square() / (2 * width)
        outside_low = (self.knots[..., 0] - value).clamp(min=0) / self.tails[..., 0]
        outside_high = (value - self.knots[..., -1]).clamp(min=0) / self.tails[..., 1]
        beyond = masses[..., -1] * -torch.expm1(-outside_high)
        below = masses[..., 0] * (-outside_low).exp()
        mass = torch.where(value < self.knots[..., 0], below, inside + beyond)
        return mass / masses.sum(-1)

    def icdf(self, level: Tensor) -> Tensor:
        """The quantiles at levels in [0, 1]."""
        masses = self._masses()
        total, sums = masses.sum(-1), masses.cumsum(-1)
        mass = level * total
        k = self._index(mass, sums[..., 1:-2])
        start, width, low, high = self._cells(k)
        within = mass - self._gathered(sums, k)
        slope = (high - low) / width
        root = (low.square() + 2 * slope * within).clamp(min=torch.finfo(mass.dtype).tiny).sqrt()
        inside = start + (2 * within / (low + root)).clamp(min=0)
        lower = self.knots[..., 0] + self.tails[..., 0] * (mass / masses[..., 0]).clamp(max=1).log()
        left = ((1 - level) * total / masses[..., -1]).clamp(max=1)
        upper = self.knots[..., -1] - self.tails[..., 1] * left.log()
        return torch.where(mass < masses[..., 0], lower, torch.where(mass > sums[..., -2], upper, inside))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        level = torch.rand(shape, dtype=self.knots.dtype, device=self.knots.device)
        eps = torch.finfo(level.dtype).eps
        return self.icdf(level.clamp(eps, 1 - eps))

    @property
    def mean(self) -> Tensor:
        return self._moment(torch.zeros_like(self.knots[..., 0]))[0]

    @property
    def variance(self) -> Tensor:
        mean = self.mean
        return self._moment(mean)[1]

    def _moment(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """First and second moment about a centre, [...]."""
        masses = self._masses()
        total = masses.sum(-1)
        d = self.knots - centre.unsqueeze(-1)
        width, low, rise = self.knots.diff(dim=-1), self.heights[..., :-1], self.heights.diff(dim=-1)
        one = width.square() * (low / 2 + rise / 3)  # of u, the distance from the bin's start
        two = width**3 * (low / 3 + rise / 4)
        mass, start = masses[..., 1:-1], d[..., :-1]
        signed = torch.stack([-self.tails[..., 0], self.tails[..., 1]], -1)
        ends, outer = torch.stack([d[..., 0], d[..., -1]], -1), torch.stack([masses[..., 0], masses[..., -1]], -1)
        first = (start * mass + one).sum(-1) + (outer * (ends + signed)).sum(-1)
        second = (start.square() * mass + 2 * start * one + two).sum(-1)
        second = second + (outer * (ends.square() + 2 * ends * signed + 2 * signed.square())).sum(-1)
        return first / total, second / total

    def _masses(self) -> Tensor:
        """Of the lower tail, the bins and the upper tail, up to one factor, [..., K + 2]."""
        bins = self.knots.diff(dim=-1) * (self.heights[..., 1:] + self.heights[..., :-1]) / 2
        low, high = self.heights[..., :1] * self.tails[..., :1], self.heights[..., -1:] * self.tails[..., 1:]
        return torch.cat([low, bins, high], -1)

    def _bin(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Start, width and the two heights of the bin in which a value is, or the outermost one."""
        return self._cells(self._index(value, self.knots[..., 1:-1]))

    def _cells(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start, end = self._gathered(self.knots, k), self._gathered(self.knots, k + 1)
        return start, end - start, self._gathered(self.heights, k), self._gathered(self.heights, k + 1)

    def _taken(self, sums: Tensor, value: Tensor) -> Tensor:
        return self._gathered(sums, self._index(value, self.knots[..., 1:-1]))

    @staticmethod
    def _index(value: Tensor, inner: Tensor) -> Tensor:
        return (value.unsqueeze(-1) >= inner).sum(-1)

    @staticmethod
    def _gathered(values: Tensor, k: Tensor) -> Tensor:
        k = k.expand(broadcast_shape(k.shape, values.shape[:-1]))
        return values.expand(*k.shape, values.shape[-1]).gather(-1, k.unsqueeze(-1)).squeeze(-1)
