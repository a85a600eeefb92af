"""The scales of the features by which neighbors are near, chosen on rows that members hold out."""

from __future__ import annotations

__all__ = ["choose_scales"]

from typing import Any

import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.held_out import HeldOut
from pyro_probmix.estimators.neighbors.pool import NEAREST
from pyro_probmix.inference.data.parts import Part

#: Factors of one feature's scale that are tried, how often, and the gain of the correlation below which the search ends.
FACTORS, ROUNDS, LEAST_GAIN = (0.1, 10.0), 4, 0.03
#: Held-out rows, of all shares together, that are asked.
ASKED_ROWS = 600


def choose_scales(
    held_out: HeldOut, groups: list[list[int]], means: Tensor, kept: Part, errors: Tensor, neighbors: int
) -> Tensor:
    """The scales of standardised features at which the errors of rows are most like those of their neighbors.

    Rows of one day share a feature or two, and differ in the rest. Starting from scales of 1, the feature and factor are taken
    that raise the correlation of held-out rows' errors with their neighbors' weighted mean most, until none does.

    Args:
        held_out: the rows that members hold out.
        groups: members of each share.
        means: of the members' densities at the held-out rows, [R, v, 1].
        kept: the rows that members train on.
        errors: of the members at them, [R, n, 1].
        neighbors: K.

    Returns:
        [D], float32, such that the mean squared distance to the neighbors is what it is at scales of 1.
    """
    shares = [_Share(held_out, members, means, kept, errors, neighbors, len(groups)) for members in groups]
    scales = torch.ones(kept.x.shape[-1], dtype=torch.float64, device=kept.x.device)
    best, before = _correlation(shares, scales)
    for _ in range(ROUNDS):
        tried = [scales * torch.where(torch.arange(len(scales), device=scales.device) == j, factor, 1.0)
                 for j in range(len(scales)) for factor in FACTORS]  # fmt: skip
        found = [_correlation(shares, one)[0] for one in tried]
        k = max(range(len(tried)), key=found.__getitem__)
        if not found[k] > best + LEAST_GAIN:
            break
        scales, best = tried[k], found[k]
    square = _correlation(shares, scales)[1]
    return (scales * (before / square) ** 0.5 if before > 0 and square > 0 else scales).float()


class _Share:
    """Some rows of a share, and the rows that its members train on, with the mean error of these members at both.

    Args:
        members: of the share, which all hold out its rows.
        shares: number of them.

    See :func:`choose_scales` for the others.
    """

    def __init__(
        self,
        held_out: HeldOut,
        members: list[int],
        means: Tensor,
        kept: Part,
        errors: Tensor,
        neighbors: int,
        shares: int,
    ) -> None:
        step = -(-shares * held_out.x.shape[1] // ASKED_ROWS)
        rows, some = kept.rows[members[0]], slice(None, None, step)
        self.x, self.known = held_out.x[members[0], some].double(), kept.x[rows].double()
        self.error = (held_out.y[members[0], some] - means[members][:, some].mean(0)).double()[:, 0]
        self.weights = held_out.weights[members[0], some].double()
        self.errors = errors[members][:, rows].double().mean(0)[:, 0]
        self.often = kept.weights[rows].double()
        self.neighbors = min(neighbors, len(rows))

    def guess(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted mean error of each row's neighbors, and the mean squared distance to them, [q]."""
        x, known = self.x * scales, self.known * scales
        about = known.square().sum(-1) - 2 * x @ known.T  # and the same number more in each column
        near = about.topk(self.neighbors, largest=False).indices
        square = (x[:, None] - known[near]).square().sum(-1)
        weights = self.often[near] / (square + NEAREST)
        return (weights * self.errors[near]).sum(-1) / weights.sum(-1), square.mean(-1)


def _correlation(shares: list[_Share], scales: Tensor) -> tuple[float, float]:
    """How rows' errors go with those of their neighbors, about zero, and the mean squared distance to these."""
    guesses: Any = zip(*(share.guess(scales) for share in shares), strict=True)
    guess, square = (torch.cat(part) for part in guesses)
    error, weights = (torch.cat([getattr(share, name) for share in shares]) for name in ("error", "weights"))
    size = (weights * error.square()).sum() * (weights * guess.square()).sum()
    return float((weights * error * guess).sum() / size.sqrt().clamp(min=torch.finfo(size.dtype).tiny)), float(
        square.mean()
    )
