"""Verdicts: what the resamples say of a claim, with the error rate over all claims controlled."""

from __future__ import annotations

__all__ = ["LEVEL", "Finding", "Outcome", "Verdict", "decide", "holm"]

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

Outcome = Literal["supported", "contradicted", "undecided", "not measured"]
BoolArray = npt.NDArray[np.bool_]

#: The probability with which methods that are alike are called different: in one comparison, or, by Holm's procedure, in any of
#: many, as among all claims of some results.
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
        r"""Two-sided, from the share of resamples against the side on which most are.

        That share is, on a normal scale, a number of standard errors, of which few runs give too many: resamples of n runs
        spread by :math:`\sqrt{(n - 1) / n}` too little, and n runs do not know their spread. So p is that of Student's t with
        n - 1 degrees of freedom, as for a mean.
        """
        if len(self.yes) < 2:
            return 1.0
        return _p_of_t(self.z_value, self.runs)

    @property
    def z_value(self) -> float:
        """How far the runs are from the other side, in standard errors, at least 0; see :attr:`unanimous`."""
        if len(self.yes) < 2:
            return 0.0
        return float(norm.isf(min(0.5, (1 + self._against) / len(self.yes))))

    @property
    def unanimous(self) -> bool:
        """Whether all resamples are on one side, so that the runs may be farther from the other than ``z_value`` says."""
        return len(self.yes) > 1 and self._against == 0

    @property
    def _against(self) -> int:
        return min(int(np.count_nonzero(~self.yes[1:])), int(np.count_nonzero(~self.no[1:])))

    @property
    def outcome(self) -> Outcome:
        """The side on which most resamples are."""
        if len(self.yes) < 2:
            return "supported" if self.yes[0] else "contradicted" if self.no[0] else "undecided"
        yes, no = np.count_nonzero(self.yes[1:]), np.count_nonzero(self.no[1:])
        return "supported" if yes > no else "contradicted" if no > yes else "undecided"

    def runs_needed(self, claims: int) -> float:
        """About how many runs would decide it among so many claims, were the effect as it was found; infinite for none.

        Where all resamples are on one side, no more than so many.
        """
        found, level = self.z_value, LEVEL / max(1, claims)

        def decided(runs: int) -> bool:
            # Of runs that share rows the standard error falls to a bound, see Centres.
            ratio = runs * (1 + self.runs * self.shared) / (self.runs * (1 + runs * self.shared))
            return _p_of_t(found * math.sqrt(ratio), runs) <= level

        return bisect_left(range(_MANY), True, lo=2, key=decided) if decided(_MANY) else math.inf


def _p_of_t(z: float, runs: int) -> float:
    """Two-sided p of so many standard errors, by the spread of resamples of so many runs."""
    return min(1.0, 2 * float(student.sf(z * math.sqrt((runs - 1) / runs), runs - 1)))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    Attributes:
        outcome: decided, or not.
        numbers: one comparison a line.
        holds: whether it holds for the numbers as they are, however uncertain; None if they do not tell.
        runs: how many it rests on.
        needed: about how many runs would decide it, infinite for none; None where nothing is resampled.
        at_most: whether ``needed`` is a bound, since all resamples are on one side.
    """

    outcome: Outcome
    numbers: tuple[str, ...] = ()
    holds: bool | None = None
    runs: int = 0
    needed: float | None = None
    at_most: bool = False


def holm(p: Sequence[float]) -> BoolArray:
    """Which of many differences are clear, with a probability of at most ``LEVEL`` of any wrong one among them (Holm, 1979).

    It holds however they depend on each other, as those of the same runs do. A share of false ones, as Benjamini and Hochberg's
    procedure controls, would not tell which of them stand.

    Args:
        p: of each, by itself.
    """
    order = np.argsort(p, kind="stable")
    clear = np.zeros(len(p), bool)
    clear[order] = np.minimum.accumulate(np.asarray(p)[order] <= LEVEL / (len(p) - np.arange(len(p))))
    return clear


def decide(findings: Sequence[Finding | None]) -> list[Verdict]:
    """The verdicts on claims from their findings, None for one that is not measured, by Holm's procedure over all of them."""
    tested = [found for found in findings if found is not None and len(found.yes) > 1]
    clear = holm([found.p_value for found in tested])
    rejected = {id(found) for found, is_clear in zip(tested, clear, strict=True) if is_clear}
    return [_verdict(found, len(tested), rejected) for found in findings]


def _verdict(found: Finding | None, tested: int, rejected: set[int]) -> Verdict:
    if found is None:
        return Verdict("not measured")
    holds = True if found.yes[0] else False if found.no[0] else None
    if len(found.yes) < 2:
        return Verdict(found.outcome, found.numbers, holds, found.runs)
    outcome = found.outcome if id(found) in rejected else "undecided"
    return Verdict(outcome, found.numbers, holds, found.runs, found.runs_needed(tested), found.unanimous)
