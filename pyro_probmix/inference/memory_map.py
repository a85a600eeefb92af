"""Arrays on disk, such as memory maps, as a stream of rows."""

from __future__ import annotations

__all__ = ["ArrayStream"]

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pyro_probmix.inference.streaming import MIB, PIECE_ROWS, Piece, RowStream, Task


class ArrayStream(RowStream):
    r"""A :class:`RowStream` of arrays on disk, such as NumPy's memory maps.

    Pages of a map that was opened with ``mode="r"`` are handed back to the system after they are read.

    Args:
        x: features [N, d]: an array, or anything whose rows ``x[start:stop]`` are one.
        y: targets [N] or [N, d_y], likewise.
        task, memory_mib, block_rows, chunk_rows, replicas: see :class:`RowStream`. A chunk is at most about
            256 KiB by default, so that a disk is not asked for every row; ``chunk_rows=1`` makes all pairs equally likely.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.

    Example:
        >>> x = np.arange(600.0).reshape(300, 2)
        >>> stream = ArrayStream(x, x.sum(1), block_rows=100, chunk_rows=10)
        >>> [tuple(block.shape) for block, _ in stream.blocks(seed=0, epoch=0)]
        [(100, 2), (100, 2), (100, 2)]
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        task: Task = "regression",
        memory_mib: float = 512,
        block_rows: int | None = None,
        chunk_rows: int | None = None,
        replicas: int = 1,
    ) -> None:
        if len(x.shape) != 2 or len(y.shape) not in (1, 2) or len(x) != len(y):
            raise ValueError(
                f"ArrayStream got x of shape {list(x.shape)} and y of {list(y.shape)}, expected [N, d], and [N] or [N, d_y]. "
                "Try x.reshape(len(x), -1)."
            )
        for name, array in (("x", x), ("y", y)):
            if np.dtype(array.dtype).kind not in "biuf" or (
                name == "y" and task == "classification" and array.dtype.kind == "f"
            ):
                kind = "integers" if name == "y" and task == "classification" else "numbers"
                raise ValueError(f"ArrayStream got {name} of type {array.dtype}, expected {kind}. Try {name}.astype.")
        self._x, self._y = x, y
        targets = 1 if len(y.shape) == 1 else y.shape[1]
        super().__init__(
            "the arrays",
            [*(f"x{k}" for k in range(x.shape[1])), *(["y"] if targets == 1 else [f"y{k}" for k in range(targets)])],
            targets,
            [0, len(x)],
            row_bytes=np.dtype(x.dtype).itemsize * x.shape[1],
            task=task,
            memory_mib=memory_mib,
            block_rows=block_rows,
            chunk_rows=chunk_rows,
            replicas=replicas,
        )

    def _read(self, segments: Sequence[tuple[int, int]]) -> Iterator[Piece]:
        at, d = 0, self.num_features
        size = max(1, min(PIECE_ROWS, MIB // (8 * d)))
        for start, stop in segments:
            for row in range(start, stop, size):
                end = min(row + size, stop)
                for columns, array in ((slice(0, d), self._x), (slice(d, None), self._y)):
                    rows = array[row:end]
                    yield at, row, columns, np.asarray(rows, dtype=np.float64).reshape(end - row, -1)
                    _hand_back(rows)
                at += end - row


def _hand_back(rows: Any) -> None:
    """Takes the pages of a read-only memory map out of the process; the system may keep them in its cache."""
    if not isinstance(rows, np.ndarray) or rows.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    owner: Any = rows
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return
    origin = np.lib.array_utils.byte_bounds(np.frombuffer(owner, np.uint8))[0]
    low, high = (bound - origin for bound in np.lib.array_utils.byte_bounds(rows))
    # Wider than what was read, since the system maps the neighbours of a page with it.
    low, high = low // (2 * MIB) * 2 * MIB, min(-(-high // (2 * MIB)) * 2 * MIB, len(owner))
    owner.madvise(mmap.MADV_DONTNEED, low, high - low)
