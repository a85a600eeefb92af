"""Adaptive integration of a batch of one-dimensional densities, differentiable in their parameters."""

from __future__ import annotations

__all__ = ["LineMap", "Quadrature"]

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_probmix.pooling.integrals.mesh import insert, spread

_NODES = 6  # Gauss-Legendre nodes in each cell
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(_NODES)
_DRIFT = 0.1  # cells for each unit of the coordinate, at least
_BACKGROUND = 48  # cells to start from
_OFFSETS = (-16.0, -4.0, -1.0, 0.0, 1.0, 4.0, 16.0)  # edges to start from, in a landmark's width from it
_NEWTON = 5  # steps to invert the distribution function within a cell, from linear interpolation


class LineMap:
    r"""A map from the real line onto an interval, half-line or line, under which power tails become exponential.

    With bounds :math:`a, b`, the coordinate *v* stands for :math:`u = c + s \sinh v` and

    .. math:: x = u, \quad x = a + e^u, \quad x = b - e^{-u}, \quad\text{or}\quad x = a + (b - a)\,\sigma(u).

    Args:
        lower, upper: bounds of the support, tensors of the shape of the batch, infinite in rows that have none, or None
            where no row has; gradients pass through.
        centre, spread: a point and a length, batch-shaped, roughly where and how wide the density is.
    """

    def __init__(self, lower: Tensor | None, upper: Tensor | None, centre: Tensor, spread: Tensor) -> None:
        none = torch.zeros_like(centre, dtype=torch.bool)
        self.lower, self.upper = lower, upper
        self.moves = any(bound is not None and bound.requires_grad for bound in (lower, upper))
        self._below = none if lower is None else lower.isfinite()
        self._above = none if upper is None else upper.isfinite()
        self._bounded = self._below | self._above
        info = torch.finfo(centre.dtype)
        self._eps = info.eps
        self.centre, self.spread = centre, spread
        self.limit = torch.full_like(centre, 0.4 * math.log(info.max))  # squares of x stay finite
        if lower is not None or upper is not None:
            on_line = self._to_line(centre).nan_to_num(0.0, 0.0, 0.0).detach()
            self.centre = torch.where(self._bounded, on_line, centre)
            self.spread = torch.where(self._bounded, 1.0, spread)
            inner = math.asinh(0.35 * math.log(info.max))  # x and 1/x stay finite
            self.limit = torch.where(self._bounded, inner, self.limit)

    def to_v(self, x: Tensor) -> Tensor:
        """The coordinate of a point of the support, within the limits."""
        v = torch.asinh((self._to_line(x) - self.centre) / self.spread)
        return torch.minimum(torch.maximum(v, -self.limit), self.limit)

    def to_x(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The point at a coordinate, and log dx/dv."""
        stretched = torch.sinh(v)  # whose square is finite within the limits
        u = self.centre + self.spread * stretched
        log_slope = self.spread.log() + 0.5 * torch.log1p(stretched.square())
        if self.lower is None and self.upper is None:
            return u, log_slope
        x, inner = u, torch.where(self._bounded, u, 0.0)  # whose exponential is finite
        log_slope = log_slope + (torch.where(self._below, inner, 0.0) - torch.where(self._above, inner, 0.0))
        if self.lower is not None:
            x = torch.where(self._below, self.lower + torch.exp(inner), x)
        if self.upper is not None:
            x = torch.where(self._above, self.upper - torch.exp(-inner), x)
        if self.lower is not None and self.upper is not None:
            both = self._below & self._above
            width = torch.where(both, self.upper - self.lower, 1.0)
            fraction = torch.sigmoid(inner).clamp(torch.finfo(u.dtype).tiny, 1 - self._eps)
            x = torch.where(both, self.lower + width * fraction, x)
            log_slope = log_slope + torch.where(both, width.log() + F.logsigmoid(inner) + F.logsigmoid(-inner), 0.0)
        return x, log_slope

    def _to_line(self, x: Tensor) -> Tensor:
        if self.lower is None and self.upper is None:
            return x
        below = 0.0 if self.lower is None else torch.where(self._below, x - self.lower, 1.0).log()
        above = 0.0 if self.upper is None else torch.where(self._above, self.upper - x, 1.0).log()
        return torch.where(self._bounded, below - above, x)


class Quadrature:
    r"""Normalising constant, moments, distribution function and quantiles of an unnormalised density.

    The line is cut into cells, narrow where the density is large or changes fast (see
    :func:`~pyro_probmix.pooling.integrals.mesh.spread`), and each cell gets Gauss-Legendre nodes. Cells and nodes are
    chosen without gradient; what is integrated over them has the gradient of the density.

    For pools of two Student's t, Cauchy, Laplace or Gumbel densities log Z is within 1e-6 in double precision where their
    scales are in a ratio of up to a thousand, and within 1e-9 in half of such cases.

    Args:
        log_density: maps points ``[n, *batch_shape]`` to the unnormalised log density, -inf outside the support.
        line: the map of the support, its tensors of the shape of the batch.
        centres, widths: landmarks ``[k, *batch_shape]``: points near which the density may be narrow, and how narrow.
        kinks: points ``[m, *batch_shape]`` to cut at. Points outside the support do no harm.
        rounds: how often the cells are chosen again.
        fineness: multiplies the number of cells.
        bounded_slopes: whether the log density has finite slopes in its parameters wherever it is finite, so that it need
            not be kept away from points of negligible density.
    """

    def __init__(
        self,
        log_density: Callable[[Tensor], Tensor],
        line: LineMap,
        centres: Tensor,
        widths: Tensor,
        kinks: Tensor,
        rounds: int = 2,
        fineness: int = 1,
        bounded_slopes: bool = False,
    ) -> None:
        self._log_density, self._line = log_density, line
        once, with_grad = bounded_slopes and not line.moves, torch.is_grad_enabled()
        with torch.no_grad():
            edges = self._cut(centres, widths, kinks, rounds, fineness * min(12 + 8 * len(centres), 160))
            edges = edges.detach()  # as a traced step needs to be told, which does not know of `no_grad`
            self._edges = edges.movedim(-1, 0)
            nodes, cells = _gauss_legendre(edges[..., :-1], edges[..., 1:], dim=-1)
            nodes, cells = (t.flatten(-2).movedim(-1, 0) for t in (nodes, cells))
            points, log_slopes = (t.detach() for t in line.to_x(nodes))
            with torch.set_grad_enabled(once and with_grad):
                densities = log_density(points)
            scores = _finite(densities.detach() + log_slopes)
            best = scores.max(0)
            at_best = best.indices.unsqueeze(0)
            self._mode = nodes.gather(0, at_best)[0]
            # A density this small counts for nothing, but its logarithm may have slopes that overflow.
            self._floor = best.values + 2 * math.log(torch.finfo(nodes.dtype).eps)
            self._ends = torch.stack([scores[0], scores[-1]]), torch.stack([nodes[0], nodes[-1]])
            self._points = points
            log_masses = scores + cells.log()
            negligible = scores <= self._floor
        if once:
            log_masses = (densities + (log_slopes + cells.log())).masked_fill(negligible, -torch.inf)
        elif with_grad:
            if line.moves:
                with torch.enable_grad():
                    points, log_slopes = line.to_x(torch.where(negligible, self._mode, nodes))
            else:
                points = torch.where(negligible, points.gather(0, at_best), points)
            log_masses = log_density(points) + (log_slopes + cells.log()).masked_fill(negligible, -torch.inf)
        self.log_normalizer = log_masses.logsumexp(0)
        self._log_masses = log_masses

    @cached_property
    def _masses(self) -> Tensor:
        with torch.set_grad_enabled(self._log_masses.requires_grad):  # what is kept may be asked for first without it
            return (self._log_masses - self.log_normalizer).exp()

    @cached_property
    def _levels(self) -> Tensor:
        with torch.set_grad_enabled(self._log_masses.requires_grad):
            levels = self._masses.unflatten(0, (-1, _NODES)).sum(1).cumsum(0)
            return torch.cat([torch.zeros_like(levels[:1]), levels])

    def mean(self) -> Tensor:
        """The mean, NaN where its integral does not converge."""
        mean = (self._masses * self._points).sum(0)
        return torch.where(self._converges(1), mean, torch.nan)

    def variance(self) -> Tensor:
        """The variance, infinite where its integral does not converge, NaN where the mean's does not."""
        mean = self.mean()
        variance = (self._masses * (self._points - mean).square()).sum(0)
        return torch.where(self._converges(2), variance, torch.where(mean.isnan(), torch.nan, torch.inf))

    def cdf(self, x: Tensor) -> Tensor:
        """The mass below points ``[*sample_shape, *batch_shape]``."""
        return self._mass_below(self._line.to_v(x))

    def icdf(self, level: Tensor) -> Tensor:
        """The points below which the mass ``[*sample_shape, *batch_shape]`` lies, without gradient."""
        with torch.no_grad():
            cell = _find(self._levels, level)
            left, right = _take(self._edges, cell), _take(self._edges, cell + 1)
            below, above = _take(self._levels, cell), _take(self._levels, cell + 1)
            tiny = torch.finfo(level.dtype).tiny
            v = left + (right - left) * ((level - below) / (above - below).clamp(min=tiny)).clamp(0, 1)
            for _ in range(_NEWTON):
                slope = (self._score_with_gradient(v) - self.log_normalizer).exp().clamp(min=tiny)
                v = v - (self._mass_below(v, cell) - level) / slope
                v = torch.minimum(torch.maximum(v, left), right)
            return self._line.to_x(v)[0].detach()

    def _mass_below(self, v: Tensor, cell: Tensor | None = None) -> Tensor:
        if cell is None:
            cell = _find(self._edges, v.detach())
        nodes, widths = _gauss_legendre(_take(self._edges, cell), v)
        return _take(self._levels, cell) + (
            (self._score_with_gradient(nodes) - self.log_normalizer).exp() * widths
        ).sum(0)

    def _score(self, v: Tensor) -> Tensor:
        """Log-density in the coordinate v, before normalising."""
        x, log_slope = self._line.to_x(v)
        return _finite(self._log_density(x) + log_slope)

    def _score_with_gradient(self, v: Tensor) -> Tensor:
        """The score, with a gradient where the density is not negligible."""
        with torch.no_grad():
            score = self._score(v).detach()
            keep = score > self._floor
        if not torch.is_grad_enabled():
            return score
        return torch.where(keep, self._score(torch.where(keep, v, self._mode)), score)

    def _converges(self, power: int) -> Tensor:
        """Whether the integral of x^power has died out at both ends of the line."""
        with torch.no_grad():
            scores, nodes = self._ends
            ends = scores - self.log_normalizer + power * self._line.to_x(nodes)[0].abs().log()
            inside = (self._masses * self._points.abs().pow(power)).sum(0).log()
            return (ends - inside < 0.5 * math.log(torch.finfo(ends.dtype).eps)).all(0)

    def _cut(self, centres: Tensor, widths: Tensor, kinks: Tensor, rounds: int, cells: int) -> Tensor:
        """Edges ``[*batch_shape, c + 1]``: first a background that widens outwards, and what is near the landmarks."""
        limit, line = self._line.limit, self._line
        steps = torch.linspace(-1, 1, _BACKGROUND + 1, dtype=limit.dtype, device=limit.device)
        rate = 1 + torch.log1p(limit).unsqueeze(-1)
        background = limit.unsqueeze(-1) * (torch.sinh(rate * steps) / torch.sinh(rate))
        offsets = torch.tensor(_OFFSETS, dtype=limit.dtype, device=limit.device)
        around = centres.unsqueeze(-1) + widths.unsqueeze(-1) * offsets
        edges = insert(background, self._sorted(around.movedim(-1, 1).flatten(0, 1)))
        for count in (*[2 * cells] * rounds, cells):
            x, log_slope = line.to_x(edges.movedim(-1, 0))
            scores = _finite(self._log_density(x) + log_slope)
            away = (x.unsqueeze(0) - centres.unsqueeze(1)) / widths.unsqueeze(1)
            ladder = torch.log1p(away.abs()).copysign(away).sum(0)
            edges = spread(edges, scores.movedim(0, -1), ladder.movedim(0, -1), count, 2 * _NODES + 1, _DRIFT)
        return insert(edges, self._sorted(kinks))

    def _sorted(self, points: Tensor) -> Tensor:
        """Coordinates ``[*batch_shape, m]`` of points ``[m, *batch_shape]``."""
        return self._line.to_v(points).nan_to_num(0.0).movedim(0, -1).sort(-1).values


def _finite(score: Tensor) -> Tensor:
    """The score, minus infinity where it is infinite or not a number, at isolated points or outside of the support."""
    return torch.where(score < torch.inf, score, -torch.inf)


def _gauss_legendre(left: Tensor, right: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """Nodes of intervals in a new dimension ``dim``, and their weights."""
    half = (right - left) / 2
    nodes = [left + half * (1 + float(place)) for place in _PLACES]
    return torch.stack(nodes, dim), torch.stack([half * float(weight) for weight in _WEIGHTS], dim)


def _find(edges: Tensor, value: Tensor) -> Tensor:
    """Index of the cell between edges ``[c + 1, *batch]`` that holds each value ``[*sample, *batch]``."""
    return (_align(edges[1:-1], value) <= value).sum(0)


def _take(edges: Tensor, index: Tensor) -> Tensor:
    """Entries of ``[c + 1, *batch]`` at an index ``[*sample, *batch]``."""
    return _align(edges, index).expand(-1, *index.shape).gather(0, index.unsqueeze(0))[0]


def _align(edges: Tensor, value: Tensor) -> Tensor:
    """Insert the sample dimensions of ``[*sample, *batch]`` into ``[c, *batch]``."""
    return edges.reshape(edges.shape[0], *(1,) * (value.dim() - edges.dim() + 1), *edges.shape[1:])
