"""Paired differences of scores, and which of many can be told from chance; for the scripts of this folder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

#: The probability with which methods that are alike are called different: in one comparison, or, by Holm's procedure, in many.
LEVEL = 0.05


def of_mean(gains: pd.Series[float], shared: float = 0.0) -> tuple[float, float, float]:
    """The mean of paired differences, its standard error, and p of a mean of 0 by Student's t, two-sided.

    Args:
        gains: of each run.
        shared: test rows of a split in training rows, for runs that are splits of one table and share its rows (Nadeau and
            Bengio, 2003); 0 for runs that do not.
    """
    mean, error = float(gains.mean()), float(gains.std() * math.sqrt(1 / len(gains) + shared))
    return mean, error, float(2 * student.sf(abs(mean) / error, len(gains) - 1)) if error > 0 else float(mean == 0)


def holm(p: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which differences are clear, with a probability of at most ``LEVEL`` of any wrong one among them (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    clear = np.zeros(len(p), bool)
    clear[order] = np.minimum.accumulate(np.asarray(p)[order] <= LEVEL / (len(p) - np.arange(len(p))))
    return clear
