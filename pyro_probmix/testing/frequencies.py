"""Whether draws come as often as their probabilities say."""

from __future__ import annotations

__all__ = ["demand_frequencies", "follow_density"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_probmix.testing.grids import Grid
from pyro_probmix.testing.invariants import demand, refuse

_DRAWS = 20_000


def demand_frequencies(counts: Tensor, probs: Tensor, what: Callable[[int], str]) -> None:
    """Demands that counts are those of independent draws, within six standard errors and three draws.

    Args:
        counts: how often each outcome came, ``[m]``.
        probs: its probability, ``[m]``.
        what: from the index of an outcome to its name, for the message.
    """
    n = int(counts.sum())
    allowed = 6 * (n * probs * (1 - probs)).clamp(min=0).sqrt() + 3 * (probs > 0)
    wrong = ((counts - n * probs).abs() > allowed + 1e-6 * n * probs).nonzero()
    if len(wrong):
        k = int(wrong[0])
        refuse(f"{what(k)} in {int(counts[k])} of {n} draws", f"{n * float(probs[k]):.1f}, from its probability")


def follow_density(p: Any, grid: Grid) -> None:
    """Demands that draws of a distribution of batch shape (2,) follow its density over the grid."""
    draws = p.sample((_DRAWS,))
    masses = (p.log_prob(grid.points) + grid.log_weights).exp()
    points = grid.points[:, 0].contiguous()
    for row in range(2):
        own, mass = draws[:, row].contiguous(), masses[:, row]
        if p.support.is_discrete:
            counts = torch.bincount(_places(own, points), minlength=len(mass)).double()
            demand_frequencies(counts, mass, lambda k: f"the value {points[k].tolist()}")
        elif grid.is_ordered:
            share = torch.searchsorted(own.sort().values, points, right=True) / _DRAWS
            largest = float((share - mass.cumsum(0) + mass / 2).abs().max())
            allowed = 3 / _DRAWS**0.5 + float(mass.max())  # Kolmogorov and Smirnov, at a level of 3e-8
            demand(
                largest <= allowed,
                f"distribution functions of draws and density that differ by {largest:.3g} in row {row}",
                f"at most {allowed:.3g}",
            )


def _places(draws: Tensor, points: Tensor) -> Tensor:
    """Index of the point that each draw is."""
    if points.dim() == 1:
        return torch.searchsorted(points.double(), draws.double()).clamp(max=len(points) - 1)
    place: Tensor = (draws.unsqueeze(1) == points).flatten(2).all(-1).double().argmax(1)
    return place
