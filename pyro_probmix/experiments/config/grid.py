"""The pairs of alpha and beta that a method is trained with, together, as one more axis of replicas."""

from __future__ import annotations

__all__ = ["SETTINGS", "SINGLE", "Candidate", "candidates"]

from dataclasses import dataclass
from itertools import product

from pyro_probmix.experiments.config.config import Config
from pyro_probmix.models import Method

SETTINGS = ("fixed", "paper", "relative", "chosen", "grid")
#: Those that take one alpha and one beta.
SINGLE = ("fixed", "paper", "relative")


@dataclass(frozen=True)
class Candidate:
    """One pair of alpha and beta that a method is trained with.

    Attributes:
        alpha, beta: see :class:`~pyro_probmix.experiments.config.config.Config`.
        start: the number of its initial weights.
    """

    alpha: float
    beta: float
    start: int = 0

    @property
    def label(self) -> str:
        """Its name in the results."""
        start = f" start={self.start}" if self.start else ""
        return f"alpha={self.alpha:g} beta={self.beta:g}{start}"


def candidates(config: Config, method: Method) -> tuple[Candidate, ...]:
    """The candidates of a method under a configuration; for the setting "chosen" the same number for each method.

    A method that neither fuses nor mixes has neither alpha nor beta; its candidates are other initial weights. For a method
    that fixes alpha, the alphas are scaled to that one.
    """
    alpha = config.alpha if method.alpha is None else method.alpha
    if config.setting in SINGLE:
        return (Candidate(alpha, config.beta or 0.0),)
    scale = alpha / config.alpha if config.setting == "chosen" else 1.0
    pairs = [Candidate(scale * one, beta) for beta, one in product(config.betas, config.alphas)]
    if config.setting == "chosen" and method.site is None and method.pseudo_rows is None:
        return tuple(Candidate(config.alpha, config.beta or 0.0, start) for start in range(len(pairs)))
    return tuple(pairs)
