"""The values of alpha and beta that a method is tried with; they train together, as one more axis of replicas."""

from __future__ import annotations

__all__ = ["Candidate", "candidates"]

from dataclasses import dataclass
from itertools import product

from pyro_probmix.experiments.config.config import Config
from pyro_probmix.models import Method

SETTINGS = ("fixed", "chosen", "grid")


@dataclass(frozen=True)
class Candidate:
    """One try of a method.

    Attributes:
        alpha, beta: see :class:`~pyro_probmix.experiments.config.config.Config`.
        start: number of the initial weights.
    """

    alpha: float
    beta: float
    start: int = 0

    @property
    def label(self) -> str:
        """What the results call it."""
        start = f" start={self.start}" if self.start else ""
        return f"alpha={self.alpha:g} beta={self.beta:g}{start}"


def candidates(config: Config, method: Method) -> tuple[Candidate, ...]:
    """What a configuration tries a method with; for the setting "chosen" the same number for each method.

    A method that fuses nothing has neither alpha nor beta: it is tried with other initial weights. One that sets an alpha of
    its own is tried around that one, as the others are around the run's.
    """
    own = config.alpha if method.alpha is None else method.alpha
    if config.setting == "fixed":
        return (Candidate(own, config.beta or 0.0),)
    scale = own / config.alpha if config.setting == "chosen" else 1.0
    pairs = [Candidate(scale * alpha, beta) for beta, alpha in product(config.betas, config.alphas)]
    if config.setting == "chosen" and method.site is None:
        return tuple(Candidate(config.alpha, config.beta or 0.0, start) for start in range(len(pairs)))
    return tuple(pairs)
