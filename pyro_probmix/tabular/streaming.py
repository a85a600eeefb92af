"""Predictions of the rows of a file, block by block, in memory that does not grow with it."""

from __future__ import annotations

__all__ = ["predicted_blocks"]

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pyro_probmix.tables.blocks import BLOCK_ROWS, TableBlocks
from pyro_probmix.tabular.model import TableModel

#: The numbers that stand for the columns of a block are at most so many.
BLOCK_NUMBERS = 1 << 21
_ROW = re.compile(r"\bat row (\d+) \(rows counted from 0\)")


def predicted_blocks(model: TableModel, path: Path) -> Iterator[pd.DataFrame]:
    """The predictions of a table's rows, in their order, as :meth:`TableModel.predict` gives them for the whole.

    The share that is done and the time left are shown on the standard error where that is a terminal.

    Args:
        model: fitted.
        path: of the table, see :class:`~pyro_probmix.tables.blocks.TableBlocks`.

    Raises:
        ValueError: for a file that cannot be read as a table, or rows that do not fit the model.
    """
    rows = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // max(1, len(model.columns.features))))
    with _Bar("reading") as show:
        blocks = TableBlocks(path, model.columns.features, rows, show, model.columns.texts)
    model.columns.expect(blocks.names)
    first_row = 0
    with _Bar("predicting") as show:
        for frame, share in blocks:
            yield _predicted(model, frame, first_row)
            first_row += len(frame)
            show(share)
    if not first_row:
        raise ValueError("the table has no rows, expected some below its header. Try another file.")


def _predicted(model: TableModel, frame: pd.DataFrame, first_row: int) -> pd.DataFrame:
    try:
        return model.predict(frame)
    except ValueError as error:  # which counts the rows of the block
        said = _ROW.sub(
            lambda found: found[0].replace(found[1], str(int(found[1]) + first_row), 1), str(error), count=1
        )
        raise ValueError(said) from None


class _Bar:
    """A progress bar of a share from 0 to 1, on a terminal alone."""

    def __init__(self, what: str) -> None:
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self.bar = tqdm(total=1.0, desc=what, bar_format=form, leave=False, disable=None)

    def __enter__(self) -> Callable[[float], None]:
        return self._show

    def _show(self, share: float) -> None:
        self.bar.update(min(share, 1.0) - self.bar.n if not self.bar.disable else 0)

    def __exit__(self, *error: object) -> None:
        self.bar.close()
