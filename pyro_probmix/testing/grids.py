"""Points and weights over a support, over which a density sums to one."""

from __future__ import annotations

__all__ = ["Grid", "as_grid", "grid_over", "total_mass"]

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, biject_to, constraints

_CELLS = 4000
_HIGHEST_COUNT = 2000


@dataclass(frozen=True)
class Grid:
    """Points of a support and the logarithms of their weights.

    Attributes:
        points: ``[N, 1, *event_shape]``, to broadcast with a batch of one dimension, or ``[N, *batch]``.
        log_weights: ``[N, 1]`` or ``[N, *batch]``; zeros where the support is discrete.
        is_ordered: whether the points are numbers that increase.
    """

    points: Tensor
    log_weights: Tensor
    is_ordered: bool = False

    def log_total(self, log_density: Tensor) -> Tensor:
        """Return the logarithm of the mass of densities at the points, ``[N, B]`` to ``[B]``."""
        return torch.logsumexp(log_density + self.log_weights, 0)


def as_grid(points: Tensor, log_weights: Tensor) -> Grid:
    """Return the grid of points ``[N, *event_shape]`` and logarithms of weights, ``[N]``."""
    increasing = points.dim() == 1 and bool((points.diff() > 0).all())
    return Grid(points.unsqueeze(1), log_weights.unsqueeze(1), increasing)


def grid_over(p: Any) -> Grid | None:
    """Return a grid over the support of a distribution, in float64; None where there is none of a reasonable size.

    Finite supports are enumerated, counts go up to 2000, and a univariate continuous support is that of
    :math:`x = b(\\sinh u)` for equally spaced :math:`u`, where b is torch's bijection from the line.

    Args:
        p: with a batch of one dimension.
    """
    if p.has_enumerate_support:
        points = p.enumerate_support(expand=False)  # [N, 1, *event]
        return as_grid(points[:, 0], torch.zeros(len(points), dtype=torch.float64))
    support: Any = p.support
    if len(p.event_shape) > 0:
        return None
    if support.is_discrete:
        low = getattr(support, "lower_bound", None)
        if not isinstance(low, int | float):
            return None
        high = getattr(support, "upper_bound", low + _HIGHEST_COUNT)
        if not isinstance(high, int | float):
            return None
        points = torch.arange(low, high + 1, dtype=torch.float64)
        return as_grid(points, torch.zeros_like(points))
    bounds = [getattr(support, name, 0.0) for name in ("lower_bound", "upper_bound")]
    if any(isinstance(bound, Tensor) and bound.numel() > 1 for bound in bounds):
        return None
    try:
        bijection = biject_to(support)
    except NotImplementedError:
        return None
    reach = 5.0 if support is not constraints.real else 20.0
    u = torch.linspace(-reach, reach, _CELLS + 1, dtype=torch.float64)
    line = torch.sinh(u)
    points = bijection(line)
    log_weights = math.log(2 * reach / _CELLS) + torch.cosh(u).log() + bijection.log_abs_det_jacobian(line, points)
    inside = support.check(points) & log_weights.isfinite() & torch.cat([torch.ones(1), points.diff()]).gt(0)
    return as_grid(points[inside], log_weights[inside])


def total_mass(p: Any, draws: Tensor) -> Tensor | None:
    """Return the integral or sum of a univariate density, or of each coordinate's of a product; None where there is no grid.

    Args:
        p: with any batch shape.
        draws: of it, ``[S, *batch, *event]``; a continuous support gets a grid that is fine where they are.

    Returns:
        ``[*batch, *event]``.
    """
    while isinstance(p, Independent):
        p = p.base_dist
    grid = grid_over(p) if p.support.is_discrete else _grid_around(p, draws)
    if grid is None or p.event_shape:
        return None
    points, log_weights = (
        x.reshape(len(x), *(1,) * (len(p.batch_shape) + 1 - x.dim()), *x.shape[1:])
        for x in (grid.points, grid.log_weights)
    )
    mass: Tensor = (p.log_prob(points) + log_weights).logsumexp(0).exp()
    return mass


def _grid_around(p: Any, draws: Tensor) -> Grid | None:
    if p.event_shape:
        return None
    try:
        bijection = biject_to(p.support)
    except NotImplementedError:
        return None
    line = bijection.inv(draws)
    centre, spread = line.median(0).values, line.std(0).clamp(min=1e-12)
    u = torch.linspace(-5.0, 5.0, _CELLS + 1, dtype=draws.dtype).reshape(-1, *(1,) * centre.dim())
    places = centre + spread * torch.sinh(u)
    points = bijection(places)
    log_weights = math.log(10.0 / _CELLS) + torch.cosh(u).log() + spread.log()
    log_weights = log_weights + bijection.log_abs_det_jacobian(places, points)
    fits = p.support.check(points) & log_weights.isfinite()
    return Grid(torch.where(fits, points, draws[:1]), torch.where(fits, log_weights, -math.inf))
