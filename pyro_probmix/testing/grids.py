"""Points and weights over a support, over which a density sums to one."""

from __future__ import annotations

__all__ = ["Grid", "as_grid", "grid_over", "total_mass"]

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, VonMises, biject_to, constraints

_CELLS = 4000  # of a grid around draws of one row
_COARSE, _FINE = 400, 600  # cells of a grid for several distributions: over all of the line, and around each
_PLACES, _WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(5))
_HIGHEST_COUNT, _MOST_COUNTS = 2000, 1_000_000


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
        """The logarithm of the mass of densities at the points, ``[N, B]`` to ``[B]``."""
        return torch.logsumexp(log_density + self.log_weights, 0)


def as_grid(points: Tensor, log_weights: Tensor) -> Grid:
    """The grid of points ``[N, *event_shape]`` and logarithms of weights, ``[N]``."""
    increasing = points.dim() == 1 and bool((points.diff() > 0).all())
    return Grid(points.unsqueeze(1), log_weights.unsqueeze(1), increasing)


def grid_over(p: Any, draws: Tensor | None = None) -> Grid | None:
    r"""A grid over the support of a distribution, in float64; None where there is none of a reasonable size.

    Finite supports are enumerated, and counts go well beyond the draws. A univariate continuous support is mapped to the line
    by torch's bijection, and cut into cells, finest around the draws of each row, with the nodes of Gauss and Legendre in each.

    Args:
        p: with a batch of one dimension.
        draws: ``[S, rows]`` of it and of others over the same support, None where it has none.
    """
    if p.has_enumerate_support:
        points = p.enumerate_support(expand=False)  # [N, 1, *event]
        return as_grid(points[:, 0], torch.zeros(len(points), dtype=torch.float64))
    low, high = _bounds(p.support)
    if p.event_shape or any(isinstance(bound, Tensor) and bound.numel() > 1 for bound in (low, high)):
        return None
    if p.support.is_discrete:
        if low is None:
            return None
        highest = max(_HIGHEST_COUNT, 0 if draws is None else 3 * int(draws.max()))
        high = int(low) + min(highest, _MOST_COUNTS) if high is None else int(high)
        points = torch.arange(int(low), high + 1, dtype=torch.float64)
        return as_grid(points, torch.zeros_like(points))
    if isinstance(p, VonMises):
        return _circle()
    bijection = _to_support(p.support)
    if bijection is None:
        return None
    edges = torch.sinh(torch.linspace(-1, 1, _COARSE + 1, dtype=torch.float64) * _reach(p.support))
    if draws is not None:
        centre, spread = _middle(bijection.inv(draws.double()))
        around = torch.sinh(torch.linspace(-4, 4, _FINE + 1, dtype=torch.float64)).unsqueeze(1)
        edges = torch.cat([edges, (centre + spread * around).flatten()]).sort().values
    widths = edges.diff()
    line = (edges[:-1] + widths / 2).unsqueeze(1) + widths.unsqueeze(1) / 2 * _PLACES
    line, log_weights = line.flatten(), (widths.unsqueeze(1) / 2 * _WEIGHTS).flatten().log()
    points = bijection(line)
    log_weights = log_weights + bijection.log_abs_det_jacobian(line, points)
    inside = _inside(p.support, points) & log_weights.isfinite() & torch.cat([torch.ones(1), points.diff()]).gt(0)
    return as_grid(points[inside], log_weights[inside])


def _bounds(support: Any) -> tuple[Any, Any]:
    return getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)


def _to_support(support: Any) -> Any:
    """torch's bijection from the line, or None."""
    try:
        return biject_to(support)
    except NotImplementedError:
        return None


def _reach(support: Any) -> float:
    """How far sinh goes, from which a tail such as Cauchy's has no mass to speak of; elsewhere the bijection has a tail."""
    return 20.0 if support is constraints.real else 5.0


def _inside(support: Any, points: Tensor) -> Tensor:
    """Where points are in the support, and on none of its bounds, to which rounding may carry them."""
    inside: Tensor = support.check(points)
    low, high = _bounds(support)
    inside = inside if low is None else inside & (points > low)
    return inside if high is None else inside & (points < high)


def _circle() -> Grid:
    """Of angles, whose support torch takes for the line."""
    points = torch.arange(-360, 360, dtype=torch.float64) * (math.pi / 360)
    return as_grid(points, torch.full_like(points, math.log(math.pi / 360)))


def _middle(line: Tensor) -> tuple[Tensor, Tensor]:
    """A middle and a spread of draws on the line, ``[S, ...]``, which few far ones do not decide."""
    low, centre, high = line.nanquantile(torch.tensor([0.1, 0.5, 0.9], dtype=line.dtype), dim=0)
    return centre, ((high - low) / 2).clamp(min=1e-12)


def total_mass(p: Any, draws: Tensor) -> Tensor | None:
    """The integral or sum of a univariate density, or of each coordinate's of a product; None where there is no grid.

    Args:
        p: with any batch shape.
        draws: of it, ``[S, *batch, *event]``; a continuous support gets a grid that is fine where they are.

    Returns:
        ``[*batch, *event]``.
    """
    while isinstance(p, Independent):
        p = p.base_dist
    grid = grid_over(p, draws) if p.support.is_discrete else _grid_around(p, draws)
    if grid is None or p.event_shape:
        return None
    points, log_weights = (
        x.reshape(len(x), *(1,) * (len(p.batch_shape) + 1 - x.dim()), *x.shape[1:])
        for x in (grid.points, grid.log_weights)
    )
    mass: Tensor = (p.log_prob(points) + log_weights).logsumexp(0).exp()
    for point in getattr(p.support, "points", ()):  # each with a probability of its own
        mass = mass + p.log_prob(torch.full_like(mass, point)).exp()
    return mass


def _grid_around(p: Any, draws: Tensor) -> Grid | None:
    if isinstance(p, VonMises):
        return _circle()
    bijection = None if p.event_shape else _to_support(p.support)
    if bijection is None:
        return None
    draws = draws.to(torch.float64)
    line = bijection.inv(draws)
    centre, spread = _middle(line.where(line.isfinite(), torch.nan))  # but for draws of points with a probability
    reach = _reach(p.support)
    u = torch.linspace(-reach, reach, _CELLS + 1, dtype=draws.dtype).reshape(-1, *(1,) * centre.dim())
    places = centre + spread * torch.sinh(u)
    points = bijection(places)
    log_weights = math.log(2 * reach / _CELLS) + torch.cosh(u).log() + spread.log()
    log_weights = log_weights + bijection.log_abs_det_jacobian(places, points)
    fits = _inside(p.support, points) & log_weights.isfinite()
    return Grid(torch.where(fits, points, draws[:1]), torch.where(fits, log_weights, -math.inf))
