"""Numbers that look like codes for "missing" among a column's values: 999999, -999 or 1e6, far from all others."""

from __future__ import annotations

__all__ = ["code_for_missing", "warn_of_codes"]

import re
import warnings

import numpy as np
import numpy.typing as npt

from pyro_probmix.columns.schema import Schema
from pyro_probmix.names import shown

#: Numbers of nines, of at least two of them, or powers of ten from 1000 on.
_NINES, _POWERS = re.compile(r"9{2,}(\.9+)?"), re.compile(r"10{3,}")
#: A code lies farther from the other values than so many times their range.
FARTHER = 1.0
#: Of fewer other values nothing is said.
FEWEST = 10


def code_for_missing(values: npt.NDArray[np.float64]) -> tuple[float, int] | None:
    """The lowest or highest value of a column, and how often it is there, if it looks like a code for a missing value.

    Such a code is written with nines alone, or as one with zeros from 1000 on, and lies outside the other values by more than
    their whole range.

    Args:
        values: [n]; NaN are left out.

    Example:
        >>> ages = np.arange(20.0, 60.0)
        >>> code_for_missing(np.append(ages, [999, 999])), code_for_missing(np.append(ages, 99.5)), code_for_missing(ages)
        ((999.0, 2), None, None)
    """
    present = values[np.isfinite(values)]
    for code in (present.max(), present.min()) if len(present) > FEWEST else ():
        text = np.format_float_positional(abs(code), trim="-")
        if not (_NINES.fullmatch(text) or _POWERS.fullmatch(text)):
            continue
        others = present[present != code]
        if len(others) < FEWEST:
            continue
        high, low, far = (
            value / 4 for value in (others.max(), others.min(), code)
        )  # differences of huge ones overflow
        gap = min(abs(far - high), abs(far - low))
        if gap > FARTHER * (high - low) and len(others) > len(present) / 2:
            return float(code), int((present == code).sum())
    return None


def warn_of_codes(schema: Schema, numbers: npt.NDArray[np.float64], *, named: bool) -> None:
    """Warns of each column of numbers with a value that looks like a code for a missing one.

    Args:
        schema: of the columns.
        numbers: their rows, [n, d]; rows of more dimensions are passed over.
        named: whether the columns have names, not positions.
    """
    for k, column in enumerate(schema.columns if numbers.ndim == 2 else ()):
        found = code_for_missing(numbers[:, k]) if column.kind == "number" else None
        if found is not None:
            code, count = found
            name = shown(column.name) if named else f"{k} (counted from 0)"
            warnings.warn(
                f"column {name} holds {code:g} in {count} of {len(numbers)} rows, far from all its other values: it looks like "
                "a code for a missing value. Try NaN in its place.",
                UserWarning,
                stacklevel=5,
            )
