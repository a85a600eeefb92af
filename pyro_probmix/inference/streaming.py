"""Rows that do not fit in memory: each pass gives all of them once, in shuffled blocks that do."""

from __future__ import annotations

__all__ = ["Piece", "RowStream", "Task"]

import copy
import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Task: TypeAlias = Literal["regression", "classification"]
Array: TypeAlias = npt.NDArray[np.float64]
#: Where the values begin in the rows asked for, the first one's row in the source, the columns, and the values [n, columns].
Piece: TypeAlias = tuple[int, int, slice, Array]

MIB = 2**20
SMALLEST_MEMORY = 32  # MiB
FIXED_MEMORY = 16  # MiB: code and tables that a reader loads, and small pieces that stay with the process
CHUNKS_PER_BLOCK = 16  # at least so many places of the source meet in a block
PIECE_ROWS = 8_192  # are decoded at once


class RowStream(ABC):
    r"""N rows of a table, too many for the memory, as blocks of m rows for :func:`fit`.

    The source is cut into K chunks of (about) c consecutive rows. Each pass lays the chunks end to end in an order drawn
    uniformly from all K!, cuts this into blocks of m rows, the last one shorter, and shuffles the rows of each block.
    A chunk across the end of a block is divided there. So every row comes exactly once in a pass, the orders of two passes are
    independent, and two rows i and j meet in a block, if chunks are of equal size and all blocks hold a whole number of them,
    with
    .. math::
        P_{ij} = 1 \text{ in the same chunk}, \quad P_{ij} = \frac{m - c}{N - c} \text{ in different ones.}

    The edges of a block are those of its complete graph, so that over passes :math:`w_{ij} = P_{ij} / (N (m - 1))`: a share
    (c - 1) / (m - 1) of all edges lies within chunks, where the complete graph of all rows has (c - 1) / (N - 1), and the
    others are spread evenly over all other pairs.

    Args:
        name: what the source is called in messages.
        columns: names of the features, then of the targets.
        num_targets: d_y.
        boundaries: rows at which the source may be cut without cost, from 0 to N, [G + 1].
        row_bytes: bytes of a row in the source.
        task: ``"regression"``, or ``"classification"`` for one integer target.
        memory_mib: MiB that reading, the blocks and the order in which :func:`fit` takes their rows may add to the
            process, at least 32; a quarter of it is for decoding.
        block_rows: m is at most this; None leaves it to the memory.
        chunk_rows: c is at most this; None takes a 16th of a block at most.
        replicas: of the model that will be trained: each takes a block's rows in its own order, which takes memory too.

    Attributes:
        num_rows, num_features: N and d.
        block_rows: m.
        chunk_rows: c, the largest chunk's size.
        num_chunks: K.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        num_targets: int,
        boundaries: npt.ArrayLike,
        *,
        row_bytes: int,
        task: Task,
        memory_mib: float,
        block_rows: int | None,
        chunk_rows: int | None,
        replicas: int,
    ) -> None:
        if task not in ("regression", "classification"):
            raise ValueError(f"{name}: unknown task {task!r}. Try 'regression' or 'classification'.")
        if task == "classification" and num_targets != 1:
            raise ValueError(f"{name}: a classification has one target, got {num_targets}. Try one of them.")
        if not memory_mib >= SMALLEST_MEMORY:
            raise ValueError(
                f"{name}: memory_mib={memory_mib}, expected at least {SMALLEST_MEMORY}. Try memory_mib=512."
            )
        for option, value, least in (
            ("block_rows", block_rows, 2),
            ("chunk_rows", chunk_rows, 1),
            ("replicas", replicas, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name}: {option}={value}, expected at least {least}. Try leaving it out.")
        self.name, self.columns, self.task, self.replicas = name, tuple(columns), task, replicas
        self.memory_mib = memory_mib
        self.dtype = torch.get_default_dtype()
        self.num_targets, self.num_features = num_targets, len(self.columns) - num_targets
        if self.num_features < 1:
            raise ValueError(f"{name}: no feature columns. Try a table with one column beside the target.")
        edges = np.unique(np.asarray(boundaries, dtype=np.int64))
        self.num_rows = int(edges[-1])
        if self.num_rows < 2:
            raise ValueError(f"{name}: {self.num_rows} rows are too few to train on. Try a table with 2 rows or more.")
        largest = self._largest_block(block_rows)
        # Blocks of the same size, so that none is a remainder of a few rows.
        self.block_rows = -(-self.num_rows // -(-self.num_rows // largest))
        if chunk_rows is None:
            chunk_rows = max(1, min(self.block_rows // CHUNKS_PER_BLOCK, self._cheap_chunk(row_bytes)))
        self._edges = np.concatenate(
            [_cut(start, stop, chunk_rows) for start, stop in pairwise(edges.tolist())] + [edges[-1:]]
        )
        self.num_chunks = len(self._edges) - 1
        self.chunk_rows = int(np.diff(self._edges).max())
        self._mean, self._scale = np.zeros(len(self.columns)), np.ones(len(self.columns))

    def _largest_block(self, block_rows: int | None) -> int:
        """The rows whose memory is the bound, less what is fixed and a quarter to decode."""
        labels = 8 if self.task == "classification" else 0
        # Two blocks, a place for each row, and for each replica an old order and the keys and copies of a new one.
        row = 2 * (self.dtype.itemsize * len(self.columns) + labels) + 8 + 40 * self.replicas
        largest = int(0.75 * (self.memory_mib - FIXED_MEMORY) * MIB / row)
        if largest < 2:
            raise ValueError(
                f"{self.name}: memory_mib={self.memory_mib} holds {largest} rows of {len(self.columns)} columns, expected 2 "
                f"or more. Try memory_mib={FIXED_MEMORY + math.ceil(4 * row / MIB)}."
            )
        return min(largest, self.num_rows, block_rows or largest)

    def _cheap_chunk(self, row_bytes: int) -> int:
        """The rows of a chunk that costs little more to read than as part of a larger one."""
        return -(-MIB // 4 // row_bytes)

    @abstractmethod
    def _read(self, segments: Sequence[tuple[int, int]]) -> Iterator[Piece]:
        """The rows start to stop, of all segments in ascending order, in pieces of one segment each and of all columns."""

    def _where(self, row: int) -> str:
        return f"row {row} of {self.name}"

    def blocks(self, seed: int = 0, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass: blocks x [m, d] and y [m, d_y], or classes y [m], standardised if :meth:`standardized` was asked for.

        Args:
            seed, epoch: together decide the order.

        Raises:
            ValueError: for a value that is no finite number, naming its row; for a source that cannot be read, or has changed.
        """
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(self.num_chunks)
        ends = np.diff(self._edges)[order].cumsum()
        starts = np.concatenate([[0], ends[:-1]])
        for low in range(0, self.num_rows, self.block_rows):
            high = min(low + self.block_rows, self.num_rows)
            inside = slice(np.searchsorted(ends, low, "right"), np.searchsorted(starts, high))
            chunks = order[inside]
            first = self._edges[chunks] + (low - starts[inside]).clip(0)
            last = self._edges[chunks + 1] - (ends[inside] - high).clip(0)
            # In the order of the source, which is read forwards: the places shuffle the rows.
            segments = sorted(zip(first.tolist(), last.tolist(), strict=True))
            yield self._block(segments, rng.permutation(high - low))

    def _block(self, segments: list[tuple[int, int]], places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        # Pages of its own, which go back to the system with the block: those of malloc may stay with the process.
        shape = len(places), len(self.columns)
        pages = mmap.mmap(-1, math.prod(shape) * self.dtype.itemsize)
        block = torch.frombuffer(pages, dtype=self.dtype).reshape(shape)
        rows = block.numpy()
        largest = torch.finfo(self.dtype).max
        for at, row, columns, values in self._read(segments):
            scaled = (values - self._mean[columns]) / self._scale[columns]
            if not (np.abs(scaled) <= largest).all():
                self._refuse(values, row, columns)
            rows[places[at : at + len(values)], columns] = scaled
        x, y = block[:, : self.num_features], block[:, self.num_features :]
        return x, (y[:, 0].long() if self.task == "classification" else y)

    def _refuse(self, values: Array, row: int, columns: slice) -> None:
        r, c = (int(k) for k in np.argwhere(~(np.abs(values) <= torch.finfo(self.dtype).max))[0])
        column = self.columns[columns][c]
        raise ValueError(
            f"column {column!r} is {values[r, c]} at {self._where(row + r)} (rows counted from 0), expected a finite "
            f"{str(self.dtype).removeprefix('torch.')} number. Try dropping or filling in such rows."
        )

    def standardized(self) -> Self:
        """The same stream in standard units, after a pass that takes each column's mean and standard deviation.

        The moments of the pieces are merged in float64, which loses no digits to a large mean. A constant column is only
        centred; classes stay as they are.

        References:
            Chan, Golub and LeVeque, 1983, "Algorithms for computing the sample variance".
        """
        count, mean, squares = (np.zeros(len(self.columns)) for _ in range(3))
        least, most = np.full(len(self.columns), np.inf), np.full(len(self.columns), -np.inf)
        for _, row, columns, values in self._read(list(pairwise(self._edges.tolist()))):
            if not (np.abs(values) <= torch.finfo(self.dtype).max).all():
                self._refuse(values, row, columns)
            own = values.mean(0)
            before, after = count[columns], count[columns] + len(values)
            apart = own - mean[columns]
            squares[columns] += ((values - own) ** 2).sum(0) + apart**2 * before * len(values) / after
            mean[columns] += apart * len(values) / after
            count[columns] = after
            least[columns] = np.minimum(least[columns], values.min(0))
            most[columns] = np.maximum(most[columns], values.max(0))
        # Rounding leaves a constant column a mean beside its value and a deviation above 0: it is compared, not measured.
        constant = least == most
        scaled = copy.copy(self)
        scaled._mean = np.where(constant, least, mean)
        scaled._scale = np.where(constant, 1.0, np.sqrt(squares / self.num_rows))
        if self.task == "classification":
            scaled._mean[self.num_features :], scaled._scale[self.num_features :] = 0.0, 1.0
        return scaled

    @property
    def loc(self) -> Tensor:
        """Mean of the targets that was subtracted, [d_y], in their units, as :func:`predict` takes it."""
        return torch.as_tensor(self._mean[self.num_features :], dtype=self.dtype)

    @property
    def scale(self) -> Tensor:
        """Standard deviation by which the targets were divided, [d_y], in their units, as :func:`predict` takes it."""
        return torch.as_tensor(self._scale[self.num_features :], dtype=self.dtype)

    def scaled(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Tensor, Tensor]:
        """Other rows in the units of the blocks, for example those to validate with.

        Args:
            x: features [n, d] in the units of the source, in the order of its columns.
            y: targets [n, d_y] or [n], likewise.

        Raises:
            ValueError: for another number of columns.
        """
        features, targets = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        targets = targets.reshape(len(targets), -1)
        if features.ndim != 2 or features.shape[1] != self.num_features or targets.shape[1] != self.num_targets:
            raise ValueError(
                f"{self.name}: rows with x of shape {list(features.shape)} and y of {list(np.shape(y))}, expected "
                f"[n, {self.num_features}] and [n, {self.num_targets}]. Try the columns {', '.join(self.columns[:20])}."
            )
        d = self.num_features
        new_x = torch.as_tensor((features - self._mean[:d]) / self._scale[:d], dtype=self.dtype)
        if self.task == "classification":
            return new_x, torch.as_tensor(targets[:, 0]).long()
        return new_x, torch.as_tensor((targets - self._mean[d:]) / self._scale[d:], dtype=self.dtype)


def _cut(start: int, stop: int, longest: int) -> npt.NDArray[np.int64]:
    """Where equal parts of at most ``longest`` rows start."""
    parts = -(-(stop - start) // longest)
    return start + np.arange(parts, dtype=np.int64) * (stop - start) // parts
