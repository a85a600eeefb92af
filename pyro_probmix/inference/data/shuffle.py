"""The order in which a table too large for the memory is read: shuffled chunks, cut into shuffled blocks."""

from __future__ import annotations

__all__ = ["MIB", "BlockShuffle", "Memory", "Rows"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.int64]

CHUNKS_PER_BLOCK = 16  # at least so many places of the source meet in a block
MIB = 2**20
FIXED_MEMORY = 16  # MiB: code and tables that a reader loads, and small pieces that stay with the process


@dataclass(frozen=True)
class Memory:
    """What a fit may add to the process for reading a table.

    Attributes:
        name: what the table is called in messages.
        mib: in MiB.
        held_bytes: what the table's reader itself keeps.
    """

    name: str
    mib: float
    held_bytes: int

    @property
    def free(self) -> float:
        """Bytes left for blocks, their order and decoding."""
        return (self.mib - FIXED_MEMORY) * MIB - self.held_bytes


class BlockShuffle:
    r"""Passes over N rows in blocks of (about) m rows, made of chunks of (about) c consecutive rows.

    Each pass lays the K chunks end to end in an order drawn uniformly from all K!, and cuts this into blocks of equal size.
    A chunk across the end of a block is divided there. So every row comes exactly once in a pass, the orders of two passes
    are independent, and two rows i and j meet in a block, if all chunks are of one size and all blocks hold as many of them,
    with

    .. math::
        P_{ij} = 1 \text{ in the same chunk}, \quad P_{ij} = \frac{m - c}{N - c} \text{ in different ones.}

    When each block is trained on as a table of its own, by random pairs, an edge is (i, j) with
    :math:`w_{ij} = P_{ij} / (N (m - 1))`: a share (c - 1) / (m - 1) of all edges lies within chunks, where the complete
    graph of all rows has (c - 1) / (N - 1), and the others are spread evenly over all other pairs.

    Args:
        boundaries: rows at which the source is cut into chunks in any case, ascending from 0 to N, [G + 1].
        block_rows: m is at most this.
        chunk_rows: c is at most this; None takes a 16th of a block.
        longest: c is at most this, too, if it is left out.

    Attributes:
        block_sizes: rows of each block of a pass.
        block_rows: m, the largest of them.
        num_chunks: K.
        chunk_rows: c, the largest chunk's size.

    Example:
        >>> shuffle = BlockShuffle(np.array([0, 12]), block_rows=6, chunk_rows=2)
        >>> shuffle.num_chunks, shuffle.block_sizes
        (6, [6, 6])
        >>> [segments.tolist() for segments in shuffle.segments(seed=1, epoch=0)]
        [[[0, 2], [4, 6], [8, 10]], [[2, 4], [6, 8], [10, 12]]]
    """

    def __init__(self, boundaries: Rows, block_rows: int, chunk_rows: int | None, longest: int | None = None) -> None:
        self.num_rows = int(boundaries[-1])
        parts = -(-self.num_rows // block_rows)
        # Blocks of the same size, so that none is a remainder of a few rows.
        self.bounds = [self.num_rows * k // parts for k in range(parts + 1)]
        self.block_sizes = [stop - start for start, stop in pairwise(self.bounds)]
        self.block_rows = max(self.block_sizes)
        if chunk_rows is None:
            chunk_rows = max(1, min(self.block_rows // CHUNKS_PER_BLOCK, longest or self.num_rows))
        self._edges = _cut(boundaries, chunk_rows)
        self.num_chunks = len(self._edges) - 1
        self.chunk_rows = int(np.diff(self._edges).max())

    @classmethod
    def within(
        cls,
        memory: Memory,
        boundaries: Rows,
        block_rows: int | None,
        chunk_rows: int | None,
        *,
        longest: int,
        row_bytes: int,
        row_holds: str,
    ) -> BlockShuffle:
        """The largest blocks that a memory holds, beside a quarter of it.

        Args:
            memory: the bound.
            boundaries, chunk_rows, longest: as for the class.
            block_rows: m is at most this; None leaves it to the memory.
            row_bytes: what a row takes.
            row_holds: what is in it, for messages.

        Raises:
            ValueError: if fewer than four rows fit, or the order of the chunks does not.
        """
        free = memory.free
        if chunk_rows is not None:
            chunks = -(-int(boundaries[-1]) // chunk_rows) + len(boundaries)
            order = cls.bytes_of(chunks)
            if order > free / 4:
                raise ValueError(
                    f"{memory.name}: the order of {chunks} chunks takes {math.ceil(order / MIB)} MiB, expected at most "
                    f"{max(0, int(free / 4 / MIB))}, a quarter of what memory_mib={memory.mib} leaves. Try a larger "
                    "chunk_rows."
                )
            free -= order
        row = row_bytes + cls.bytes_of_row(chunk_rows)
        largest = int(0.75 * free / row)
        if largest < 4:
            needed = math.ceil(FIXED_MEMORY + (memory.held_bytes + 8 * row) / MIB)
            raise ValueError(
                f"{memory.name}: memory_mib={memory.mib} holds {max(0, largest)} rows of {row_holds}, expected 4 or more. "
                f"Try memory_mib={needed}."
            )
        return cls(boundaries, min(largest, block_rows or largest), chunk_rows, longest)

    @staticmethod
    def bytes_of(num_chunks: int) -> int:
        """The most that the order of so many chunks takes: some eight numbers for each, while they are cut."""
        return 80 * num_chunks

    @staticmethod
    def bytes_of_row(chunk_rows: int | None) -> float:
        """The most that a row of a block takes: its share of a segment's bounds."""
        return 64 / (chunk_rows or 64)

    def segments(self, seed: int, epoch: int) -> Iterator[Rows]:
        """One pass: for each block its segments (start, stop) of the source, [S, 2], ascending.

        Args:
            seed, epoch: together decide the order.
        """
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(self.num_chunks)
        ends = np.diff(self._edges)[order].cumsum()
        starts = np.concatenate([[0], ends[:-1]])
        for low, high in pairwise(self.bounds):
            inside = slice(np.searchsorted(ends, low, "right"), np.searchsorted(starts, high))
            chunks = order[inside]
            first = self._edges[chunks] + (low - starts[inside]).clip(0)
            last = self._edges[chunks + 1] - (ends[inside] - high).clip(0)
            ascending = first.argsort()  # the source is read forwards
            yield np.stack([first[ascending], last[ascending]], 1)


def _cut(boundaries: Rows, longest: int) -> Rows:
    """Where equal parts of at most ``longest`` rows start between the boundaries, and the last boundary."""
    sizes = np.diff(boundaries)
    parts = -(-sizes // longest)
    number = np.arange(parts.sum()) - np.repeat(parts.cumsum() - parts, parts)  # of the part, in its interval
    starts = np.repeat(boundaries[:-1], parts) + number * np.repeat(sizes, parts) // np.repeat(parts, parts)
    return np.concatenate([starts, boundaries[-1:]])
