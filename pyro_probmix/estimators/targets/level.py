"""A spread at which central intervals hold the share of rows that they should, where the NLL does not mind."""

from __future__ import annotations

__all__ = ["narrowing"]

from collections.abc import Callable

from torch import Tensor

#: The central intervals that are looked at, what the NLL may lose in nats a row, and the factors of the spread that are tried.
COVERAGE, TOLERANCE, STEPS = 0.9, 0.005, (0.97, 0.94, 0.91, 0.88, 0.85)


def narrowing(log_prob: Callable[[float], Tensor], cdf: Callable[[float], Tensor], weights: Tensor) -> float:
    """The factor of the spread, at most 1, at which 90 % intervals hold nearest to 90 % of the rows.

    The spread with the lowest NLL reaches for the few largest errors, and its intervals often hold too many rows; a narrower
    one costs next to nothing.

    Args:
        log_prob, cdf: of the rows, [n], at a factor of the spread, of which 1 has the lowest NLL.
        weights: of the rows, of sum 1, [n].
    """

    def excess(factor: float) -> float:
        inside = (2 * cdf(factor) - 1).abs() <= COVERAGE
        return float((inside * weights).sum()) - COVERAGE

    least = float((log_prob(1.0) * weights).sum()) - TOLERANCE
    best, off = 1.0, excess(1.0)
    for factor in STEPS:
        if off <= 0 or not float((log_prob(factor) * weights).sum()) >= least:
            break
        now = excess(factor)
        if abs(now) < abs(off):
            best = factor
        off = min(off, now)
    return best
