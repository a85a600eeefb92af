"""The rows that an estimator learns from: distinct ones with weights, dealt into shares that members hold out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Rows", "Scaler", "deal"]

Array = npt.NDArray[np.float64]

#: Of fewer rows, two different values do not tell that a column has no third.
FEWEST_TO_TELL = 10
#: Weights of a larger sum are no numbers of rows.
MOST_ROWS = 2.0**53
#: Rows that another one equals in all features but one, beside those that were given again: where they are more, features have
#: few values, and rows with the same ones are no copies.
MOST_NEAR = 0.2
#: In tables of more numbers than this no copies are looked for, as no neighbors are.
MOST_COMPARED = 2_000_000
#: With fewer distinct rows none are held out.
FEWEST_HELD_OUT_OF = 20


@dataclass(frozen=True, eq=False)
class Rows:
    """Distinct rows with weights, sorted, so that a fit depends on how often each occurs, and on nothing else.

    A row of weight 3, a row given three times, and rows in another order are then one and the same data set, and no row
    is both trained on and held out.

    Attributes:
        x: features, [n, *row].
        y: targets, [n, d_y]; or classes, [n, 1], as numbers. Of a target that is not known itself a number that stands for it.
        weights: above 0, mean 1, [n].
        ends: what is known of the targets, first the lower ends of all, then the upper ones, [n, 2 d_y]; None where they are
            known themselves.
        count: the number of rows that were given, a row of a whole weight k counted k times.
        again: 1 for a row that was given more often than most and is the only one with its features, -1 for one whose features
            others have with other targets, else 0, [n]; all 0 where features are of few values, so that rows have the same ones
            by chance or design; None where nothing of this is known.
    """

    x: Array
    y: Array
    weights: Array
    ends: Array | None = None
    count: float = 0.0
    again: Array | None = None

    @classmethod
    def distinct(cls, x: Array, y: Array, weights: Array | None, ends: Array | None = None) -> Rows:
        """Merges equal rows, and leaves out those of weight zero."""
        weights = np.ones(len(x)) if weights is None else weights
        count = _count(weights)
        # By a power of two, which loses no digit: sums of large weights stay finite, of integers exact.
        weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        kept = weights > 0
        x, y, weights, ends = x[kept], y[kept], weights[kept], None if ends is None else ends[kept]
        known = y if ends is None else np.concatenate([y, ends], 1)
        features = x.reshape(len(x), -1)
        features = np.where(np.isnan(features), np.inf, features)  # two gaps are equal; no value is infinite
        table = np.concatenate([features, known], axis=1) + 0.0  # -0.0 becomes 0.0
        order = np.lexsort(table.T[::-1])
        table = table[order]
        first = np.flatnonzero(np.concatenate([[True], (table[1:] != table[:-1]).any(1)]))
        total = np.add.reduceat(weights[order], first)
        rows = order[first]
        again = _given_again(table[first, : features.shape[1]], total, float(weights.min()))
        ends = None if ends is None else ends[rows] + 0.0
        return cls(x[rows] + 0.0, y[rows] + 0.0, total / total.mean(), ends, count, again)

    @property
    def observed(self) -> Array:
        """What a density is held against: the targets, [n, d_y], or the ends between which they are known to be, [n, 2 d_y]."""
        return self.y if self.ends is None else self.ends

    def by_ends(self) -> Rows:
        """The same rows with ends, which are the target itself where it is known."""
        return self if self.ends is not None else replace(self, ends=np.concatenate([self.y, self.y], axis=1))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """The rows all of whose targets are known themselves, [n]."""
        if self.ends is None:
            return np.ones(len(self), dtype=bool)
        low, high = np.split(self.ends, 2, axis=1)
        return np.asarray((low == high).all(1))

    @property
    def equal(self) -> bool:
        """Whether all rows weigh the same."""
        return bool((self.weights == self.weights[0]).all())

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """The rows at some positions, of any shape, which leads."""
        weights, ends = self.weights[rows], None if self.ends is None else self.ends[rows]
        again = None if self.again is None else self.again[rows]
        return Rows(self.x[rows], self.y[rows], weights, ends, self.count * float(weights.sum()) / len(self), again)


def _count(weights: Array) -> float:
    """The sum of whole weights, which are numbers of rows; of others the number of those above 0."""
    total = float(weights.sum())
    return total if total < MOST_ROWS and (weights == np.round(weights)).all() else float((weights > 0).sum())


def _given_again(features: Array, weights: Array, unit: float) -> Array:
    """See :class:`Rows`: of distinct rows, sorted, with the sums of their weights, of which one row given once had ``unit``.

    Weights that are no whole multiples of the least are no numbers of rows. As often as most rows are is once: of a table that
    was given k times in whole, and of one with a row of half the weight of the others.
    """
    times = weights / unit
    if features.size > MOST_COMPARED or not (
        times.max() < MOST_ROWS and (np.abs(times - np.round(times)) <= 1e-9 * times).all()
    ):
        return np.zeros(len(weights))
    counts = np.round(times)
    new = np.concatenate([[True], (features[1:] != features[:-1]).any(1), [True]])
    alone = new[1:] & new[:-1]
    again = np.where(alone, counts > np.median(counts), -1.0)
    given_again = int((again > 0).sum())
    by_design = given_again and _num_near(features[new[:-1]]) > MOST_NEAR * given_again
    return np.zeros(len(weights)) if by_design else again


def _num_near(features: Array) -> int:
    """The number of distinct rows that another row equals in all features but one.

    Columns with values that recur and say the same, such as a length and its square, count as one feature.
    """
    rng = np.random.default_rng(0)
    marks: dict[Any, npt.NDArray[np.uint64]] = {}
    for k, column in enumerate(features.T):
        _, first, codes = np.unique(column, return_index=True, return_inverse=True)
        codes = np.argsort(np.argsort(first))[codes]  # in the order in which the values appear, whatever they are
        same = codes.tobytes() if len(first) < len(codes) else k
        marks.setdefault(same, rng.integers(2**64, size=len(first), dtype=np.uint64)[codes])
    # A row's mark is the sum of its values': with 64 random bits different rows have different ones.
    each = list(marks.values())
    whole: Any = np.sum(each, axis=0, dtype=np.uint64)
    return sum(len(features) - len(np.unique(whole - one)) for one in each)


@dataclass(frozen=True, eq=False)
class Scaler:
    r"""The map :math:`v \mapsto (v / u - m) / s` of each column; the unit u keeps huge and tiny numbers in range.

    Attributes:
        unit: largest magnitude of the column, 1 if that is 0.
        mean, scale: weighted mean and standard deviation of the column in that unit; scale 1 where it is constant.
    """

    unit: Array
    mean: Array
    scale: Array

    @classmethod
    def fit(cls, values: Array, weights: Array, *, centre: bool = True, indicators: bool = False) -> Scaler:
        """Takes the scaling from rows [n, ..., d] and their weights [n]; ``centre=False`` divides by the mean magnitude.

        With ``indicators`` the scale of a column of two values is half their distance: divided by its standard deviation, an
        indicator that is nearly always 0 would be huge where it is 1.
        """
        flat = values.reshape(-1, values.shape[-1])
        share = np.repeat(weights, len(flat) // len(weights))[:, None] / len(flat) * len(weights) / weights.sum()
        unit = np.abs(flat).max(0)
        unit[unit == 0] = 1.0
        z = flat / unit
        if not centre:
            return cls(unit, np.zeros_like(unit), np.maximum((np.abs(z) * share).sum(0), np.finfo(np.float64).tiny))
        mean = (z * share).sum(0)
        constant = z.max(0) == z.min(0)
        # The mean of equal numbers may miss them by rounding: a constant column is compared, not measured.
        mean = np.where(constant, z[0], mean)
        scale = np.sqrt(np.maximum(((z - mean) ** 2 * share).sum(0), 0.0))
        if indicators and len(z) >= FEWEST_TO_TELL:
            low, high = z.min(0), z.max(0)
            scale = np.where(((z == low) | (z == high)).all(0), (high - low) / 2, scale)
        return cls(unit, mean, np.where(constant | (scale == 0), 1.0, scale))

    def blind(self) -> Scaler:
        """The scaling of such columns under which all rows are alike."""
        return Scaler(self.unit, self.mean, np.full_like(self.scale, 1e300))

    @classmethod
    def identity(cls, width: int) -> Scaler:
        """Leaves the values as they are."""
        return cls(np.ones(width), np.zeros(width), np.ones(width))

    def transform(self, values: Array) -> Array:
        """From the columns' units to standard units."""
        with np.errstate(over="ignore"):
            scaled: Array = (values / self.unit - self.mean) / self.scale
        return scaled

    @property
    def is_identity(self) -> bool:
        """Whether values stay as they are."""
        return bool((self.unit == 1).all() and (self.mean == 0).all() and (self.scale == 1).all())

    @property
    def offset(self) -> Array:
        """Standard zero in the columns' units."""
        return self.mean * self.unit

    @property
    def step(self) -> Array:
        """One standard unit in the columns' units."""
        return self.scale * self.unit


