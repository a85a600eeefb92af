"""Verdicts: what the resamples say of a claim, with the error rate over all claims controlled."""

from __future__ import annotations

__all__ = ["LEVEL", "Finding", "Outcome", "Verdict", "decide"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Outcome = Literal["supported", "contradicted", "undecided", "not measured"]
BoolArray = npt.NDArray[np.bool_]

#: The probability of any wrong verdict among all claims of some results is at most so much (Holm).
LEVEL = 0.05
#: More runs than this are not counted out.
_MANY = 1_000_000


@dataclass(frozen=True, eq=False)
class Finding:
    """A claim on all resamples.

    Attributes:
        yes: where it holds, [1 + resamples]; first for the runs themselves.
        no: where it does not. Neither is true where data sets are missing that could change it.
        numbers: the numbers in words, a comparison a line.
        runs: over which it was resampled; 1 for none.
        shared: see :class:`~pyro_probmix.experiments.report.claims.resampling.Centres`.
    """

    yes: BoolArray
    no: BoolArray
    numbers: tuple[str, ...] = ()
    runs: int = 1
    shared: float = 0.0

    @property
    def p_value(self) -> float:
        """Two-sided: twice the share of resamples against the side on which most are."""
        return min(1.0, 2 * float(norm.sf(self.z_value)))

    @property
    def z_value(self) -> float:
        r"""How far the runs are from the other side, in standard errors, at least 0; bounded by the number of resamples.

        For splits of one table, which share rows, the standard error is that of independent splits times
        :math:`\sqrt{1 + J n_{test} / n_{train}}` (Nadeau and Bengio, 2003).
        """
        if len(self.yes) < 2:
            return 0.0
        against = min(np.count_nonzero(~self.yes[1:]), np.count_nonzero(~self.no[1:]))
        one_sided = min(0.5, (1 + int(against)) / len(self.yes))
        return float(norm.isf(one_sided)) / math.sqrt(1 + self.runs * self.shared)

    @property
    def outcome(self) -> Outcome:
        """The side on which most resamples are."""
        if len(self.yes) < 2:
            return "supported" if self.yes[0] else "contradicted" if self.no[0] else "undecided"
        yes, no = np.count_nonzero(self.yes[1:]), np.count_nonzero(self.no[1:])
        return "supported" if yes > no else "contradicted" if no > yes else "undecided"

    def runs_needed(self, claims: int) -> float:
        """About how many runs would decide it among so many claims, were the effect as it was found; infinite for none."""
        wanted, found = float(norm.isf(LEVEL / 2 / max(1, claims))), self.z_value
        if found <= 0:
            return math.inf
        # z^2 = effect * n / (1 + n * shared).
        effect = found**2 * (1 + self.runs * self.shared) / self.runs
        left = effect - wanted**2 * self.shared
        return math.inf if left <= 0 or wanted**2 / left > _MANY else math.ceil(wanted**2 / left)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    Attributes:
        outcome: decided, or not.
        numbers: one comparison a line.
        holds: whether it holds for the numbers as they are, however uncertain; None if they do not tell.
        runs: how many it rests on.
        needed: about how many runs would decide it, infinite for none; None where nothing is resampled.
    """

    outcome: Outcome
    numbers: tuple[str, ...] = ()
    holds: bool | None = None
    runs: int = 0
    needed: float | None = None


def decide(findings: Sequence[Finding | None]) -> list[Verdict]:
    """The verdicts on claims from their findings, None for one that is not measured.

    Holm's procedure (1979) keeps the probability of any wrong verdict at or below ``LEVEL``, however the claims depend on each
    other, as they do here: many are about the same runs. A share of false ones, as Benjamini and Hochberg's procedure controls,
    would not tell which of the verdicts stand.
    """
    tested = [found for found in findings if found is not None and len(found.yes) > 1]
    order = sorted(tested, key=lambda found: found.p_value)
    rejected: set[int] = set()
    for k, found in enumerate(order):
        if found.p_value > LEVEL / (len(order) - k):
            break
        rejected.add(id(found))
    return [_verdict(found, len(tested), rejected) for found in findings]


def _verdict(found: Finding | None, tested: int, rejected: set[int]) -> Verdict:
    if found is None:
        return Verdict("not measured")
    holds = True if found.yes[0] else False if found.no[0] else None
    if len(found.yes) < 2:
        return Verdict(found.outcome, found.numbers, holds, found.runs)
    outcome = found.outcome if id(found) in rejected else "undecided"
    return Verdict(outcome, found.numbers, holds, found.runs, found.runs_needed(tested))
