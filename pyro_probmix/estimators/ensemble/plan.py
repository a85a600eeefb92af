"""How an ensemble is trained: the method and its settings, the size of a batch, the number of passes."""

from __future__ import annotations

__all__ = ["FIRST_RATE", "Plan", "first_rate"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pyro_probmix.estimators.targets.cells import Cells
from pyro_probmix.models import Method

#: Without a number of epochs, training takes about as many steps as there are rows, and passes over them, in these bounds.
FEWEST_STEPS, MOST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2500, 7500, 20, 500
#: Without a batch size, a batch has a 64th of the rows, as a power of two in these bounds.
BATCH_SHARE, SMALLEST_BATCH, LARGEST_BATCH = 64, 32, 256
#: Without a learning rate, Adam's first one, and the rows of which more lower it along the root of their number, down to the
#: least.
FIRST_RATE, FULL_RATE_ROWS, LEAST_RATE = 0.005, 1500, 0.002


def first_rate(n: int) -> float:
    """The learning rate for n rows of numbers."""
    return max(LEAST_RATE, FIRST_RATE * math.sqrt(min(1.0, FULL_RATE_ROWS / n)))


@dataclass(frozen=True)
class Plan:
    """How to train; see the estimators for those that are their parameters.

    Attributes:
        epochs: passes over the rows; None for about one step a row, in the bounds above.
        anneal: whether the rate falls to zero along half a cosine, or stays.
        fraction: share of the rows that a member holds out; 0 for none.
        deal_seed: deals the shares.
        seed: of the training noise.
        most_draws: of the embedding in a prediction.
        pooled_neighbors: the nearest rows whose kernels may be pooled with a prediction; 0 for none.
        grid: the distance of the values that a single target can take, in standard units; 0 for a continuous one.
        cells: of targets of few values; None for none.
        optimizer: as for :func:`~pyro_probmix.fit`.
    """

    method: Method
    alpha: float
    beta: float
    neighbors: int
    epochs: int | None
    batch_size: int | None
    learning_rate: float
    anneal: bool
    fraction: float
    patience: int | None
    classes: bool
    deal_seed: int
    seed: int
    most_draws: int
    pooled_neighbors: int
    grid: float
    cells: Cells | None
    optimizer: Callable[..., torch.optim.Optimizer]

    def size(self, n: int) -> int:
        """Rows of a step, of n in all."""
        if self.batch_size is not None:
            return self.batch_size
        share = int(2 ** round(math.log2(max(1.0, n / BATCH_SHARE))))
        size = min(max(share, SMALLEST_BATCH), LARGEST_BATCH)
        return -(-size // self.method.num_fused) * self.method.num_fused  # whole edges

    def passes(self, n: int, fewest_steps: int = FEWEST_STEPS) -> int:
        """Passes over n rows."""
        if self.epochs is not None:
            return self.epochs
        steps = min(max(n, fewest_steps), MOST_STEPS)
        return min(max(-(-steps // -(-n // self.size(n))), FEWEST_EPOCHS), MOST_EPOCHS)
