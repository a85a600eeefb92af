"""The pairs of alpha and beta that a method is trained with, together, as one more axis of replicas."""

from __future__ import annotations

__all__ = ["SETTINGS", "SINGLE", "Candidate", "candidates"]

from dataclasses import dataclass
from itertools import product

from pyro_probmix.experiments.config.config import Config
from pyro_probmix.inference.pseudo_rows import OF_ALPHA
from pyro_probmix.models import Method

SETTINGS = ("fixed", "paper", "relative", "chosen", "grid")
#: Those that take one alpha and one beta.
SINGLE = ("fixed", "paper", "relative")


@dataclass(frozen=True)
class Candidate:
    """One pair of alpha and beta that a method is trained with.

    Attributes:
        alpha, beta: see :class:`~pyro_probmix.experiments.config.config.Config`.
        start: the number of its initial weights, and of its pseudo-rows.
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

    There they differ in what the method uses. Without a fused site nothing depends on beta, and without pseudo-rows that are
    drawn by it, nothing on alpha: in the place of each value that would change nothing are other initial weights. For a method
    that fixes alpha, the alphas are scaled to that one.
    """
    alpha, beta = config.alpha if method.alpha is None else method.alpha, config.beta or 0.0
    if config.setting in SINGLE:
        return (Candidate(alpha, beta),)
    scale = alpha / config.alpha if config.setting == "chosen" else 1.0
    alphas = [scale * one for one in config.alphas]
    if config.setting == "grid" or method.site is not None:
        return tuple(Candidate(one, other) for other, one in product(config.betas, alphas))
    if method.pseudo_rows in OF_ALPHA:
        return tuple(Candidate(one, beta, start) for start, one in product(range(len(config.betas)), alphas))
    return tuple(Candidate(alpha, beta, start) for start in range(len(config.betas) * len(alphas)))
