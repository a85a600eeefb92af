"""Cuts of the line into cells that are narrow where an integrand is large and changes fast."""

from __future__ import annotations

__all__ = ["insert", "spread"]

import torch
import torch.nn.functional as F
from torch import Tensor

_LADDER = 0.6  # cells for each e-fold of the distance from a landmark
_ALIKE = 0.02  # the part of the cells that goes to all parts of the old mesh alike


def spread(edges: Tensor, scores: Tensor, ladder: Tensor, count: int, order: int, drift: float) -> Tensor:
    r"""The edges of ``count`` cells among which the error of integration is spread evenly.

    A rule that is exact for polynomials of degree *k* - 1 errs in a cell of width *h* by about :math:`f (h s)^k`, where *s*
    is the rate at which the integrand *f* changes, so the cells should be about :math:`f^{-1/k} / s` wide. The rate is read
    from the logarithm at the old edges: its slope, and the root of its curvature. Cells are narrow near landmarks too,
    whatever has been seen there, in proportion to the distance from them.

    Nothing is sorted or searched for, which takes longer than to score the points.

    Args:
        edges: ascending, ``[*batch, m + 1]``; the first and the last are kept.
        scores: log of the integrand there.
        ladder: the sum over the landmarks of the number of e-folds to their right, which increases along the edges.
        count: how many cells to make.
        order: *k*.
        drift: cells for each unit of the coordinate, where nothing else asks for them.

    Returns:
        edges ``[*batch, count + 1]``.

    References:
        de Boor, 1973, Good approximation by splines with variable knots.
    """
    widths = edges.diff(dim=-1)
    depth = (scores - scores.amax(-1, keepdim=True)).nan_to_num(nan=-1e30).clamp(min=-1e30)
    change = depth.diff(dim=-1)
    info = torch.finfo(edges.dtype)
    turn = (change / widths.clamp(min=info.tiny)).clamp(-1e30, 1e30).diff(dim=-1).abs()
    turn = torch.maximum(F.pad(turn, (1, 0)), F.pad(turn, (0, 1)))
    weight = (torch.maximum(depth[..., 1:], depth[..., :-1]) / order).exp()
    own = drift * widths.clamp(max=8.0) + _LADDER * ladder.diff(dim=-1).abs()
    own = own - order * torch.expm1(change.abs() / -order) + (turn * widths).clamp(max=order**2).sqrt()
    own = own * weight
    alike = own.sum(-1, keepdim=True) * (_ALIKE / own.shape[-1])
    levels = (own + alike.clamp(min=info.tiny)).cumsum(-1)  # also where the integrand is zero at all of them
    levels = levels / levels[..., -1:] * count
    # The cell of each of the levels 1, 2, ..., count - 1, by counting the edges at or below it.
    below = levels[..., :-1].ceil().clamp(1, count).long() - 1
    shape = (*below.shape[:-1], count)
    cell = torch.zeros(shape, dtype=torch.long, device=edges.device).scatter_add(-1, below, torch.ones_like(below))
    cell = cell.cumsum(-1)[..., :-1]
    start, end = F.pad(levels, (1, 0)).gather(-1, cell), levels.gather(-1, cell)
    level = torch.arange(1, count, dtype=edges.dtype, device=edges.device)
    part = ((level - start) / (end - start).clamp(min=info.tiny)).clamp(0, 1)
    inner = edges.gather(-1, cell) + part * widths.gather(-1, cell)
    return torch.cat([edges[..., :1], inner, edges[..., -1:]], -1)


def insert(edges: Tensor, marks: Tensor) -> Tensor:
    """Ascending edges ``[*batch, m]`` with a few ascending marks ``[*batch, k]`` among them."""
    below = torch.searchsorted(edges.contiguous(), marks.contiguous(), right=True)  # how many edges come before a mark
    count = torch.arange(max(edges.shape[-1], marks.shape[-1]), device=edges.device)
    shape = (*edges.shape[:-1], edges.shape[-1] + 1)
    before = torch.zeros(shape, dtype=torch.long, device=edges.device).scatter_add(-1, below, torch.ones_like(below))
    places = [count[: edges.shape[-1]] + before.cumsum(-1)[..., :-1], count[: marks.shape[-1]] + below]
    both = torch.cat([edges, marks], -1)
    return torch.empty_like(both).scatter(-1, torch.cat(places, -1), both)
