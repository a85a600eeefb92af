"""Calibration out of counts: PIT histograms, coverage of central intervals, reliability of classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binom

from pyro_probmix.experiments.report.numbers.reading import KEYS
from pyro_probmix.experiments.report.numbers.tidy import groups

__all__ = [
    "FEWEST",
    "PIT_BINS",
    "RELIABILITY_BINS",
    "band",
    "calibration_error",
    "coverage",
    "density",
    "is_classes",
    "pit_counts",
    "reliability",
]

FloatArray = npt.NDArray[np.float64]

#: Bins of the PIT in ``calibration.parquet``, equal parts of [0, 1].
PIT_BINS = 100
#: Bins of the confidence in the figures: the file's 100 hold few rows each.
RELIABILITY_BINS = 20
#: Rows that such a bin needs, all splits together, to be shown.
FEWEST = 20


def is_classes(calibration: pd.DataFrame) -> bool:
    """Whether the rows are counts of confidences of classes, not of the PIT."""
    return "confidence" in calibration and bool(calibration["confidence"].notna().any())


def pit_counts(calibration: pd.DataFrame) -> dict[tuple[str, ...], FloatArray]:
    """Counts of the PIT's bins, [100], summed over the splits, by KEYS.

    Raises:
        ValueError: for a bin outside 0 to 99, or a negative count.
    """
    wrong = calibration[~calibration["bin"].between(0, PIT_BINS - 1) | (calibration["count"] < 0)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f"the calibration counts of {row['method']} on {row['dataset']} hold bin {row['bin']} with count {row['count']}, "
            f"expected bins 0 to {PIT_BINS - 1} with counts of at least 0. Try running it anew."
        )
    summed = calibration.groupby([*KEYS, "bin"], sort=False, observed=True)["count"].sum().reset_index()
    return {
        key: np.bincount(part["bin"], weights=part["count"], minlength=PIT_BINS).astype(float)
        for key, part in groups(summed, KEYS)
    }


def density(counts: FloatArray, bars: int = 20) -> FloatArray:
    """The PIT's density over so many bars; 1 everywhere for a calibrated density.

    Args:
        counts: [100].
        bars: a divisor of 100.

    Example:
        >>> density(np.ones(100), bars=4)
        array([1., 1., 1., 1.])
    """
    heights: FloatArray = counts.reshape(bars, -1).sum(1) * bars / counts.sum()
    return heights


def band(count: float, share: float | FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Pointwise band of a share of independent rows: quantiles of Binomial(count, share) / count.

    Args:
        count: number of rows.
        share: the expected share.
        level: probability inside the band.

    Example:
        >>> [round(float(edge), 2) for edge in band(1000, 0.05)]
        [0.04, 0.06]
    """
    low, high = (binom.ppf(q, round(count), share) / count for q in ((1 - level) / 2, (1 + level) / 2))
    return np.asarray(low, dtype=float), np.asarray(high, dtype=float)


def coverage(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nominal levels of central intervals, and the share of rows inside each.

    Args:
        counts: of the PIT, [100]; the interval of level 1 - 2k/100 leaves out k bins on either side.

    Returns:
        levels 0.02 to 0.98 in steps of 0.02, and the shares, [49].

    Example:
        >>> levels, inside = coverage(np.ones(100))
        >>> bool(np.allclose(levels, inside))
        True
    """
    half = PIT_BINS // 2
    widths = np.arange(1, half)
    running = np.concatenate([[0.0], np.cumsum(counts)])
    inside = (running[half + widths] - running[half - widths]) / running[-1]
    return 2.0 * widths / PIT_BINS, inside


def calibration_error(counts: FloatArray) -> float:
    """Mean over the levels of |coverage - nominal|, from the PIT's counts.

    References:
        Kuleshov, Fenner and Ermon, 2018, section 3.5, with absolute differences for squares.
    """
    levels, inside = coverage(counts)
    return float(np.abs(inside - levels).mean())


def reliability(calibration: pd.DataFrame) -> pd.DataFrame:
    """Accuracy against confidence, over the rows of all splits.

    Args:
        calibration: KEYS, split, bin, count, correct (rows predicted right) and confidence (the mean probability of the
            predicted class over the bin's rows).

    Returns:
        KEYS, bin, count, ``accuracy``, ``confidence`` (mean), of those of ``RELIABILITY_BINS`` wider bins that hold at least
        ``FEWEST`` rows.

    Raises:
        ValueError: if more rows are right than there are, or a confidence lies outside 0 to 1.
    """
    rows = calibration[calibration["count"] > 0]
    wrong = rows[(rows["correct"] > rows["count"]) | ~rows["confidence"].between(0, 1 + 1e-6)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f"the calibration counts of {row['method']} on {row['dataset']} hold {row['count']:g} rows in bin {row['bin']}, "
            f"{row['correct']:g} right, with mean confidence {row['confidence']:g}, expected at most as many right, and a "
            "confidence of 0 to 1. Try running it anew."
        )
    wider = rows["bin"] // (PIT_BINS // RELIABILITY_BINS)
    rows = rows.assign(bin=wider, confidence=rows["confidence"] * rows["count"])  # summed over rows
    summed = rows.groupby([*KEYS, "bin"], sort=False, observed=True)[["count", "correct", "confidence"]].sum()
    summed = summed[summed["count"] >= FEWEST]
    shares = {"accuracy": summed["correct"] / summed["count"], "confidence": summed["confidence"] / summed["count"]}
    return summed.assign(**shares).reset_index()
