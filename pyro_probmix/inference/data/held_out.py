"""Validation rows that do not fit in memory."""

from __future__ import annotations

__all__ = ["StreamedBlocks"]

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_probmix.inference.data.checks import check_rows
from pyro_probmix.inference.data.streaming import RowStream
from pyro_probmix.models.process import ProbMix


class StreamedBlocks:
    """Rows of a stream as they stand in it, some at a time, where the model is; checked when they first come.

    Args:
        model: the process.
        stream: the rows.
        rows: how many at a time.
    """

    def __init__(self, model: ProbMix, stream: RowStream, rows: int) -> None:
        self.stream, self.rows = stream, min(rows, stream.num_rows)
        self._model = model
        self.device = next(model.parameters()).device
        self._checked = False

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.stream.in_order(self.rows):
            here_x, here_y = x.contiguous().to(self.device), y.contiguous().to(self.device)
            if not self._checked:
                check_rows(self._model, here_x, here_y, "validation", of_each=(False, False))
            yield here_x, here_y
        self._checked = True

    def examples(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of each shape that comes, without their values."""
        counts = {self.rows, self.stream.num_rows % self.rows} - {0}
        blocks = [self.stream.split(torch.zeros(n, len(self.stream.columns), dtype=self.stream.dtype)) for n in counts]
        return [(x.contiguous().to(self.device), y.contiguous().to(self.device)) for x, y in blocks]
