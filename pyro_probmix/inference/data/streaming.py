"""Rows that do not fit in memory: each pass gives all of them once, in shuffled blocks that do."""

from __future__ import annotations

__all__ = ["Piece", "RowStream", "Task"]

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.inference.data.arrays import as_array
from pyro_probmix.inference.data.pages import give_back, own_pages
from pyro_probmix.inference.data.shuffle import BlockShuffle, Memory, Rows
from pyro_probmix.inference.data.units import Array, Units

Task: TypeAlias = Literal["regression", "classification"]

SMALLEST_MEMORY = 32  # MiB
PIECE_ROWS = 8_192  # are decoded at once


class Piece(NamedTuple):
    """Some columns of some rows.

    Attributes:
        at: where they begin among all rows asked for.
        rows: their numbers in the source, [n].
        columns: which columns.
        values: [n, columns].
    """

    at: int
    rows: Rows
    columns: slice
    values: Array


class RowStream(ABC):
    """N rows of a table, too many for the memory, in blocks of m rows as :class:`~.shuffle.BlockShuffle` draws them.

    A subclass for another source defines :meth:`_read`.

    Args:
        name: what the source is called in messages.
        columns: names of the features, then of the targets.
        num_targets: d_y.
        boundaries: rows at which the source may be cut without cost, from 0 to N, [G + 1].
        cheap_rows: c, if it is left out, is at most this.
        task: ``"regression"``, or ``"classification"`` for one integer target.
        memory_mib: MiB, at least 32, that a fit may add to the process for reading, for a block, and for the order in which it
            takes a block's rows; a quarter of it is for decoding.
        block_rows: m is at most this; None leaves it to the memory.
        chunk_rows: c is at most this; None takes a 16th of a block at most.
        held_bytes: what the source itself keeps in memory.

    Attributes:
        num_rows, num_features: N and d.
        shuffle: the blocks, for the number of replicas of :meth:`shared_by`.
        units: those of the blocks' columns.

    Raises:
        ValueError: for options out of range, or a memory that is too small for them.
    """

    @checked(least={"memory_mib": SMALLEST_MEMORY, "block_rows": 4, "chunk_rows": 1})
    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        num_targets: int,
        boundaries: Sequence[int] | Rows,
        *,
        cheap_rows: int,
        task: Task,
        memory_mib: float,
        block_rows: int | None,
        chunk_rows: int | None,
        held_bytes: int = 0,
    ) -> None:
        if task == "classification" and num_targets != 1:
            raise ValueError(f"{name}: a classification has one target, got {num_targets}. Try one of them.")
        if memory_mib == math.inf:
            raise ValueError(f"{name}: memory_mib={memory_mib}, expected a finite number. Try memory_mib=512.")
        self.name, self.columns, self.task, self.memory_mib = name, tuple(columns), task, memory_mib
        self.num_targets, self.num_features = num_targets, len(self.columns) - num_targets
        if self.num_targets < 1 or self.num_features < 1:
            missing = "feature" if self.num_features < 1 else "target"
            raise ValueError(f"{name}: no {missing} columns. Try a table with one column beside the target.")
        self._boundaries = np.unique(np.asarray(boundaries, dtype=np.int64))
        self.num_rows = int(self._boundaries[-1])
        if self.num_rows < 2:
            raise ValueError(f"{name}: {self.num_rows} rows are too few to train on. Try a table with 2 rows or more.")
        self._cheap_rows, self._asked, self._held_bytes = cheap_rows, (block_rows, chunk_rows), held_bytes
        self.units = Units.unchanged(len(self.columns))
        self._lay_out(1, torch.get_default_dtype())

    def shared_by(self, replicas: int, dtype: torch.dtype) -> Self:
        """The same stream with blocks that fit in memory when so many replicas take their rows, each in its own order."""
        shared = copy.copy(self)
        shared._lay_out(replicas, dtype)
        return shared

    def _lay_out(self, replicas: int, dtype: torch.dtype) -> None:
        """Chooses the largest blocks that stay within the bound, beside what is fixed and a quarter to decode."""
        self.dtype = dtype
        labels = 16 if self.task == "classification" else 0
        self.shuffle = BlockShuffle.within(
            Memory(self.name, self.memory_mib, self._held_bytes),
            self._boundaries,
            *self._asked,
            longest=self._cheap_rows,
            # The block, and the order in which each replica takes its rows.
            row_bytes=dtype.itemsize * len(self.columns) + labels + 8 * replicas,
            row_holds=f"{len(self.columns)} columns for {replicas} replica{'s' * (replicas > 1)}",
        )

    @property
    def decoding_bytes(self) -> float:
        """The quarter of the memory."""
        return 0.25 * Memory(self.name, self.memory_mib, self._held_bytes).free

    @abstractmethod
    def _read(self, segments: Rows) -> Iterator[Piece]:
        """The rows of all segments (start, stop), [S, 2], in pieces; each row comes once in all columns.

        The segments ascend, and none reaches across a boundary.
        """

    def _segments(self, low: int, high: int) -> Rows:
        """The rows from low to high, cut at the boundaries of the source."""
        cuts = self._boundaries[(self._boundaries > low) & (self._boundaries < high)]
        edges = np.concatenate([[low], cuts, [high]])
        return np.stack([edges[:-1], edges[1:]], 1)

    def _where(self, row: int) -> str:
        return f"row {row} of {self.name}"

    def blocks(self, seed: int = 0, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass: blocks x [m, d] and y [m, d_y], or classes y [m], in :attr:`units`.

        Args:
            seed, epoch: together decide the order.

        Raises:
            ValueError: for a value that is no finite number, naming its row and column; for a source that cannot be read, or
                has changed.
        """
        for k, segments in enumerate(self.shuffle.segments(seed, epoch)):
            places = np.random.default_rng([seed, epoch, k]).permutation(self.shuffle.block_sizes[k])
            block = self.room(len(places))
            self._fill(block, segments, places)
            yield self.split(block)

    def read_into(self, block: Tensor, seed: int, epoch: int) -> Iterator[int]:
        """The same pass, each block in the first rows of one tensor [m or more, columns]; yields their number.

        The rows of a block are in the order of the source.
        """
        for size, segments in zip(self.shuffle.block_sizes, self.shuffle.segments(seed, epoch), strict=True):
            self._fill(block, segments)
            yield size

    def in_order(self, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows as they stand in the source, ``rows`` at a time, the last time fewer: x [n, d] and y [n, d_y], or [n].

        Their memory is used again: what came before is gone with the next.
        """
        largest = max(1, self.shuffle.block_rows // rows) * rows
        block = self.room(min(largest, self.num_rows))
        for low in range(0, self.num_rows, largest):
            high = min(low + largest, self.num_rows)
            self._fill(block, self._segments(low, high))
            for first in range(0, high - low, rows):
                yield self.split(block[first : min(first + rows, high - low)])

    def room(self, rows: int) -> Tensor:
        """Memory for rows of all columns, [rows, columns]."""
        return own_pages((rows, len(self.columns)), self.dtype)

    def first_rows(self, block: Tensor) -> None:
        """Fills a block with the first two rows of the source, over and over."""
        self._fill(block, self._segments(0, 2))
        for k in (0, 1):
            block[2 + k :: 2] = block[k]

    def split(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """The features and the targets of a block."""
        x, y = block[:, : self.num_features], block[:, self.num_features :]
        return x, (y[:, 0].long() if self.task == "classification" else y)

    def _fill(self, block: Tensor, segments: Rows, places: Rows | None = None) -> None:
        rows = block.numpy()
        for piece in self._read(segments):
            scaled = (piece.values - self.units.mean[piece.columns]) / self.units.scale[piece.columns]
            self._refuse_infinite(scaled, piece)
            part = slice(piece.at, piece.at + len(scaled))
            rows[part if places is None else places[part], piece.columns] = scaled
        give_back()

    def _refuse_infinite(self, values: Array, piece: Piece) -> None:
        good = np.abs(values) <= torch.finfo(self.dtype).max
        if good.all():
            return
        r, c = (int(k) for k in np.argwhere(~good)[0])
        raise ValueError(
            f"column {self.columns[piece.columns][c]!r} is {piece.values[r, c]} at {self._where(int(piece.rows[r]))} (rows "
            f"counted from 0), expected a finite {str(self.dtype).removeprefix('torch.')} number. Try dropping or filling in "
            "such rows."
        )

    def identity(self) -> dict[str, object]:
        """What decides the blocks of all passes, for a checkpoint: files by their size and time, not by what is in them."""
        units = hashlib.sha256(self.units.mean.tobytes() + self.units.scale.tobytes()).hexdigest()
        shuffle = [self.num_rows, len(self.shuffle.block_sizes), self.shuffle.num_chunks]
        return {
            "columns": list(self.columns),
            "rows, blocks, chunks": shuffle,
            "units": units,
            "source": self._source(),
        }

    def _source(self) -> list[str]:
        """Identifies the source in a checkpoint; its name, unless there is more to say."""
        return [self.name]

    @checked()
    def standardized(self, like: RowStream | None = None) -> Self:
        """The same stream in standard units, see :class:`~.units.Units`, for which it is read once; classes stay as they are.

        Args:
            like: another stream with the same columns, for example of the training rows, whose units to take instead.

        Raises:
            ValueError: for other columns than those of ``like``, and as by :meth:`blocks`.
        """
        scaled = copy.copy(self)
        if like is not None:
            self.check_columns(like)
            scaled.units = like.units
            return scaled
        units = Units.standard(len(self.columns), self._checked_pieces())
        if self.task == "classification":
            is_class = np.arange(len(self.columns)) >= self.num_features
            units = Units(np.where(is_class, 0.0, units.mean), np.where(is_class, 1.0, units.scale))
        scaled.units = units
        return scaled

    def _checked_pieces(self) -> Iterator[tuple[slice, Array]]:
        for piece in self._read(self._segments(0, self.num_rows)):
            self._refuse_infinite(piece.values, piece)
            yield piece.columns, piece.values

    def check_columns(self, other: RowStream) -> None:
        """Raises ValueError if the other stream's columns are not these."""
        if self.columns != other.columns or self.num_targets != other.num_targets:
            raise ValueError(
                f"{self.name} has the columns {', '.join(self.columns[:20])}, expected those of {other.name}, "
                f"{', '.join(other.columns[:20])}. Try features=[...] and target=... for both."
            )

    @property
    def loc(self) -> Tensor:
        """Mean of the targets that was subtracted, [d_y], in their units, as :func:`~pyro_probmix.predict` takes it."""
        return torch.as_tensor(self.units.mean[self.num_features :], dtype=self.dtype)

    @property
    def scale(self) -> Tensor:
        """Standard deviation by which the targets were divided, [d_y], in their units, likewise."""
        return torch.as_tensor(self.units.scale[self.num_features :], dtype=self.dtype)

    def scaled(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Tensor, Tensor]:
        """Other rows in :attr:`units`, for example those to validate with.

        Args:
            x: features [n, d] in the units of the source, in the order of its columns.
            y: targets [n, d_y] or [n], likewise.

        Raises:
            ValueError: for another number of columns.
        """
        features, targets = (as_array("scaled", name, values) for name, values in (("x", x), ("y", y)))
        if targets.ndim == 1:
            targets = targets[:, None]
        shapes = (*features.shape[1:], *targets.shape[:1], *targets.shape[1:])
        if shapes != (self.num_features, *features.shape[:1], self.num_targets):
            raise ValueError(
                f"{self.name}: rows with x of shape {list(features.shape)} and y of {list(np.shape(y))}, expected "
                f"[n, {self.num_features}] and [n, {self.num_targets}]. Try the columns {', '.join(self.columns[:20])}."
            )
        rows = (np.concatenate([features, targets], 1) - self.units.mean) / self.units.scale
        return self.split(torch.as_tensor(rows, dtype=self.dtype))
