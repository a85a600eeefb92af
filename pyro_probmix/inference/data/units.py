"""Standard units of a table's columns, taken piece by piece."""

from __future__ import annotations

__all__ = ["Array", "Units"]

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Offset and scale of each column of a table.

    Attributes:
        mean, scale: in the columns' own units, [columns].
    """

    mean: Array
    scale: Array

    @classmethod
    def unchanged(cls, num_columns: int) -> Units:
        """The units in which the columns are given."""
        return cls(np.zeros(num_columns), np.ones(num_columns))

    @classmethod
    def standard(cls, num_columns: int, pieces: Iterable[tuple[slice, Array]]) -> Units:
        """The mean and the standard deviation of each column; a constant one is only centred.

        The moments of the pieces are merged in float64, which loses no digits to a large mean.

        Args:
            num_columns: of the table.
            pieces: some of its columns, and some rows of these, [rows, these columns]; all of them together once.

        References:
            Chan, Golub and LeVeque, 1983, "Algorithms for computing the sample variance".
        """
        count, mean, squares = (np.zeros(num_columns) for _ in range(3))
        least, most = np.full(num_columns, np.inf), np.full(num_columns, -np.inf)
        for columns, values in pieces:
            piece_mean = values.mean(0)
            before, after = count[columns], count[columns] + len(values)
            apart = piece_mean - mean[columns]
            squares[columns] += ((values - piece_mean) ** 2).sum(0) + apart**2 * before * len(values) / after
            mean[columns] += apart * len(values) / after
            count[columns] = after
            least[columns] = np.minimum(least[columns], values.min(0))
            most[columns] = np.maximum(most[columns], values.max(0))
        # Rounding leaves a constant column a mean beside its value and a deviation above 0: it is compared, not measured.
        constant = least == most
        return cls(np.where(constant, least, mean), np.where(constant, 1.0, np.sqrt(squares / count)))

    def same_as(self, other: Units) -> bool:
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.scale, other.scale)
