"""A learning rate that falls over a training whose length the held-out rows decide."""

from __future__ import annotations

__all__ = ["LITTLE_NOISE", "Annealing"]

import math

#: A held-out NLL below this one, in nats a row of the standardised targets, in the middle of a short training says that there
#: is little noise, and that more steps will go on to gain.
LITTLE_NOISE = -0.75


class Annealing:
    """Half a cosine of the learning rate, over a short training; over a longer one where its middle finds little noise.

    Args:
        short, long: their epochs.

    Attributes:
        end: the last epoch, as far as is known.
    """

    def __init__(self, short: int, long: int) -> None:
        self.short, self.middle, self.long = short, short // 2, long
        self.end = short

    def __call__(self, epoch: int) -> float:
        """The factor of the rate in an epoch, from 0."""
        done = epoch / self.short
        if self.end != self.short and epoch > self.middle:
            half = self.middle / self.short
            done = half + (1 - half) * (epoch - self.middle) / (self.end - self.middle)
        return 0.5 * (1 + math.cos(math.pi * done))

    def look(self, epoch: int, best: float) -> None:
        """Looks at the best held-out NLL so far, after an epoch, from 1."""
        if epoch == self.middle and best < LITTLE_NOISE:
            self.end = self.long
