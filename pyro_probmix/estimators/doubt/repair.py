"""Repeats a training that ends worse than a density without features, in the end without the features."""

from __future__ import annotations

__all__ = ["Losses", "repaired"]

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

#: A model that is so many nats a row worse than a density without features, on the rows held out, is repaired.
WORSE = 0.1
#: After so many steps a model is past its beginnings, where it may be worse than that.
ENOUGH_STEPS = 1000
#: Fewer steps than this are a look at a model, by one who asked for no more.
FEWEST_STEPS = 50
#: A further try's learning rate, as a share of the first one's, and its largest.
SLOWER, LARGEST_RATE = 0.1, 0.005


@dataclass(frozen=True)
class Losses:
    """Losses on the held-out rows after a training, in nats a row.

    Attributes:
        nll: of the model.
        constant: of a density without features; None if that is not known.
        untrained: of the model before the first step.
        steps: that were made.
    """

    nll: float
    constant: float | None
    untrained: float
    steps: int

    @property
    def is_worse(self) -> bool:
        """Whether the model is worse than a density without features, and not for having been trained too little."""
        astray = self.steps >= ENOUGH_STEPS or not self.nll <= self.untrained + WORSE
        if self.constant is None or self.steps < min(FEWEST_STEPS, ENOUGH_STEPS):
            return False
        return astray and not self.nll <= self.constant + WORSE


class _Trained(Protocol):
    @property
    def losses(self) -> Losses | None: ...


T = TypeVar("T", bound=_Trained)


def repaired(attempt: Callable[[float, bool], T], rate: float) -> T:
    """The outcome of a training, or of a further one where it was worse than a density without features.

    First a smaller learning rate is tried. If that does not help, the density is learnt without features: it is that of the
    targets alone. Both are said in a warning.

    Args:
        attempt: trains from the same weights each time, by a learning rate, and without features if True.
        rate: the first learning rate.
    """
    found = attempt(rate, False)
    losses = found.losses
    if losses is None or not losses.is_worse:
        return found
    told = f"on the rows held out, the model's NLL is {losses.nll:.3g}, and that of a constant density {losses.constant:.3g}"
    again = attempt(min(SLOWER * rate, LARGEST_RATE), False)
    if again.losses is not None and not again.losses.is_worse:
        warnings.warn(
            f"{told} nats a row: it was trained again with a smaller learning rate, which ends at {again.losses.nll:.3g}. "
            "Try a smaller learning_rate, or columns without values far from all others.",
            UserWarning,
            stacklevel=5,
        )
        return again
    last = attempt(min(rate, LARGEST_RATE), True)
    warnings.warn(
        f"{told} nats a row, also with a smaller learning rate: the features are left out, and the density is that of the "
        "targets alone. Try other columns, or more rows.",
        UserWarning,
        stacklevel=5,
    )
    return last
