"""Sums over counts of a batch of unnormalised densities, differentiable in their parameters."""

from __future__ import annotations

__all__ = ["LARGEST", "CountSum"]

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from pyro_probmix.pooling.integrals.mesh import insert, spread

LARGEST = 2.0**52  #: the largest count that is looked at
_NODES = 5  # nodes in each cell
_DRIFT = 1.5  # cells for each unit of the coordinate, at least
_BACKGROUND = 48  # cells to start from
_OFFSETS = (-16.0, -4.0, -1.0, 0.0, 1.0, 4.0, 16.0)  # edges to start from, in a landmark's width from it
_FIRST = tuple(range(1, 46, 5))  # edges near an end of the range: the cells between them hold no more than five counts


class CountSum:
    r"""Normalising constant, moments and draws of an unnormalised density of counts 0, 1, ..., up to a largest one.

    The counts are cut into cells. One of up to five counts is summed as it is; in a longer one the sum of its L terms is
    the Gauss rule of the discrete Chebyshev polynomials, exact for polynomials of degree nine, whose five nodes lie
    between the counts: the log density has to be smooth between them, as it is where it is written with the gamma
    function. Near both ends of the range all counts are summed. Cells are chosen without gradient, by
    :func:`~pyro_probmix.pooling.integrals.mesh.spread`.

    Args:
        log_density: maps counts ``[n, *batch_shape]`` to the unnormalised log density, -inf beyond the largest count.
        largest: the largest count of each row, a tensor of double precision, infinite where there is none.
        ends: whether any row has one.
        centres, widths: landmarks ``[k, *batch_shape]``: points near which the density may be narrow, and how narrow.
        coarse: the precision in which the cells are chosen.
        exact: the largest count of all rows, to sum over each count from 0 on; None sums over cells.
        bounded_slopes: whether the log density has finite slopes in its parameters at all counts from 0 on, so that it need not
            be kept away from those of negligible density.

    References:
        Gautschi, 2004, Orthogonal polynomials: computation and approximation, section 1.5.
    """

    def __init__(
        self,
        log_density: Callable[[Tensor], Tensor],
        largest: Tensor,
        ends: bool,
        centres: Tensor,
        widths: Tensor,
        coarse: torch.dtype = torch.float64,
        exact: int | None = None,
        bounded_slopes: bool = False,
    ) -> None:
        self._log_density, self._ends, self._coarse = log_density, ends, coarse
        with_grad = torch.is_grad_enabled()
        with torch.no_grad():
            self._bounded = largest < LARGEST
            self._end = largest.clamp(min=0, max=LARGEST)
            edges = self._cut(centres, widths) if exact is None else self._every(exact)
            edges = edges.detach()  # as a traced step needs to be told, which does not know of `no_grad`
            self._edges = edges.movedim(-1, 0)
            nodes, weights = gauss_sum(edges[..., :-1], edges.diff(dim=-1))
            nodes, weights = (t.flatten(-2).movedim(-1, 0) for t in (nodes, weights))
            with torch.set_grad_enabled(bounded_slopes and with_grad):
                scores = log_density(nodes)
            best = torch.where(weights > 0, _finite(scores.detach()), -torch.inf).max(0)
            # A density this small counts for nothing, but its logarithm may have slopes that overflow.
            least = best.values + 2 * math.log(torch.finfo(nodes.dtype).eps)
            negligible = ~(scores.detach() > least) | (weights <= 0)
            self._nodes = nodes
            log_weights = weights.clamp(min=1e-300).log().masked_fill(negligible, -torch.inf)
        if with_grad and not bounded_slopes:
            mode = nodes.gather(0, best.indices.unsqueeze(0))
            scores = log_density(torch.where(negligible, mode, nodes))
        self._log_masses = scores + log_weights
        self.log_normalizer = self._log_masses.logsumexp(0)

    @cached_property
    def _masses(self) -> Tensor:
        with torch.set_grad_enabled(self._log_masses.requires_grad):  # what is kept may be asked for first without it
            return (self._log_masses - self.log_normalizer).exp()

    def mean(self) -> Tensor:
        """The mean, shape ``batch_shape``."""
        return (self._masses * self._nodes).sum(0)

    def variance(self) -> Tensor:
        """The variance, shape ``batch_shape``."""
        return (self._masses * (self._nodes - self.mean()).square()).sum(0)

    def draw(self, level: Tensor, rounds: int | None) -> Tensor:
        """The counts at which the distribution function passes levels ``[*sample_shape, *batch_shape]``.

        Args:
            level: in (0, 1).
            rounds: bisections of a cell; None looks at how long the cells are.
        """
        with torch.no_grad():
            masses = self._masses.unflatten(0, (-1, _NODES)).sum(1)
            levels = masses.cumsum(0)
            levels = levels / levels[-1]
            cell = (_align(levels[:-1], level) <= level).sum(0)
            first, last = _take(self._edges[:-1], cell), _take(self._edges[1:], cell) - 1
            start = torch.where(cell > 0, _take(levels, (cell - 1).clamp(min=0)), 0.0)
            low, high = first, last
            if rounds is None:
                rounds = math.ceil(math.log2(max(2.0, float((last - first).max()) + 1)))
            for _ in range(rounds):
                middle = ((low + high) / 2).floor()
                nodes, weights = gauss_sum(first, middle + 1 - first, dim=0)
                part = (_finite(self._log_density(nodes)) - self.log_normalizer).exp()
                enough = start + torch.where(weights > 0, part * weights, 0.0).sum(0) > level
                low, high = torch.where(enough, low, torch.minimum(middle + 1, high)), torch.where(enough, middle, high)
            return low

    def _cut(self, centres: Tensor, widths: Tensor) -> Tensor:
        """Integer edges ``[*batch_shape, c + 1]``, the first 0 and the last one more than the largest count."""
        cells = min(16 + 8 * len(centres), 160)
        length = self._length.unsqueeze(-1)
        steps = torch.linspace(0, 1, _BACKGROUND + 1, dtype=length.dtype, device=length.device)
        offsets = torch.tensor(_OFFSETS, dtype=length.dtype, device=length.device)
        around = (centres.unsqueeze(-1) + widths.unsqueeze(-1) * offsets).movedim(-1, 1).flatten(0, 1)
        # From 1 on: 0 is a cell of its own, and may stand out.
        edges = insert(length * steps, self._to_line(around).movedim(0, -1).sort(-1).values).clamp(min=math.log(2))
        for count in (2 * cells, 2 * cells, cells):
            x, log_slope = self._to_count(edges.movedim(-1, 0))
            away = (x.unsqueeze(0) - centres.unsqueeze(1)) / widths.unsqueeze(1)
            ladder = torch.log1p(away.abs()).copysign(away).sum(0)
            scores = _finite(self._log_density(x.to(self._coarse)).to(x) + log_slope)
            edges = spread(edges, scores.movedim(0, -1), ladder.movedim(0, -1), count, 2 * _NODES + 1, _DRIFT)
        x = self._to_count(edges.movedim(-1, 0))[0].movedim(0, -1).round()
        end = self._end.unsqueeze(-1)
        near = torch.tensor(_FIRST, dtype=length.dtype, device=length.device)
        x = insert(x, torch.minimum(near, end + 1).expand(*x.shape[:-1], -1))
        if self._ends:
            x = insert(x, (end + 1 - near.flip(-1)).clamp(min=0))
        return torch.cat([torch.zeros_like(x[..., :1]), x[..., 1:].clamp(min=0), end + 1], -1)

    def _every(self, exact: int) -> Tensor:
        """Edges of cells of five counts, up to the largest count."""
        edges = torch.arange(0, exact + 1 + _NODES, _NODES, dtype=self._end.dtype, device=self._end.device)
        return torch.minimum(edges, self._end.unsqueeze(-1) + 1)

    @cached_property
    def _length(self) -> Tensor:
        """The range of the coordinate: the logarithm of the distance from either end, or from zero if there is no other."""
        return torch.where(self._bounded, 2 * torch.log1p(self._end / 2), math.log1p(LARGEST))

    def _to_line(self, x: Tensor) -> Tensor:
        x = torch.minimum(x.nan_to_num(0.0).clamp(min=0), self._end)
        low = torch.log1p(x)
        return torch.where(self._bounded & (x > self._end / 2), self._length - torch.log1p(self._end - x), low)

    def _to_count(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The point at a coordinate, and the logarithm of the slope."""
        from_end = self._bounded & (s > self._length / 2)
        away = torch.where(from_end, self._length - s, s)
        x = torch.expm1(away)
        return torch.minimum(torch.where(from_end, self._end - x, x).clamp(min=0), self._end), away


def gauss_sum(start: Tensor, length: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Five nodes in a new dimension for the sum over ``length`` counts from ``start`` on, and their weights.

    Up to five counts are the nodes themselves, those beyond the length with weight zero.
    """
    n = length.clamp(min=_NODES)
    b1, b2, b3, b4 = ((1 - k * k / n.square()) * (k * k / (4 * (4 * k * k - 1))) for k in range(1, 5))
    half, product = (b1 + b2 + b3 + b4) / 2, b1 * b3 + b1 * b4 + b2 * b4
    root = (half.square() - product).clamp(min=0).sqrt()
    outer, inner = half + root, half - root
    fourth = b1 * (b1 + b2)
    w_outer = n * (fourth - b1 * inner) / (4 * outer * root)
    w_inner = n * (b1 * outer - fourth) / (4 * inner * root)
    middle, far, near = start + (n - 1) / 2, n * outer.sqrt(), n * inner.sqrt()
    nodes = torch.stack([middle - far, middle - near, middle, middle + near, middle + far], dim)
    weights = torch.stack([w_outer, w_inner, n - 2 * (w_outer + w_inner), w_inner, w_outer], dim)
    steps = torch.arange(_NODES, dtype=n.dtype, device=n.device)
    steps = steps.reshape(-1, *(1,) * n.dim()) if dim == 0 else steps
    each = length.unsqueeze(dim) <= _NODES
    inside = steps < length.unsqueeze(dim)
    counts = start.unsqueeze(dim) + torch.where(inside, steps, 0.0)
    return torch.where(each, counts, nodes), torch.where(each, inside.to(n), weights)


def _finite(score: Tensor) -> Tensor:
    return torch.where(score < torch.inf, score, -torch.inf)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Entries of ``[c, *batch]`` at an index ``[*sample, *batch]``."""
    return _align(x, index).expand(-1, *index.shape).gather(0, index.unsqueeze(0))[0]


def _align(x: Tensor, value: Tensor) -> Tensor:
    """Insert the sample dimensions of ``[*sample, *batch]`` into ``[c, *batch]``."""
    return x.reshape(x.shape[0], *(1,) * (value.dim() - x.dim() + 1), *x.shape[1:])
