"""Quantiles of a mixture in a fixed number of steps, as an exported program finds them."""

from __future__ import annotations

__all__ = ["fixed_step_quantiles"]

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_probmix.inference.export.marginals import Marginal

#: Parts into which a bracket is cut at a step: the more, the fewer steps are in the program, and the more it computes.
PARTS = 8
#: Steps: a bracket that is 10^9 times as wide as the narrowest component is then narrow beside that, 1 / 64 of it.
CUTS = 12
#: Steps of Newton's method after them, each of which doubles the digits.
POLISHES = 3
#: Steps with integers: a bracket of up to 2^36 ends at one of them.
CUTS_OF_INTEGERS = 12


def fixed_step_quantiles(
    components: Marginal, mixed: int, levels: Sequence[float], mean: Tensor, std: Tensor
) -> Tensor:
    r"""The quantiles :math:`\inf\{y : F(y) \ge q\}` of an equally weighted mixture, by the same steps whatever the numbers.

    A quantile lies within :math:`\mu - \sigma \sqrt{(1 - q) / q}` and :math:`\mu + \sigma \sqrt{q / (1 - q)}` (Cantelli). That
    bracket is cut and cut again, and what is left is polished by Newton's method.

    Args:
        components: over [*mixed, *batch].
        mixed: number of dims that are mixed over.
        levels: L numbers in [0, 1].
        mean, std: of the mixture, [*batch].

    Returns:
        [*batch, L].

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_probmix.inference.export.marginals import marginal_of
        >>> two = marginal_of(dist.Normal(torch.tensor([[-2.0], [2.0]]).double(), 1.0))
        >>> mean, std = torch.zeros(1).double(), torch.full((1,), 5**0.5).double()
        >>> fixed_step_quantiles(two, 1, [0.0, 0.75], mean, std)[0].round(decimals=2)
        tensor([-inf, 2.], dtype=torch.float64)
    """
    inner = [k for k, q in enumerate(levels) if 0 < q < 1]
    found = {k: torch.full_like(mean, components.ends[0 if q <= 0 else 1]) for k, q in enumerate(levels)}
    if inner:
        solve = _integer if components.discrete else _real
        solved = solve(_Excess(components, mixed, [levels[k] for k in inner], mean, std))
        found |= dict(zip(inner, solved.unbind(0), strict=True))
    return torch.stack([found[k] for k in range(len(levels))], -1)


class _Excess:
    """F - q of a mixture at points [..., L, *batch], and brackets [L, *batch] of where it is zero.

    Above the median it is taken from the upper tail.
    """

    def __init__(self, components: Marginal, mixed: int, levels: Sequence[float], mean: Tensor, std: Tensor) -> None:
        self.components, self.mixed, self.levels, self.batch = components, mixed, levels, mean.dim()

        def numbers(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=mean.dtype).reshape(-1, *(1,) * mean.dim())

        self.sign = numbers([1.0 if q > 0.5 else -1.0 for q in levels])
        self.outside = numbers([min(q, 1 - q) for q in levels])
        self.low = mean - std * numbers([math.sqrt((1 - q) / q) for q in levels])
        self.high = mean + std * numbers([math.sqrt(q / (1 - q)) for q in levels])

    def beside(self, y: Tensor) -> Tensor:
        """Points with dims for the components that are mixed."""
        return y[(..., *(None,) * self.mixed, *(slice(None),) * self.batch)]

    def mixture(self, of_components: Tensor) -> Tensor:
        dims = tuple(range(-self.batch - self.mixed, -self.batch))
        return of_components.mean(dims)

    def __call__(self, y: Tensor) -> Tensor:
        tail = self.components.tail(self.beside(y), self.beside(self.sign))
        return self.sign * (self.outside - self.mixture(tail))


def _real(excess: _Excess) -> Tensor:
    low, high, components = excess.low, excess.high, excess.components
    if components.icdf is not None:  # the mixture's quantile lies between the components'
        each = torch.stack([components.icdf(level) for level in excess.levels]).flatten(1, excess.mixed)
        low, high = torch.maximum(low, each.amin(1)), torch.minimum(high, each.amax(1))
    if components.ends != (-math.inf, math.inf):
        low, high = low.clamp(*components.ends), high.clamp(*components.ends)
    # Of positive values the logarithm is looked for: a quantile may be smaller than the mean by any power of ten.
    positive = components.ends == (0.0, math.inf)
    if positive:
        low, high = (end.clamp(min=torch.finfo(end.dtype).tiny).log() for end in (low, high))
    value: Callable[[Tensor], Tensor] = torch.exp if positive else lambda u: u
    inside = torch.arange(1, PARTS, dtype=low.dtype).reshape(-1, *(1,) * low.dim()) / PARTS
    width = high - low
    for _ in range(CUTS):
        short = (excess(value(torch.addcmul(low, width, inside))) < 0).sum(0)
        width = width / PARTS
        low = torch.addcmul(low, width, short)
    high, u = low + width, low + width / 2
    for _ in range(POLISHES):
        y = value(u)
        over, slope = excess(y), excess.mixture(components.log_prob(excess.beside(y)).exp())
        low, high = torch.where(over >= 0, low, u), torch.where(over >= 0, u, high)
        step = u - over / (slope * y if positive else slope)
        u = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return _at_ends(excess, value(u))


def _at_ends(excess: _Excess, y: Tensor) -> Tensor:
    """The quantiles, with the ends of the support, which may have a probability of their own."""
    least, most = excess.components.ends
    if math.isfinite(least):
        end = torch.full_like(y, least)
        y = torch.where(excess(end) >= 0, end, y)
    if math.isfinite(most):
        before = torch.full_like(y, math.nextafter(most, -math.inf))
        y = torch.where(excess(before) < 0, most, y)
    return y


def _integer(excess: _Excess) -> Tensor:
    least, most = excess.components.ends
    low = excess.low.floor().clamp(min=least) - 1  # where F is below q
    high = torch.maximum(excess.high.ceil().clamp(max=most), low + 1)  # where it has reached it
    inside = torch.arange(1, PARTS, dtype=low.dtype).reshape(-1, *(1,) * low.dim()) / PARTS
    for _ in range(CUTS_OF_INTEGERS):
        points = torch.addcmul(low, high - low, inside).floor()
        reached = excess(points) >= 0
        high = torch.where(reached, points, high).amin(0)
        low = torch.where(reached, low, points).amax(0)
    return high
