"""The choice of a likelihood: which heads may fit a kind of target, and which of them held-out rows speak for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.estimators.targets.kinds import Kind, kind_of

__all__ = ["CANDIDATES", "Choice", "choose", "describe", "pilot_epochs"]

Array = npt.NDArray[np.float64]

#: Kind of target -> the heads that are tried, the one that fits it by nature first. A single one is taken untried.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "real": ("student-t",),
    "count": ("negative-binomial", "student-t"),
    "positive": ("log-normal", "student-t"),
    "amount": ("hurdle", "student-t"),
    "share": ("zero-one-beta", "student-t"),
}
#: With fewer distinct rows none can be kept aside to choose by, and the first head is taken.
FEWEST_ROWS = 60
#: With fewer rows two values may be a small sample of many, and for 0 and 1 there is a warning; with more they are refused.
FEWEST_OF_TWO = 40
#: Rows kept aside, one in so many; members, and steps, of each trial.
KEPT_ASIDE, MEMBERS, STEPS = 4, 2, 200
#: A lead in nats a row that heads may make up by twice as many steps. (On the training rows of yacht's 20 published splits the
#: log-normal head was ahead once, by 0.13, else behind by 0.11 to 0.89; of twice the steps always behind, by 0.16 to 0.88.)
DOUBT = 0.2
#: The share of zeros beyond that of a negative binomial from which a head with more zeros is tried.
MORE_ZEROS = 0.05
#: Another head has to be better by so many nats a row than the one that fits the kind by nature.
MARGIN = 0.01


@dataclass(frozen=True)
class Choice:
    """A likelihood and what the targets say of themselves, of all d_y targets.

    Attributes:
        likelihood: a name in ``LIKELIHOODS``, or what makes a head.
        unit: one of the likelihood's observations in units of the targets; 1 for all but percentages.
        grid: distance of the values that each target can take, 0 for a continuous one, [d_y].
        lower, upper: bounds of each target, None where there is none, [d_y].
    """

    likelihood: Any
    unit: float
    grid: tuple[float, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]


def describe(y: Array, likelihood: Any, kinds: list[Kind] | None = None) -> Choice:
    """The choice of a likelihood that is given; targets that are not of its kind have no part in the units."""
    kinds = kinds or [kind_of(column) for column in y.T]
    unit = kinds[0].unit if likelihood == "zero-one-beta" and all(kind.name == "share" for kind in kinds) else 1.0
    return Choice(
        likelihood,
        unit,
        tuple(kind.grid for kind in kinds),
        tuple(kind.lower for kind in kinds),
        tuple(kind.upper for kind in kinds),
    )


def choose(y: Array, score: Callable[[str, int], float], kinds: list[Kind] | None = None) -> Choice:
    """Chooses the likelihood of targets.

    Heads are compared by the interval NLL of rows that are kept aside, so that no density gains by spikes that are narrower
    than the grid of the targets. After few steps heads that learn at different speeds may be in another order than after
    many: those that are close behind the best are tried once more, with twice as many, and the best, too, if that brings one
    past it. Several targets that are not of one kind are real.

    Args:
        y: targets of distinct rows, [n, d_y].
        score: the mean interval NLL, in nats a row, of a short fit with a head, by its name, of so many steps; infinite if it
            cannot be fitted.
        kinds: of the targets, where more is known of them than their values say.

    Raises:
        ValueError: for a target of two values.

    References:
        Bishop, 2006, "Pattern recognition and machine learning", section 1.3, on held-out rows for the choice of a model.
    """
    kinds = kinds or [kind_of(column) for column in y.T]
    for column, kind in enumerate(kinds):
        if kind.name == "binary":
            low, high = np.unique(y[:, column])
            which = "y" if len(kinds) == 1 else f"target {column} of y"
            sentence = (
                f"{which} has two values alone, {low:g} and {high:g}, expected a number to regress. Try "
                "ProbMixClassifier, which gives their probabilities, or likelihood='student-t' if they are amounts."
            )
            if len(y) >= FEWEST_OF_TWO:
                raise ValueError(sentence)
            if (low, high) == (0, 1):
                warnings.warn(sentence, UserWarning, stacklevel=2)
    name = kinds[0].name if len({(kind.name, kind.unit) for kind in kinds}) == 1 else "real"
    candidates = CANDIDATES.get(name, CANDIDATES["real"])
    if name == "count" and _has_more_zeros(y):
        candidates = (candidates[0], "zero-inflated-negative-binomial", *candidates[1:])
    if len(candidates) == 1 or len(y) < FEWEST_ROWS:
        return describe(y, candidates[0], kinds)
    scores = {name: score(name, STEPS) for name in candidates}
    leader, close = min(scores, key=scores.__getitem__), _within(DOUBT, scores)
    # One that is behind may learn more slowly. If twice the steps do not bring any past the leader, there is no more to ask.
    later = {name: score(name, 2 * STEPS) for name in close if name != leader}
    if later and min(later.values()) < scores[leader]:
        later[leader] = score(leader, 2 * STEPS)
        scores = {name: later[name] for name in close}
    # The head that keeps to the target's values is taken unless another one is better by more than the margin.
    return describe(y, _within(MARGIN, scores)[0], kinds)


def _within(lead: float, scores: dict[str, float]) -> list[str]:
    """The names whose score is no further than the lead above the lowest, in their order."""
    lowest = min(scores.values())
    return [name for name, found in scores.items() if found <= lowest + lead]


def _has_more_zeros(y: Array) -> bool:
    """Whether counts have more zeros, by :data:`MORE_ZEROS`, than a negative binomial distribution of their moments."""
    mean, variance = y.mean(), y.var()
    count = mean**2 / max(variance - mean, 1e-9 * mean)
    expected = np.exp(-count * np.log1p(mean / count))
    return bool((y == 0).mean() > expected + MORE_ZEROS)


def pilot_epochs(rows: int, batch_size: int | None, steps: int) -> int:
    """Passes over so many rows that make about so many steps."""
    size = batch_size or 32
    return max(1, -(-steps // max(1, -(-rows // size))))
