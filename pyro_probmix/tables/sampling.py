"""Rows of a table in a file, drawn at random where all of them would take too much memory."""

from __future__ import annotations

__all__ = ["LARGE_BYTES", "is_large", "sampled_rows"]

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pyro_probmix.tables.blocks import ENDINGS, TableBlocks
from pyro_probmix.tables.reading import expect_table, refused

#: A file of more bytes, or values of 8 bytes, is not read whole.
LARGE_BYTES = 1 << 27
#: At most so many rows are kept, values and bytes of them.
MOST_ROWS, MOST_VALUES, MOST_BYTES = 1_000_000, 1 << 24, 1 << 29


def is_large(path: Path) -> bool:
    """Whether a file is read in blocks: a large one, or of a kind that is not read whole.

    Raises:
        ValueError: for a file that is not there, or cannot be read as a table.
    """
    expect_table(path, ENDINGS)
    if path.suffix.lower() not in (".csv", ".parquet"):
        return True
    size = path.stat().st_size
    if path.suffix.lower() == ".parquet":
        with refused(path), path.open("rb") as opened, pq.ParquetFile(opened) as file:
            size = max(size, 8 * file.metadata.num_rows * file.metadata.num_columns)
    return size > LARGE_BYTES


def sampled_rows(
    path: Path,
    seed: int = 0,
    looking: Callable[[float], object] = lambda share: None,
    reading: Callable[[float], object] = lambda share: None,
    commas: bool = False,
    texts: Collection[str] | None = None,
) -> tuple[pd.DataFrame, int]:
    """Rows of a file in their order, each as likely as any other, in memory that does not grow with the file.

    They are all rows where these are at most ``MOST_ROWS``, with at most ``MOST_VALUES`` values in ``MOST_BYTES``.

    Args:
        path: of a table, see :class:`~pyro_probmix.tables.blocks.TableBlocks`.
        seed: of the choice.
        looking, reading: are told the share that is done of the pass that finds out what the columns hold, and of the second.
        commas, texts: see :class:`~pyro_probmix.tables.blocks.TableBlocks`.

    Returns:
        the rows, and the number of all rows of the file.

    Raises:
        ValueError: for a file that cannot be read as a table.
    """
    blocks = TableBlocks(path, None, progress=looking, texts=texts, commas=commas)
    sample = _Sample(max(1, min(MOST_ROWS, MOST_VALUES // max(1, len(blocks.names)))), seed)
    for frame, share in blocks:
        sample.add(frame)
        reading(share)
    return sample.rows() if sample.total else pd.DataFrame(columns=blocks.names), sample.total


class _Sample:
    """The rows with the smallest of random keys, so that each set of so many is as likely as any other."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.total, self.bar = most, 0, 1.0
        self.random = np.random.default_rng(seed)
        self.parts: list[pd.DataFrame] = []
        self.keys: list[np.ndarray] = []
        self.bytes = 0

    def add(self, frame: pd.DataFrame) -> None:
        keys = self.random.random(len(frame))
        kept = np.flatnonzero(keys < self.bar)
        self.total += len(frame)
        if not len(kept):
            return
        part = frame.take(kept)
        for name in part.columns[part.dtypes == np.dtype(object)]:  # texts as pandas has those of a whole table
            part[name] = pd.Series(part[name].tolist(), index=part.index)
        self.parts.append(part)
        self.keys.append(keys[kept])
        self.bytes += _bytes(part)
        if sum(map(len, self.keys)) > 2 * self.most or self.bytes > 2 * MOST_BYTES:
            self._shrink()

    def rows(self) -> pd.DataFrame:
        """The rows that are left, of some."""
        self._shrink()
        (frame,) = self.parts
        return frame.reset_index(drop=True)

    def _shrink(self) -> None:
        frame, keys = pd.concat(self.parts, ignore_index=True), np.concatenate(self.keys)
        if self.bytes > MOST_BYTES:
            self.most = max(1, min(self.most, int(len(keys) * MOST_BYTES / self.bytes)))
        if len(keys) > self.most:
            kept = np.sort(np.argpartition(keys, self.most)[: self.most])
            self.bar = float(np.partition(keys, self.most)[self.most])  # the smallest key that is left out
            frame, keys = frame.take(kept), keys[kept]
            self.bytes = _bytes(frame)
        self.parts, self.keys = [frame], [keys]


def _bytes(frame: pd.DataFrame) -> int:
    return int(frame.memory_usage(index=False, deep=True).sum())
