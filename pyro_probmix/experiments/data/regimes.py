"""Harder versions of a table: fewer labelled rows, noise on the labels, test rows that lie elsewhere."""

from __future__ import annotations

__all__ = ["BEYOND", "DRAWN", "fewer_rows", "noisy", "shifted"]

import numpy as np

from pyro_probmix.experiments.data.tables import FEWEST_ROWS, FloatArray, IntArray, Split, train_validation_split

#: The share of a table's rows that a split of a shift draws, and the share of these that test: with a half and a fifth as
#: many test as in a published split.
DRAWN = 0.5
BEYOND = 0.2


def fewer_rows(split: Split, rows: int, seed: int) -> Split:
    """A split with so many of its labelled rows, dealt anew: four fifths train and one validates. The test rows stay.

    Args:
        split: of a table.
        rows: how many to train and to validate with, together.
        seed: of the choice; a larger number of rows has the rows of a smaller one among it.

    Raises:
        ValueError: for more rows than there are.

    Example:
        >>> import numpy as np
        >>> split = fewer_rows(Split(np.arange(80), np.arange(80, 100), np.arange(100, 110)), 25, seed=0)
        >>> len(split.train), len(split.validation), len(split.test)
        (20, 5, 10)
    """
    labelled = np.concatenate([split.train, split.validation])
    if rows > len(labelled):
        raise ValueError(
            f"labelled_rows is {rows}, expected at most the {len(labelled)} rows that a split has beside those that test. Try "
            f"labelled_rows {len(labelled)}."
        )
    chosen = np.random.default_rng(seed).permutation(np.sort(labelled))[:rows]
    train, validation = train_validation_split(rows, seed=seed)
    return Split(chosen[train], chosen[validation], split.test)


def shifted(x: FloatArray, seed: int) -> Split:
    """A split of a random half of the rows, of which the fifth that lies farthest along one direction tests.

    The direction is the first principal one of all rows' inputs, each scaled to a standard deviation of 1, and the same for
    every seed; its largest component is positive. The half is drawn for each seed, so that splits differ in their test rows,
    of which any two have about a half in common; the rows of the other half are left out.

    Args:
        x: the features of all rows, [n, d].
        seed: of the half, and of the deal of its other rows into those that train and those that validate.

    Example:
        >>> import numpy as np
        >>> split = shifted(np.arange(100.0)[:, None], seed=0)
        >>> len(split.train), len(split.validation), len(split.test)
        (32, 8, 10)
        >>> bool(split.test.min() > max(split.train.max(), split.validation.max()))
        True
    """
    rows = max(FEWEST_ROWS, round(DRAWN * len(x)))
    drawn: IntArray = np.sort(np.random.default_rng(seed).permutation(len(x))[:rows])
    order = drawn[np.argsort(_along(x)[drawn], kind="stable")]
    testing = max(1, round(BEYOND * rows))
    rest = np.sort(order[:-testing])
    train, validation = train_validation_split(len(rest), seed=seed)
    return Split(rest[train], rest[validation], np.sort(order[-testing:]))


def _along(x: FloatArray) -> FloatArray:
    """How far each row lies along the first principal direction, [n]."""
    scale = x.std(0)
    standard = (x - x.mean(0)) / np.where(scale > 0, scale, 1.0)
    direction = np.linalg.svd(standard, full_matrices=False)[2][0]
    # A direction has no sign of its own. Components that differ by rounding alone count as equal, of which the first decides.
    largest = np.argmax(np.abs(direction).round(6))
    return np.asarray(standard @ direction * np.sign(direction[largest]))


def noisy(y: FloatArray, scale: FloatArray, noise: float, df: float | None, seed: int) -> FloatArray:
    """Labels with noise: normal, or of Student's t with so many degrees of freedom, in multiples of a scale.

    Args:
        y: labels, [n, d_y].
        scale: of each column, [d_y]; that of the training rows.
        noise: the multiple.
        df: degrees of freedom; None is a normal.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=y.shape) if df is None else rng.standard_t(df, size=y.shape)
    return np.asarray(y + noise * scale * drawn)
