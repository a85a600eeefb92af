"""The scales of the features by which neighbors are near, chosen on rows that members hold out."""

from __future__ import annotations

__all__ = ["choose_scales"]

import torch
from torch import Tensor

from pyro_probmix.estimators.ensemble.held_out import HeldOut
from pyro_probmix.estimators.neighbors.pool import NEAREST
from pyro_probmix.inference.data.parts import Part

#: Factors of one feature's scale that are tried, how often, and the gain of the correlation below which the search ends.
FACTORS, ROUNDS, LEAST_GAIN = (0.1, 10.0), 4, 0.03
#: Held-out rows, of all shares together, that are asked: fewer where they would have more distances to the rows than these,
#: whose memory a fit has to bear, and none where they would be too few to tell anything.
ASKED_ROWS, MOST_DISTANCES, FEWEST_ASKED = 600, 20_000_000, 200
#: Features whose scales are tried, those first that say most of the errors by themselves.
TRIED_FEATURES = 16


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
        [D], float32, such that the mean squared distance to the neighbors is what it is at scales of 1. Ones for more than
        100,000 rows.
    """
    count = kept.x.shape[-1]
    asked = min(ASKED_ROWS, MOST_DISTANCES // len(kept.x))
    if asked < FEWEST_ASKED:
        return torch.ones(count, device=kept.x.device)
    step = -(-len(groups) * held_out.x.shape[1] // asked)
    shares = [_Share(held_out, members, means, kept, errors, neighbors, step) for members in groups]
    features = range(count) if count <= TRIED_FEATURES else _telling(shares)
    best, before = _correlation(shares, [share.guess() for share in shares])
    for _ in range(ROUNDS):
        tried = [(j, factor) for j in features for factor in FACTORS]
        found = [_correlation(shares, [share.guess(*one) for share in shares])[0] for one in tried]
        k = max(range(len(tried)), key=found.__getitem__)
        if not found[k] > best + LEAST_GAIN:
            break
        best = found[k]
        for share in shares:
            share.scale(*tried[k])
    scales, square = shares[0].scales, _correlation(shares, [share.guess() for share in shares])[1]
    return (scales * (before / square) ** 0.5 if before > 0 and square > 0 else scales).float()


def _telling(shares: list[_Share]) -> list[int]:
    """The features by each of which alone rows' errors go most with those of their neighbors."""
    guesses = torch.cat([share.guesses_of_each() for share in shares], -1)
    return _agreement(shares, guesses).topk(TRIED_FEATURES).indices.tolist()


class _Share:
    """Some rows of a share, and the rows that its members train on, with the mean error of these members at both.

    Args:
        members: of the share, which all hold out its rows.
        step: each such one of the rows that they hold out is asked.

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
        step: int,
    ) -> None:
        rows, some = kept.rows[members[0]], slice(None, None, step)
        self.x, self.known = held_out.x[members[0], some].double(), kept.x[rows].double()
        self.error = (held_out.y[members[0], some] - means[members][:, some].mean(0)).double()[:, 0]
        self.weights = held_out.weights[members[0], some].double()
        self.errors = errors[members][:, rows].double().mean(0)[:, 0]
        self.often = kept.weights[rows].double()
        self.neighbors = min(neighbors, len(rows))
        self.scales = torch.ones(self.x.shape[-1], dtype=torch.float64, device=self.x.device)
        self.square = torch.cdist(self.x, self.known).square()

    def scale(self, feature: int, factor: float) -> None:
        """Multiplies one feature's scale by a factor."""
        self.square = self._square(feature, factor)
        self.scales[feature] *= factor

    def guess(self, feature: int = 0, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """The weighted mean error of each row's neighbors, and the mean squared distance to them, [q].

        The scales are those of now, one of them times a factor.
        """
        square, near = self._square(feature, factor).topk(self.neighbors, largest=False)
        return self._mean_error(square, near), square.mean(-1)

    def guesses_of_each(self) -> Tensor:
        """The weighted mean error of each row's neighbors by each feature alone, [D, q]."""
        known, order = self.known.T.contiguous().sort(dim=-1)
        x = self.x.T.contiguous()
        about = torch.searchsorted(known, x)[..., None] + torch.arange(-self.neighbors, self.neighbors, device=x.device)
        about = about.clamp(0, known.shape[-1] - 1).flatten(1)  # at an end a row may be there more than once
        square = (known.gather(-1, about).reshape(*x.shape, -1) - x[..., None]).square()
        near = order.gather(-1, about).reshape(square.shape)
        square, nearest = square.topk(self.neighbors, largest=False)
        return self._mean_error(square, near.gather(-1, nearest))

    def _square(self, feature: int, factor: float) -> Tensor:
        """Squared distances of rows to those of the training part, [q, n]."""
        if factor == 1.0:
            return self.square
        more = (factor**2 - 1) * self.scales[feature] ** 2
        return (self.square + more * (self.x[:, None, feature] - self.known[:, feature]).square()).clamp(min=0.0)

    def _mean_error(self, square: Tensor, near: Tensor) -> Tensor:
        weights = self.often[near] / (square + NEAREST)
        return (weights * self.errors[near]).sum(-1) / weights.sum(-1)


def _correlation(shares: list[_Share], found: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """How rows' errors go with those of their neighbors, and the mean squared distance to these."""
    guesses, squares = (torch.cat(part) for part in zip(*found, strict=True))
    return float(_agreement(shares, guesses)), float(squares.mean())


def _agreement(shares: list[_Share], guesses: Tensor) -> Tensor:
    """The correlation, about zero, of rows' errors with guesses [..., q], of all shares together."""
    error, weights = (torch.cat([getattr(share, name) for share in shares]) for name in ("error", "weights"))
    size = (weights * error.square()).sum() * (weights * guesses.square()).sum(-1)
    return (weights * error * guesses).sum(-1) / size.sqrt().clamp(min=torch.finfo(size.dtype).tiny)