def deal(
    rows: Rows, fraction: float, members: int, classes: bool, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int] | None:
    """Deals the rows into shares, and says for each member which rows it trains on and which it holds out.

    Member r holds out share r, from the first again where there are more members than shares. The shares are equal in
    size, and of classes each has its part as far as that goes.

    Args:
        rows: n distinct rows.
        fraction: size of a share, above 0; so that they are equal, one over a whole number.
        members: R.
        classes: whether ``y`` is a class.
        rng: deals.

    Returns:
        positions [R, n - v] and [R, v], and the number of different shares; None where there are too few rows for that.
    """
    n, shares = len(rows), round(1 / fraction)
    size = n // shares
    if n < FEWEST_HELD_OUT_OF or size < 1:
        return None
    order = rng.permutation(n)
    if classes:
        label = rows.y[order, 0]
        spread = np.empty(n)
        for value in np.unique(label):
            alike = label == value
            spread[alike] = (np.arange(alike.sum()) + rng.random()) / alike.sum()  # evenly along the order
        order = order[np.argsort(spread, kind="stable")]
    held = np.stack([np.sort(order[(r % shares) * size : (r % shares + 1) * size]) for r in range(members)])
    kept = np.stack([np.setdiff1d(np.arange(n), left_out) for left_out in held])
    return kept, held, min(shares, members)
