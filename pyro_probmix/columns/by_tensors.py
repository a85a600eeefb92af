"""The inputs of a network for the numbers of a table's columns, by tensors: gaps, indicators, levels, means, phases."""

from __future__ import annotations

__all__ = ["Inputs"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pyro_probmix.columns.expansion import Expansion
from pyro_probmix.columns.part import PERIODS, Part
from pyro_probmix.columns.quantiles import Scores


class Inputs(nn.Module):
    """An :class:`~pyro_probmix.columns.expansion.Expansion` as a module, from [n, d] to [n, D].

    Args:
        expansion: of the columns; None leaves rows as they are.
    """

    def __init__(self, expansion: Expansion | None) -> None:
        super().__init__()
        self.parts = () if expansion is None else expansion.parts
        self.as_they_are = expansion is None

    def forward(self, x: Tensor) -> Tensor:
        if self.as_they_are:
            return x
        pairs = list(zip(self.parts, x.unbind(-1), strict=True))
        smooth = [one for part, values in pairs for one in _smooth(part, values)]
        found = [*smooth, *(one for part, values in pairs for one in _flat(part, values))]
        return torch.stack(found, -1) if found else torch.zeros_like(x[..., :1])


def _smooth(part: Part, values: Tensor) -> Iterator[Tensor]:
    if part.kind in ("none", "indicator", "boolean"):
        return
    if part.kind == "category":
        if part.means is not None:
            level = torch.where(values >= 0, values, 0.0).long()
            others = (*(0.0 for _ in part.means.means), part.means.fewest)
            for row, other in zip((*part.means.means, part.means.counts), others, strict=True):
                found = torch.where(values >= 0, torch.tensor(row, dtype=values.dtype)[level], other)
                yield torch.where(values.isnan(), 0.0, found)
        return
    missing = values.isnan()
    if part.kind == "ordered":
        missing = missing | (values < 0)
    yield torch.where(missing, part.middle, values if part.scores is None else _scores(part.scores, values, missing))


def _scores(scores: Scores, values: Tensor, missing: Tensor) -> Tensor:
    knots, heights = (torch.tensor(v, dtype=values.dtype) for v in (scores.knots, scores.scores))
    values = torch.where(missing, knots[0], values)
    k = torch.searchsorted(knots, values.contiguous(), right=True).clamp(1, len(knots) - 1)
    start, slope = knots[k - 1], (heights[k] - heights[k - 1]) / (knots[k] - knots[k - 1])
    found = slope * (values.clamp(knots[0], knots[-1]) - start) + heights[k - 1]
    for side, end, inner in ((-1, 0, 1), (1, -1, -2)):
        outer = (heights[end] - heights[inner]) / (knots[end] - knots[inner])
        found = found + side * torch.log1p(outer * (side * (values - knots[end])).clamp(min=0))
    return found


def _flat(part: Part, values: Tensor) -> Iterator[Tensor]:
    missing = values.isnan()
    if part.kind in ("indicator", "boolean"):
        yield torch.where(missing, part.middle, values)
    elif part.kind == "category":
        each = [values == level for level in part.levels]
        known = torch.stack(each).any(0) if each else torch.zeros_like(missing)
        strange = ~known & ~(missing & part.gaps)
        for one, share in zip(each, part.shares, strict=True):
            yield one.to(values) if part.other else torch.where(strange, share, one.to(values))
        if part.other:
            yield strange.to(values)
    for period in PERIODS.get(part.kind, ()):
        phase = 2 * math.pi * torch.where(missing, 0.0, values) / period
        for wave in (torch.sin, torch.cos):
            yield torch.where(missing, 0.0, wave(phase))
    if part.often is not None:
        yield (values == part.often).to(values)
    if part.gaps:
        yield missing.to(values)
