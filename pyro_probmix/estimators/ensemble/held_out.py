"""Rows that members hold out: they choose the epoch, and how far to widen the density."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from pyro_probmix.estimators.ensemble.averaging import AVERAGING, each_alone, of_groups, spread_of_all
from pyro_probmix.estimators.targets.cells import Cells
from pyro_probmix.estimators.targets.spread import widened
from pyro_probmix.estimators.targets.tails import HEAVIEST, LIGHTEST, with_tails
from pyro_probmix.inference.predictive.draws import from_noise, plug_in
from pyro_probmix.inference.predictive.plain import is_plain, plain_density
from pyro_probmix.inference.predictive.prediction import log_density, response_density
from pyro_probmix.random_state import alone, own_random_state

__all__ = [
    "DRAWS_ROWS",
    "MANY_DRAWS",
    "HeldOut",
    "antithetic_noise",
    "member_densities",
    "widened",
    "with_tails",
]

#: Draws of the embedding that stand for infinitely many, and the loss in nats a row that fewer of them may cost.
MANY_DRAWS, DRAWS_TOLERANCE = 16, 1e-3
#: Rows of each member by which the number of draws is chosen.
DRAWS_ROWS = 256
#: About so many epochs of a fit are scored.
MOST_SCORES = 25
#: Factors of the spread among which the best is searched.
NARROWEST, WIDEST = 0.5, 100.0
#: A gain of one member to all, in nats a row, is carried on up to this. A larger one is no averaging of errors: members are
#: far off, alone, and the step would make of their NLLs of thousands a score that no density can have.
MOST_GAIN = 1.0


def member_densities(density: nn.Module, x: Tensor, noise: Tensor | None) -> Any:
    """The density of the response at each draw of the embedding and of each member, [S, R, N].

    Args:
        density: a :class:`~pyro_probmix.ConditionalDensity` with members as replicas.
        x: [N, *row] or [R, N, *row].
        noise: standard normal, [S, R, 1, width], of a drawn embedding; None passes its mean on.
    """
    if is_plain(density):
        with torch.no_grad():
            return plain_density(density, x, noise)
    draw = plug_in if noise is None else from_noise(noise)
    # The model draws a response, too, which nobody looks at: the random state is as before.
    with torch.no_grad(), own_random_state(x.device), pyro.validation_enabled(False):
        return response_density(density, x, draw)


def antithetic_noise(draws: int, members: int, width: int, seed: int) -> Tensor:
    """Standard normal noise of so many draws of an embedding, [draws, members, 1, width], in pairs of opposite sign."""
    shape = (-(-draws // 2), members, 1, width)
    half = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack([half, -half], 1).flatten(0, 1)[:draws].clone()


class HeldOut:
    r"""The loss of an ensemble on rows that its members hold out, at the best spread.

    .. math::
        L_m = \min_\tau\; -\frac{1}{\sum_i w_i} \sum_i w_i \log \frac{1}{m} \sum_{r \in M_i} p_r^{(\tau)}(y_i \mid x_i)

    where member r's density is :func:`widened` by :math:`\tau`, and :math:`M_i` are the m members that row i is new to. Long
    training makes a mean better and a scale too small. A loss at the best :math:`\tau` sees the first, and :math:`\tau`
    mends the second.

    All R members whose density is finite are new to a row that is predicted later, and more of them forgive more of each
    member's error: by :math:`L_m` alone, training would end too early. What they gain is carried on from :math:`L_1`, each
    member alone, and :math:`L_m`, to :math:`L_R`, by at most one nat. It is taken as linear in 1/m, as it is for
    squared errors.

    Of targets of few values the epoch is chosen by the probability of what is rounded to them, at the same spread.

    Args:
        density: whose members are scored, as they stand when called.
        x, y: [R, v, *row] and [R, v, *event], the rows that each member holds out.
        weights: [R, v].
        shares: number G of different shares; member r holds out share r mod G.
        noise: see :func:`member_densities`.
        smoothing: number of scores that are averaged.
        cells: of targets of few values; None for none.

    References:
        Berta, Holzmueller, Jordan and Bach, 2025, "Rethinking Early Stopping: Refine, Then Calibrate".
    """

    def __init__(
        self,
        density: nn.Module,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        shares: int,
        noise: Tensor | None,
        smoothing: int = 1,
        cells: Cells | None = None,
    ) -> None:
        self.density, self.x, self.y, self.weights = density, x, y, weights
        self.shares, self.noise, self.cells = shares, noise, cells
        self._recent: deque[Tensor] = deque(maxlen=smoothing)
        self._calls, self._every, self._last = 0, 1, 0

    def expect(self, calls: int) -> None:
        """Scores, of so many calls in all, every few ones, some :data:`MOST_SCORES`, and the last; without this, each."""
        every, self._last = max(1, calls // MOST_SCORES), calls
        if every != self._every:
            smoothing = -(-(self._recent.maxlen or 1) * self._every // every)
            self._every, self._recent = every, deque(self._recent, maxlen=smoothing)

    @property
    def begun(self) -> bool:
        """Whether a call was scored."""
        return bool(self._recent)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The NLL in nats a row of all members, :math:`L_R`, averaged over the last calls, one for each epoch.

        Returns:
            [R]: one number for all, NaN for those whose density is not finite, and where a call is not scored.
        """
        self._calls += 1
        if self._calls % self._every and self._calls != self._last:
            return torch.full(self.x.shape[:1], torch.nan, device=self.x.device)
        components, groups = self.finite()
        nll = torch.full(self.x.shape[:1], torch.nan, device=self.x.device)
        if groups:
            together = self._loss(components, groups)
            ahead = self.ahead(groups, 1.0)
            if ahead:
                gain = self._loss(components, *each_alone(groups)) - together
                together -= min(ahead * gain, MOST_GAIN)
            nll[[r for members in groups for r in members]] = together
        self._recent.append(nll)
        return torch.where(nll.isnan(), nll, torch.stack([*self._recent]).nanmean(0))

    @torch.no_grad()
    def tails(self) -> float:
        """The factor of the degrees of freedom beyond 2, see :func:`with_tails`, with the lowest loss; 1 for other families.

        Errors at rows that a network trained on are smaller than at new ones, and have other tails.
        """
        components, groups = self.finite()
        if not groups or with_tails(components, 2.0) is components:
            return 1.0

        def nll(log_factor: float) -> float:
            return self._best(with_tails(components, math.exp(log_factor)), groups)[0]

        bounds = (math.log(HEAVIEST), math.log(LIGHTEST))
        found: Any = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 0.2})
        return math.exp(float(found.x)) if found.fun < nll(0.0) else 1.0

    @torch.no_grad()
    def factor(self, tails: float = 1.0) -> float:
        r"""The spread :math:`\tau` for the mixture of all members, of which only a few hold out a row.

        The squared error of a mean of j members, and their spread about it, are linear in 1/j. Of a mixture with these
        moments :math:`\tau_j^2` is so, too; by the NLL it falls further, and is taken as linear in :math:`j^{-0.6}`. So
        :math:`\tau_1`, by each member alone, and :math:`\tau_m`, by the m that hold a row out, give :math:`\tau_R` for all R.
        """
        components, groups = self.finite()
        if not groups:
            return 1.0
        components = with_tails(components, tails)
        _, together = self._best(components, groups)
        ahead = self.ahead(groups)
        if not ahead:
            return together
        _, alone = self._best(components, *each_alone(groups))
        return min(max(spread_of_all(alone, together, ahead), NARROWEST), WIDEST)

    @torch.no_grad()
    def nll(self, tails: float = 1.0) -> float:
        """The NLL in nats a row of the members that are new to each row, at the best spread; infinite if none is finite."""
        components, groups = self.finite()
        return self._best(with_tails(components, tails), groups)[0] if groups else math.inf

    @torch.no_grad()
    def of_each(self) -> Tensor:
        """The NLL in nats a row of each member by itself, [R], at the spread that is best for all of them.

        Infinite where a density is not finite, NaN where all rows that a member holds out have weight 0.
        """
        components, groups = self.finite()
        nll = torch.full(self.x.shape[:1], torch.inf, device=self.x.device, dtype=torch.float64)
        if groups:
            alone = [r for members in groups for r in members]
            spread = self._best(components, *each_alone(groups))[1]
            log_prob = log_density(widened(components, spread), self.y)  # [R, v]
            mean = (log_prob.double() * self.weights).sum(-1) / self.weights.sum(-1)
            nll[alone] = -mean[alone]
        return nll

    @torch.no_grad()
    def fewest_draws(self, noise: Tensor, most: int) -> int:
        """The fewest draws of the embedding whose loss is as low as that of many, up to a thousandth of a nat.

        Few layers see the difference between an embedding and its mean, and each draw costs a pass through what follows.

        Args:
            noise: of many draws, see :func:`member_densities`; each pair of them is antithetic.
            most: the largest number that may be chosen.

        Returns:
            0 for the embedding's mean, or a power of two, or ``most``.
        """
        x, y, weights = (values[:, :DRAWS_ROWS] for values in (self.x, self.y, self.weights))

        def loss(draws: int) -> float:
            score = HeldOut(self.density, x, y, weights, self.shares, noise[:draws] if draws else None)
            components, groups = score.finite()
            return score._best(components, groups)[0] if groups else math.nan

        bound, draws = loss(len(noise)) + DRAWS_TOLERANCE, 0
        while draws < most and not loss(draws) <= bound:
            draws = min(2 * draws or 2, most)
        return draws

    def finite(self) -> tuple[Any, list[list[int]]]:
        """The densities of the held-out rows, and the members of each share whose density is finite."""
        with alone(), pyro.validation_enabled(False):  # one switch for all threads; a member may not be finite
            components = member_densities(self.density, self.x, self.noise)
        finite = components.log_prob(self.y).isfinite().all(-1).all(0).tolist()  # [S, R, v] to [R]
        groups = [[r for r in range(g, len(finite), self.shares) if finite[r]] for g in range(self.shares)]
        return components, [members for members in groups if members]

    def ahead(self, groups: list[list[int]], power: float = AVERAGING) -> float:
        """The factor by which the gain from one member to m is extrapolated to the gain from m to all R.

        It takes a score to be linear in m to the power of minus ``power``; 0 where m is 1 or R.
        """
        m = len(groups) / sum(1 / len(members) for members in groups)
        few, all_of_them = (count**-power for count in (m, sum(len(members) for members in groups)))
        return 0.0 if m == 1 else (few - all_of_them) / (1 - few)

    def log_score(self, components: Any, y: Tensor) -> Tensor:
        """The log density of targets [R, v, *event] by each member, [R, v], or the score of their cells."""
        return log_density(components, y) if self.cells is None else self.cells.log_density(components, y)

    def _loss(self, components: Any, groups: list[list[int]], counting: Sequence[float] | None = None) -> float:
        """The loss of the mixtures over groups of members, at the spread with the lowest NLL."""
        nll, spread = self._best(components, groups, counting)
        if self.cells is None:
            return nll
        score = of_groups(self.log_score(widened(components, spread), self.y), groups)
        return -float((score * self._weights(groups, counting)).sum())

    def _weights(self, groups: list[list[int]], counting: Sequence[float] | None) -> Tensor:
        """The weights of the rows of groups, of sum 1; ``counting`` is that of each group's rows, one by default."""
        each = [1.0] * len(groups) if counting is None else counting
        rows = [self.weights[members[0]] * count for members, count in zip(groups, each, strict=True)]
        weights = torch.cat(rows).double()
        return weights / weights.sum()

    def _best(
        self, components: Any, groups: list[list[int]], counting: Sequence[float] | None = None
    ) -> tuple[float, float]:
        """The lowest NLL of the mixtures over groups of members, and the factor of the spread that gives it."""
        weights = self._weights(groups, counting)
        places = [torch.tensor(members, device=weights.device) for members in groups]

        def nll(log_factor: float) -> float:
            p = components if log_factor == 0 else widened(components, math.exp(log_factor))
            return -float((of_groups(log_density(p, self.y), places) * weights).sum())

        plain = nll(0.0)
        if not _can_widen(components):
            return plain, 1.0
        bounds = (math.log(NARROWEST), math.log(WIDEST))
        found: Any = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-2})
        return (float(found.fun), math.exp(float(found.x))) if found.fun < plain else (plain, 1.0)


def _can_widen(p: Any) -> bool:
    while isinstance(p, dist.Independent):
        p = p.base_dist
    return widened(p, 2.0) is not p
