"""The choice of the weight and the width of neighbors' kernels on rows that members hold out."""

from __future__ import annotations

__all__ = ["choose_pool"]

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from pyro_probmix.estimators.ensemble.averaging import each_alone, of_groups, spread_of_all
from pyro_probmix.estimators.ensemble.held_out import HeldOut, member_densities, widened
from pyro_probmix.estimators.ensemble.neighbor_scales import choose_scales
from pyro_probmix.estimators.neighbors.kernels import can_pool
from pyro_probmix.estimators.neighbors.pool import NeighborPool
from pyro_probmix.estimators.targets.level import narrowing
from pyro_probmix.inference.data.parts import Part
from pyro_probmix.inference.predictive.families import marginals_of
from pyro_probmix.inference.predictive.prediction import log_density

#: Widths of the kernels beside the density's own, their growth with the distance, and weights, among which the best are taken.
WIDTHS, GROWTHS = (0.1, 0.2, 0.3, 0.5, 0.7), (0.0, 0.1, 0.3, 1.0)
WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Factors of the kernels' distances from their weighted mean, beside 1, among which the best is taken.
SCATTERS = (0.75, 0.5, 0.25, 0.0)
#: Spreads are searched within this factor of the one without a pool.
MOST_CHANGE = 3.0
#: A pool has to gain so many nats a row, and so many standard errors of the gain.
LEAST_GAIN, LEAST_ERRORS = 0.02, 4.0
#: Held-out rows of each member by which it is chosen; tables with more numbers than this have no pool.
SCORED_ROWS, MOST_NUMBERS = 1000, 2_000_000
#: Rows whose means are computed together.
BLOCK = 2048


