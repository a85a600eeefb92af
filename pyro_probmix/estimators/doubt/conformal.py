"""Conformal intervals: central intervals of a density whose level is set by how held-out rows lie in theirs."""

from __future__ import annotations

__all__ = ["HeldOutScores"]

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.inference.predictive.families import Family, columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Halvings of the bracket of an end, at most; of counts as many as it takes to an integer.
HALVINGS = 36


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    r"""How conforming the held-out rows are, each by the density of the members that held it out.

    Row i of share k(i) has the score

    .. math:: t_i = \min(1,\, 2 F_{k(i)}(y_i \mid x_i),\, 2 \bar F_{k(i)}(y_i \mid x_i)),
        \qquad F = P(Y \le y),\ \bar F = P(Y \ge y),

    the largest tail outside of a central interval that still has the row inside.

    Attributes:
        scores: t, of each target by itself, [n, d_y].
        weights: of the rows, above 0, [n].
        share: the share that a row is in, from 0, [n].
        members: the share that each member holds out; -1 for one that has seen its own, [R].
        rows: digest of the rows that were dealt; empty for rows given for validation.
    """

    scores: Array
    weights: Array
    share: Integers
    members: Integers
    rows: str = ""

    @classmethod
    def of(cls, components: Any, y: Array, weights: Array, groups: Sequence[Sequence[int]]) -> HeldOutScores | None:
        """The scores of the rows that members hold out.

        Args:
            components: densities of the held-out rows, batch shape [S, R, v], event shape (d_y,).
            y: their targets, [R, v, d_y].
            weights: of the rows, [R, v].
            groups: the members of each share, which all hold out the same rows; none where no member is fit to score them.

        Returns:
            None where no share has a member, or the family of the density has no known distribution function.
        """
        try:
            family = family_of(marginals_of(components))
        except TypeError:
            return None
        by_member = _by_member(family, components)
        members = np.full(components.batch_shape[1], -1)
        scores, share = [], []
        for k, group in enumerate(groups):
            if group:
                values = y[group[0]]
                parameters = [v[:, list(group)].reshape(-1, values.size) for v in by_member]
                tails = np.minimum(_cdf(family, values.ravel(), parameters), _sf(family, values.ravel(), parameters))
                scores.append(np.minimum(2 * np.nan_to_num(tails), 1.0).reshape(values.shape))
                share.append(np.full(len(values), k))
                members[list(group)] = k
        if not scores:
            return None
        kept = [weights[group[0]] for group in groups if group]
        return cls(np.concatenate(scores), np.concatenate(kept), np.concatenate(share), members)

    def warn_of_few(self, coverage: float) -> None:
        """Warns if there are too few rows for any finite interval of that coverage."""
        if self._needed(coverage) < 0:
            fewest = int(np.ceil(coverage / (1 - coverage) * (1 - 1e-12)))
            warnings.warn(
                f"{len(self.scores)} held-out rows are too few for a conformal interval of coverage {coverage:g}, which takes "
                f"at least {fewest} of equal weights: it has the ends of the support, which may be infinite. Try a smaller "
                "coverage, or more rows.",
                UserWarning,
                stacklevel=4,
            )

    def interval(self, mixture: PredictiveMixture, coverage: float) -> Array:
        r"""The conformal interval of each target, in the units of the components.

        .. math::
            \left[\min\{y: \textstyle\sum_i w_i 1[t_i \le 2 F_{k(i)}(y)] > c\},\
            \max\{y: \textstyle\sum_i w_i 1[t_i \le 2 \bar F_{k(i)}(y)] > c\}\right],
            \qquad c = \alpha (W + w) - w

        with :math:`\alpha = 1 -` coverage, W the sum of the weights and w that of a new row, :math:`\sum w_i^2 / W`, which is 1
        for equal ones.

        Args:
            mixture: of n rows, its components' batch shape [S, R, n] and event shape (d_y,).
            coverage: in (0, 1).

        Returns:
            [n, d_y, 2].

        Raises:
            TypeError: for a family that has no known distribution function.

        References:
            Barber, Candès, Ramdas and Tibshirani, 2021, "Predictive inference with the jackknife+", section 3; Gupta,
            Kuchibhotla and Ramdas, 2022, "Nested conformal prediction and quantile out-of-bag ensemble methods", section 3, for
            other scores than residuals; Chernozhukov, Wüthrich and Zhu, 2021, "Distributional conformal prediction", for
            scores by the distribution function.
        """
        family = family_of(marginals_of(mixture.components))
        by_member = _by_member(family, mixture.components)
        num_targets = self.scores.shape[1]
        columns = by_member[0].shape[-1]
        shares = [
            _Share(family, [v[:, self.members == k].reshape(-1, columns) for v in by_member], *self._sorted(int(k)))
            for k in np.unique(self.share)
        ]
        # Members that stand for failed ones have no part in it.
        everybody = [v[:, self.members >= 0].reshape(-1, columns) for v in by_member]
        needed = self._needed(coverage)
        tail = self._pooled_tail(needed)[np.arange(columns) % num_targets]
        with np.errstate(all="ignore"):
            inside = (family.ppf(tail / 2, *everybody), family.isf(tail / 2, *everybody))
            ends = (inside[0].min(0), inside[0].max(0)), (inside[1].max(0), inside[1].min(0))
        found = np.stack(
            [
                ends[0][0] if needed < 0 else _outermost(family, shares, needed, *ends[0], upper=False),
                ends[1][0] if needed < 0 else _outermost(family, shares, needed, *ends[1], upper=True),
            ],
            -1,
        )
        return found.reshape(-1, num_targets, 2)

    def _needed(self, coverage: float) -> float:
        """The weight c that more than has to be reached; up by what rounding may take, so that it is never too little."""
        total = float(self.weights.sum())
        new = float((self.weights**2).sum()) / total
        needed = (1 - coverage) * (total + new) * (1 + 1e-12) - new
        return 0.0 if abs(needed) <= 1e-9 * new else needed

    def _pooled_tail(self, needed: float) -> Array:
        """The smallest score at which the rows of all shares together reach the weight; 0 where none is asked for, [d_y]."""
        if needed < 0:
            return np.zeros(self.scores.shape[1])
        order = np.argsort(self.scores, axis=0, kind="stable")
        reached = self.weights[order].cumsum(0) > needed
        tail: Array = np.take_along_axis(self.scores, order, 0)[reached.argmax(0), np.arange(self.scores.shape[1])]
        return tail

    def _sorted(self, share: int) -> tuple[Array, Array]:
        """Scores of a share in their order, [v, d_y], and the weights up to each, from none on, [v + 1, d_y]."""
        scores, weights = self.scores[self.share == share], self.weights[self.share == share]
        order = np.argsort(scores, axis=0, kind="stable")
        reached = np.concatenate([np.zeros((1, scores.shape[1])), weights[order].cumsum(0)])
        return np.take_along_axis(scores, order, 0), reached


