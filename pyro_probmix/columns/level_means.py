"""Categories of many levels as numbers: the mean of the target among the rows of a level, drawn towards the mean of all."""

from __future__ import annotations

__all__ = ["LevelMeans"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Shares of the rows; the number of a row of the fit is of the rows outside its own share.
FOLDS = 5
#: A level is drawn to the mean of all rows as by so many rows of that mean, at least and at most.
LEAST_DRAWN, MOST_DRAWN = 1.0, 100.0
#: Standardised targets are cut off here, so that one far outlier does not decide on its level.
FARTHEST = 4.0


@dataclass(frozen=True)
class LevelMeans:
    r"""The shrunken mean of a standardised target for each level l of a category, :math:`S_l / (N_l + m)`.

    S and N are sum and number of the rows of a level; :math:`\log(1 + N_l)` is a further number. The m
    that is used weighs the variance within levels against that between them, as empirical Bayes does.
    A level without rows has 0 and the least of these numbers, a missing one 0 and 0.

    Attributes:
        means: for each target and level, [T][L].
        counts: the logarithms, [L].

    References:
        Micci-Barreca, 2001, "A preprocessing scheme for high-cardinality categorical attributes".

    Example:
        >>> level, y = np.array([0, 0, 0, 1, 1, 1.0]), np.array([[1, 1, 1, -1, -1, -1.0]]).T
        >>> means, own = LevelMeans.fit(level, y, np.ones(6), 3, seed=0)
        >>> means(np.array([0, 1, 2, -1.0, np.nan])).round(2).tolist()
        [[0.75, 1.39], [-0.75, 1.39], [0.0, 1.39], [0.0, 1.39], [0.0, 0.0]]
        >>> own.shape  # of the rows themselves, each without its own share
        (6, 2)
    """

    means: tuple[tuple[float, ...], ...]
    counts: tuple[float, ...]

    @classmethod
    def fit(cls, level: Array, y: Array, weights: Array, num_levels: int, seed: int) -> tuple[LevelMeans, Array]:
        """Takes the means from rows, and gives the numbers of these rows, each by the rows of other shares.

        Args:
            level: position of each row's level, [n]; below 0 or NaN for none.
            y: standardised targets, [n, T].
            weights: [n].
            num_levels: L.
            seed: deals the rows into shares.

        Returns:
            the means, and the numbers of the rows, [n, T + 1].
        """
        y = np.clip(y, -FARTHEST, FARTHEST)
        present = np.nan_to_num(level, nan=-1.0) >= 0
        at = np.where(present, np.nan_to_num(level), 0).astype(np.intp)
        weight = np.where(present, weights, 0.0)
        fold = np.random.default_rng(seed).permutation(len(level)) % min(FOLDS, len(level))
        number = np.zeros((fold.max() + 1, num_levels))
        np.add.at(number, (fold, at), weight)
        rows = number.sum(0)
        # A level without rows is as those of the fewest: training has seen no smaller number, and their means, each without
        # its own share, are near that of all.
        counts = np.log1p(np.where(rows > 0, rows, rows.min(where=rows > 0, initial=np.inf) if rows.any() else 0.0))
        means, own = [], []
        for target in y.T:
            total = np.zeros_like(number)
            np.add.at(total, (fold, at), weight * target)
            drawn = _drawn(target, at, weight, total.sum(0), number.sum(0))
            means.append(tuple((total.sum(0) / (number.sum(0) + drawn)).tolist()))
            others = (total.sum(0) - total) / (number.sum(0) - number + drawn)
            own.append(np.where(present, others[fold, at], 0.0))
        return cls(tuple(means), tuple(counts.tolist())), np.stack([*own, np.where(present, counts[at], 0.0)], 1)

    def __call__(self, level: Array) -> Array:
        """The numbers of rows, [n] to [n, T + 1]."""
        table = np.array([*self.means, self.counts]).T
        present = np.nan_to_num(level, nan=-1.0) >= 0
        found = table[np.where(present, np.nan_to_num(level), 0).astype(np.intp)]
        other = np.array([*(0.0 for _ in self.means), self.fewest]) * ~np.isnan(level)[:, None]
        return np.asarray(np.where(present[:, None], found, other))

    @property
    def fewest(self) -> float:
        """The number of a level that no row has."""
        return min(self.counts, default=0.0)


def _drawn(y: Array, at: npt.NDArray[np.intp], weight: Array, total: Array, number: Array) -> float:
    """The number of rows of the overall mean by which a level is drawn to it: variance within levels over that between."""
    filled = number > 0
    means = np.divide(total, number, out=np.zeros_like(total), where=filled)
    within = float((weight * (y - means[at]) ** 2).sum()) / max(float(number.sum() - filled.sum()), 1.0)
    if not number.sum():
        return LEAST_DRAWN
    between = float((number * means**2).sum() / number.sum()) - within * float(filled.sum() / number.sum())
    return float(np.clip(within / between, LEAST_DRAWN, MOST_DRAWN)) if between > 0 else MOST_DRAWN
