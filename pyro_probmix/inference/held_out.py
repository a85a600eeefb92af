"""The rows by which a fit chooses its epoch."""

from __future__ import annotations

__all__ = ["HeldOut"]

from typing import Any

import torch
from torch import Tensor

from pyro_probmix.inference.checkpoint import digest
from pyro_probmix.inference.checks import check_rows, check_streamed_rows
from pyro_probmix.inference.minibatches import Minibatches
from pyro_probmix.inference.prediction import negative_log_likelihood
from pyro_probmix.inference.streaming import RowStream
from pyro_probmix.models.process import ProbMix

STREAMED_ROWS = 512  # of a stream are evaluated at once: their activations are of the size of a minibatch's


class HeldOut:
    """Validation rows, in memory or as a stream, and their NLL under the density of a process.

    Args:
        model: the process.
        rows: (x, y), or a stream, in the units of the training rows.
        training: where the training rows come from.
        num_samples: draws of an embedding.

    Raises:
        ValueError: for rows that do not fit the model, or a stream in other units than the training rows.
    """

    def __init__(
        self,
        model: ProbMix,
        rows: tuple[Tensor, Tensor] | RowStream,
        training: Minibatches,
        num_samples: int,
    ) -> None:
        self.model, self.device = model, training.device
        self._prediction: dict[str, Any] = {
            "num_samples": num_samples,
            "at": model.at or "z",
            "response": training.response,
        }
        if isinstance(rows, RowStream):
            if training.stream is not None:
                rows.check_columns(training.stream)
                if not rows.units.same_as(training.stream.units):
                    raise ValueError(
                        f"fit got validation rows of {rows.name} in other units than the training rows, expected the same. "
                        "Try validation.standardized(like=stream)."
                    )
            rows = rows.shared_by(1, next(model.parameters()).dtype)
        else:
            rows = rows[0].to(self.device), rows[1].to(self.device)
            check_rows(model, *rows, "validation")
        self.rows, self._checked = rows, False

    def nll(self) -> Tensor:
        """Minus the mean log predictive density over the rows, in nats, [] or [R]."""
        if not isinstance(self.rows, RowStream):
            return negative_log_likelihood(self.model.density, *self.rows, **self._prediction)
        parts = []
        for block in self.rows.in_order():
            for x, y in zip(*(values.split(STREAMED_ROWS) for values in block), strict=True):
                x, y = x.to(self.device), y.to(self.device)
                if not self._checked:
                    check_streamed_rows(self.model, x, y, "validation")
                parts.append(len(x) * negative_log_likelihood(self.model.density, x, y, **self._prediction))
        self._checked = True
        return torch.stack(parts).sum(0) / self.rows.num_rows

    def identity(self) -> object:
        """What tells these rows from others, for a checkpoint."""
        return self.rows.identity() if isinstance(self.rows, RowStream) else digest(*self.rows)