@dataclass(frozen=True, eq=False)
class _Share:
    """The density of new rows by the members of one share, and the scores of its held-out rows.

    Attributes:
        parameters: each [M, columns].
        scores, reached: see :meth:`HeldOutScores._sorted`.
    """

    family: Family
    parameters: list[Array]
    scores: Array
    reached: Array

    def weight(self, y: Array, upper: bool) -> Array:
        """The weight of the held-out rows that are no more conforming than y in one tail, [columns]."""
        level = 2 * (_sf if upper else _cdf)(self.family, y, self.parameters)
        found, num_targets = np.empty(len(y)), self.scores.shape[1]
        for t in range(num_targets):
            place = np.searchsorted(self.scores[:, t], level[t::num_targets], side="right")
            found[t::num_targets] = self.reached[place, t]
        return found


def _outermost(family: Family, shares: list[_Share], needed: float, out: Array, inner: Array, *, upper: bool) -> Array:
    """The outermost values, [columns], at which the shares reach the weight, between an outer and an inner one."""

    def reaches(y: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(sum(share.weight(y, upper) for share in shares) > needed)

    sign = 1.0 if upper else -1.0
    # A score of 0, of a row so far out that its tail has no number, asks for the whole support.
    whole, far = ~(np.isfinite(out) & np.isfinite(inner)), out
    out, inner = np.where(whole, 0.0, out), np.where(whole, 0.0, inner)
    if family.discrete:
        out, inner = out + 2 * sign, inner - sign
    else:
        inner = np.where(reaches(out), out, inner)
    for _ in range(HALVINGS):
        if family.discrete and not (np.abs(out - inner) > 1).any():
            break
        middle = np.floor((out + inner) / 2) if family.discrete else out + (inner - out) / 2
        good = reaches(middle)
        inner, out = np.where(good, middle, inner), np.where(good, out, middle)
    return np.where(whole, far, inner)


def _by_member(family: Family, components: Any) -> list[Array]:
    """The parameters of each member, [M, R, columns]: draws and inner components are mixed over."""
    columns = columns_of(family, components, 1)
    return [values.reshape(len(values), components.batch_shape[1], -1) for values in columns]


def _cdf(family: Family, y: Array, parameters: list[Array]) -> Array:
    """P(Y <= y) of mixtures with parameters [M, columns], [columns]."""
    with np.errstate(all="ignore"):  # at the ends of the support
        found: Array = family.cdf(y, *parameters).mean(0)
    return np.select([y == -np.inf, y == np.inf], [0.0, 1.0], found)


def _sf(family: Family, y: Array, parameters: list[Array]) -> Array:
    """P(Y >= y) of mixtures with parameters [M, columns], [columns]."""
    below = y - 1 if family.discrete else np.nextafter(y, -np.inf) if family.points else y
    with np.errstate(all="ignore"):
        found: Array = family.sf(below, *parameters).mean(0)
    return np.select([y == -np.inf, y == np.inf], [1.0, 0.0], found)
