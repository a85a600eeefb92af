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
        draws: K, weights drawn for each row; more than one only for M-ProbMix.
        embeddings: S, fused embeddings drawn for each weight; likewise.
    """

    method: str
    replicas: int
    batch_size: int
    num_rows: int
    draws: int = 1
    embeddings: int = 1

    def __post_init__(self) -> None:
        if self.several and self.method != "M-ProbMix":
            raise ValueError(f"{self.method} got several draws, which are compared for M-ProbMix alone.")

    def __str__(self) -> str:
        several = f", K={self.draws}, S={self.embeddings}" if self.several else ""
        return f"{self.method}, R={self.replicas}, B={self.batch_size}{several}"

    @property
    def several(self) -> bool:
        """Whether there are dims for the draws, [..., S, K, B]."""
        return self.draws * self.embeddings > 1

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
    def drawn_rows(self) -> int:
        """Rows, over all models and draws, that the network is evaluated on downstream of the embedding."""
        return self.replicas * self.batch_size * self.draws * self.embeddings

    @property
    def flops(self) -> int:
        """Floating-point operations of a step's matrix products: an affine map's, and its two gradients'."""
        total = 0
        for layer, (fan_in, fan_out) in self.layers.items():
            rows = self.drawn_rows if layer in ("decoder", "head") else self.replicas * self.batch_size
            products = 2 if layer == "encoder" else 3  # no gradient goes on to the features
            total += products * 2 * rows * fan_in * fan_out
        return total

    @property
    def steps_per_block(self) -> int:
        """Steps timed together: some tens of milliseconds, so that neither the clock nor one interruption decides."""
        return max(1, min(100, 15_000 // (self.drawn_rows + 100)))


class Draws(NamedTuple):
    """The random numbers of one step, for the check that the engines agree."""

    weight: Array  # lambda, [R, K, B], without K if K = S = 1
    noise: Array  # standard normal, [R, S, K, B, width of the embedding], likewise


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
    particles, embeddings = ((case.draws,), (case.embeddings,)) if case.several else ((), ())
    # Away from the ends, where float32 cannot tell 1 - lambda from 1.
    weight = rng.beta(ALPHA, ALPHA, (case.replicas, *particles, case.batch_size)).clip(1e-6, 1 - 1e-6)
    noise = rng.standard_normal((case.replicas, *embeddings, *particles, case.batch_size, EMBEDDING))
    return Draws(weight, noise)
