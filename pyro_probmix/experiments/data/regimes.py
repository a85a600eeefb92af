"""Harder versions of a table: fewer labelled rows, noise on the labels, test rows that lie elsewhere."""

from __future__ import annotations

__all__ = ["fewer_rows", "noisy", "shifted"]

import numpy as np

from pyro_probmix.experiments.data.tables import FloatArray, IntArray, Split, train_validation_split


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
            f"labelled_rows is {rows}, expected at most the {len(labelled)} rows that do not test. Try labelled_rows "
            f"{len(labelled)}."
        )
    chosen = np.random.default_rng(seed).permutation(np.sort(labelled))[:rows]
    train, validation = train_validation_split(rows, seed=seed)
    return Split(chosen[train], chosen[validation], split.test)


def shifted(x: FloatArray, split: Split, seed: int, share: float = 0.2) -> Split:
    """A split whose test rows are those that lie farthest along the inputs' first principal direction.

    Args:
        x: the features of all rows, [n, d].
        split: of the table, for the number of its rows that train.
        seed: of the rest's deal into rows that train and that validate.
        share: of the rows that test.
    """
    scale = x.std(0)
    standard = (x - x.mean(0)) / np.where(scale > 0, scale, 1.0)
    direction = np.linalg.svd(standard, full_matrices=False)[2][0]
    order: IntArray = np.argsort(standard @ direction, kind="stable")
    testing = max(1, round(share * len(x)))
    rest = np.sort(order[: len(x) - testing])
    train, validation = train_validation_split(len(rest), seed=seed)
    return Split(rest[train], rest[validation], np.sort(order[len(x) - testing :]))


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