@torch.no_grad()
def choose_pool(
    held_out: HeldOut,
    kept: Part,
    neighbors: int,
    adapted: Callable[[Any], Any],
    copied: Callable[[], float],
    copy_scale: float,
) -> NeighborPool | None:
    """The pool with neighbors that is best on the held-out rows; None where it does not pay.

    A held-out row's neighbors are rows that its members trained on. So it is for a new row, of whose neighbors each member
    takes those that it trained on.

    The density's spread was chosen to reach errors that kernels may explain. So beside a pool another spread is best, and
    beside that one another pool. From the few members that hold a row out it is carried on to all as it is without a pool,
    see :meth:`HeldOut.factor`, and it is the narrower where intervals hold too many rows, see
    :func:`~pyro_probmix.estimators.targets.level.narrowing`.

    Kernels take the neighbors' errors for alternatives, of which a row has one. Where errors change smoothly, its own lies
    between them, and kernels that are drawn together are better. What is left of their distances is a part of the spread, and
    carried on with it.

    Args:
        held_out: the rows that members hold out, and their density.
        kept: the rows that members train on.
        neighbors: the most neighbors, K; half as many are tried, too. 0 for none.
        adapted: from the members' densities to those with the tails and the spread that are predicted.
        copied: gives the probability of a copy, see :func:`~pyro_probmix.estimators.ensemble.copies.copied_share`; it is not
            called where there can be no pool.
        copy_scale: of the kernel around a copied target.

    Returns:
        The pool; of weight 0 where copies alone pay. None, too, for several targets, for a family without kernels, and for a
        table of more than two million numbers, whose rows would take long to search.
    """
    components, groups = held_out.finite()
    is_table = kept.x.dim() == 2 and kept.y.shape[1:] == (1,) and kept.x.numel() <= MOST_NUMBERS
    if not neighbors or not groups or not is_table or not can_pool(components):
        return None
    members, n, share = held_out.x.shape[0], len(kept.x), copied()
    own = torch.zeros(members, n, dtype=torch.bool, device=kept.x.device).scatter_(1, kept.rows, True)
    errors, means = kept.y - _means(held_out, kept.x), components.mean.mean(0)
    found = []
    for count in sorted({-(-neighbors // 2), neighbors}):
        pool = NeighborPool(
            x=kept.x.float().cpu(),
            scales=choose_scales(held_out, groups, means, kept, errors, count).cpu(),
            errors=errors.float().cpu(),
            own=own.cpu(),
            weights=kept.weights.float().cpu(),
            neighbors=count,
            weight=0.0,
            width=1.0,
            growth=0.0,
            spread=1.0,
            copied=share,
            copy_scale=copy_scale,
        )
        found.append(_with_kernels(held_out, groups, adapted, pool))
    best, _ = max(found, key=lambda one: one[1])
    return best or (pool if share else None)


def _with_kernels(
    held_out: HeldOut, groups: list[list[int]], adapted: Callable[[Any], Any], pool: NeighborPool
) -> tuple[NeighborPool | None, float]:
    """The pool with the kernels and the spread that are best on the held-out rows, and its mean log density there.

    None, and minus infinity, where kernels do not pay.
    """
    step = -(-held_out.x.shape[1] // SCORED_ROWS)
    scored = _Scored(held_out, groups, adapted, pool, slice(None, None, step))
    alone = scored.best_spread(None)
    plain = scored.plain(alone)
    found = _best(scored, replace(pool, spread=alone), plain)
    if found is None:
        return None, -math.inf
    found = replace(found, spread=scored.best_spread(found))
    found = _together(scored, found)
    found = _best(scored, found, plain) or found
    reached = float((scored.log_prob(found) * scored.weights).sum())
    few, one = found.spread, scored.of_each().best_spread(found)
    narrower = narrowing(
        lambda factor: scored.log_density(scored.pooled(_with_spread(found, factor * few))),
        lambda factor: scored.cdf(_with_spread(found, factor * few)),
        scored.weights,
    )
    return _with_spread(found, narrower * spread_of_all(one, few, held_out.ahead(groups))), reached


def _with_spread(pool: NeighborPool, spread: float) -> NeighborPool:
    """The pool with another spread, and the scatter of kernels that were drawn together changed alike.

    Kernels that were not stand where neighbors were, whatever the spread.
    """
    scatter = min(1.0, pool.scatter * spread / pool.spread) if pool.scatter < 1 else 1.0
    return replace(pool, spread=spread, scatter=scatter)


def _best(scored: _Scored, pool: NeighborPool, before: Tensor) -> NeighborPool | None:
    """The pool of a spread that gains most over log densities before it; None where none gains enough."""
    plain, best, gain = scored.plain(pool.spread), None, LEAST_GAIN
    for width, growth in product(WIDTHS, GROWTHS):
        kernels = scored.kernels(replace(pool, width=width, growth=growth))
        for weight in WEIGHTS:
            pooled = torch.logaddexp(plain + math.log1p(-weight), kernels + math.log(weight))
            mean, error = scored.gain(pooled, before)
            if mean > max(gain, LEAST_ERRORS * error):
                best, gain = replace(pool, weight=weight, width=width, growth=growth), mean
    return best


def _together(scored: _Scored, pool: NeighborPool) -> NeighborPool:
    """The pool with its kernels drawn together as is best, and the spread beside them; as it was where none gains enough."""
    before, best, gain = scored.log_prob(pool), pool, LEAST_GAIN
    for scatter in SCATTERS:
        tried = replace(pool, scatter=scatter)
        tried = replace(tried, spread=scored.best_spread(tried))
        mean, error = scored.gain(scored.log_prob(tried), before)
        if mean > max(gain, LEAST_ERRORS * error):
            best, gain = tried, mean
    return best


def _means(held_out: HeldOut, x: Tensor) -> Tensor:
    """The mean of each member's density at rows [n, D], over draws of the embedding, [R, n, 1]."""
    blocks = x.split(BLOCK)
    return torch.cat([member_densities(held_out.density, block, held_out.noise).mean.mean(0) for block in blocks], 1)


class _Scored:
    """Scores of held-out rows, by the members that hold them out: of the networks, and of the kernels alone.

    They are log densities, and of targets of few values the log probabilities of what is rounded to them: by their density a
    pool of narrow kernels would be taken, which stand on the values and tell nothing more of a new row.

    Args:
        groups: members of each share, see :class:`HeldOut`.
        adapted: see :func:`choose_pool`.
        pool: by which neighbors are found.
        some: which rows.
    """

    def __init__(
        self,
        held_out: HeldOut,
        groups: list[list[int]],
        adapted: Callable[[Any], Any],
        pool: NeighborPool,
        some: slice,
    ) -> None:
        x, self.y, self.groups = held_out.x[:, some], held_out.y[:, some], groups
        self.log_score = held_out.log_score
        self.components = adapted(member_densities(held_out.density, x, held_out.noise))
        self.nearest = pool.nearest_of_each(x, held_out.shares)
        weights = torch.cat([held_out.weights[members[0], some] for members in groups]).double()
        self.weights = weights / weights.sum()

    def of_each(self) -> _Scored:
        """The same of each member alone; a row weighs as much as before."""
        groups, counting = each_alone(self.groups)
        scored = copy.copy(self)
        rows = self.weights.reshape(len(self.groups), -1)
        of_group = [k for k, members in enumerate(self.groups) for _ in members]
        scored.groups = groups
        scored.weights = torch.cat([rows[k] * count for k, count in zip(of_group, counting, strict=True)])
        return scored

    def plain(self, spread: float) -> Tensor:
        """The score of each row of each share under the networks, widened by a factor."""
        return self._of_groups(widened(self.components, spread))

    def kernels(self, pool: NeighborPool) -> Tensor:
        """The score of each row of each share under the kernels alone."""
        return self._of_groups(self.pooled(replace(pool, weight=1.0)))

    def log_prob(self, pool: NeighborPool) -> Tensor:
        """The score of each row of each share under the pool."""
        return self._of_groups(self.pooled(pool))

    def log_density(self, components: Any) -> Tensor:
        """The log density itself of each row of each share under members' densities: by it spreads are chosen."""
        return of_groups(log_density(components, self.y), self.groups)

    def pooled(self, pool: NeighborPool) -> Any:
        """The members' densities with the kernels of a pool."""
        return pool.pooled(self.components, *self.nearest)

    def gain(self, log_prob: Tensor, before: Tensor) -> tuple[float, float]:
        """By how much scores are higher than others in the mean, and its standard error."""
        gains = log_prob - before
        mean = float((gains * self.weights).sum())
        return mean, float((self.weights.square() * (gains - mean).square()).sum().sqrt())

    def cdf(self, pool: NeighborPool) -> Tensor:
        """The probability under the pool of a target at most that of the row, of each row of each share."""
        each = marginals_of(self.pooled(pool)).cdf(self.y).mean(0)[..., 0]  # [R, v]
        return torch.cat([each[members].mean(0) for members in self.groups]).double()

    def best_spread(self, pool: NeighborPool | None) -> float:
        """The spread of the networks that is best beside a pool, or without one."""

        def nll(log_factor: float) -> float:
            spread = math.exp(log_factor)
            p = widened(self.components, spread) if pool is None else self.pooled(replace(pool, spread=spread))
            return -float((self.log_density(p) * self.weights).sum())

        bounds = (-math.log(MOST_CHANGE), math.log(MOST_CHANGE))
        best: Any = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-2})
        return math.exp(float(best.x))

    def _of_groups(self, components: Any) -> Tensor:
        return of_groups(self.log_score(components, self.y), self.groups)
