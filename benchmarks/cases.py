"""What is trained: a method, a network and its data, the same numbers for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALPHA",
    "FLOOR",
    "INITIAL_BIAS",
    "LEARNING_RATE",
    "METHODS",
    "Case",
    "Draws",
    "Problem",
    "make_draws",
    "make_problem",
]

Array = NDArray[np.float64]

#: The methods that the engines know. "M-sampled" is M-ProbMix with z drawn and nothing fused, to see what fusing costs.
METHODS = ("ERM", "Mix", "ProbMix", "M-sampled", "M-ProbMix")

ALPHA = 0.1
LEARNING_RATE = 0.005
#: The scales are softplus(...) + FLOOR; that of the embedding starts near softplus(INITIAL_BIAS).
FLOOR, INITIAL_BIAS = 1e-3, -3.0
FEATURES, EMBEDDING, HIDDEN = 8, 128, 32


@dataclass(frozen=True)
class Case:
    """One training step: R models of a method together, B rows for each.

    Attributes:
        method: one of ``METHODS``.
        replicas: R.
        batch_size: B, even.
        num_rows: rows of each model's training set.
    """

    method: str
    replicas: int
    batch_size: int
    num_rows: int

    def __str__(self) -> str:
        return f"{self.method}, R={self.replicas}, B={self.batch_size}"

    @property
    def fuses(self) -> bool:
        """Whether rows are fused with partners, so that a weight lambda is drawn."""
        return self.method not in ("ERM", "M-sampled")

    @property
    def embeds(self) -> bool:
        """Whether the embedding is a Gaussian that is drawn from."""
        return self.method.startswith("M-")

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each affine map of the network, MLP 8-128-32 with a Gaussian head."""
        sizes = {"encoder": (FEATURES, EMBEDDING), "decoder": (EMBEDDING, HIDDEN), "head": (HIDDEN, 2)}
        return sizes | {"scale": (EMBEDDING, EMBEDDING)} if self.embeds else sizes

    @property
    def steps_per_block(self) -> int:
        """Steps timed together: some tens of milliseconds, so that neither the clock nor one interruption decides."""
        return max(3, min(100, 15_000 // (self.replicas * self.batch_size + 100)))


class Draws(NamedTuple):
    """The random numbers of one step, for the check that the engines agree."""

    weight: Array  # lambda, [R, B]
    noise: Array  # standard normal, [R, B, width of the embedding]


class Problem(NamedTuple):
    """Data and initial weights of R models."""

    x: Array  # [R, n, d_x]
    y: Array  # [R, n, 1]
    rows: NDArray[np.int64]  # minibatches of distinct rows, [minibatches, R, B]
    weights: dict[str, Array]  # "<layer>.weight" [R, in, out] and "<layer>.bias" [R, 1, out]


def make_problem(case: Case, seed: int = 0, minibatches: int = 50) -> Problem:
    """Draws a regression problem, its minibatches and the initial weights of the networks."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((case.replicas, case.num_rows, FEATURES))
    y = np.sin(x.sum(-1, keepdims=True)) + 0.1 * rng.standard_normal((case.replicas, case.num_rows, 1))
    rows = rng.random((minibatches, case.replicas, case.num_rows)).argsort(-1)[..., : case.batch_size]
    weights = {}
    for layer, (fan_in, fan_out) in case.layers.items():
        bound = fan_in**-0.5
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, (case.replicas, fan_in, fan_out))
        weights[f"{layer}.bias"] = rng.uniform(-bound, bound, (case.replicas, 1, fan_out))
    return Problem(x, y, rows, weights)


def make_draws(case: Case, seed: int = 1) -> Draws:
    """Draws the random numbers of one step."""
    rng = np.random.default_rng(seed)
    # Away from the ends, where float32 cannot tell 1 - lambda from 1.
    weight = rng.beta(ALPHA, ALPHA, (case.replicas, case.batch_size)).clip(1e-6, 1 - 1e-6)
    return Draws(weight, rng.standard_normal((case.replicas, case.batch_size, EMBEDDING)))
