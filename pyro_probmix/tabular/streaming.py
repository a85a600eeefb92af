"""The rows of a file for a fit, and their predictions, in memory that does not grow with the file."""

from __future__ import annotations

__all__ = ["predicted_blocks", "table_to_check", "table_to_fit"]

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pyro_probmix.columns.new_levels import NewLevel, NewLevels, warn_of_new_levels
from pyro_probmix.names import shown
from pyro_probmix.tables.blocks import BLOCK_ROWS, ENDINGS, TableBlocks
from pyro_probmix.tables.footers import without_footer
from pyro_probmix.tables.names import listed
from pyro_probmix.tables.reading import expect_table, read_table
from pyro_probmix.tables.sampling import is_large, sampled_rows
from pyro_probmix.tabular.model import TableModel

#: The numbers that stand for the columns of a block are at most so many.
BLOCK_NUMBERS = 1 << 21
#: How pandas and R name a column of numbers or names of rows without a name; and names of columns that number rows.
_ROW_NAMES = re.compile(r"Unnamed: 0|\.\.\.1|row[ ._]?names?", re.IGNORECASE)
_NUMBERS = re.compile(r"id|index|no\.?|nr\.?|#|row|row[ ._]?(?:id|number)|obs|observation|case", re.IGNORECASE)
_ROW = re.compile(r"\bat row (\d+) \(rows counted from 0\)")


def table_to_fit(path: Path, seed: int = 0, decimal: str | None = None) -> pd.DataFrame:
    """The rows of a file that a model is fitted to: all of them, or as many, drawn at random, as bounded memory holds.

    A warning says how many there are where not all are taken, and of rows at the end that sum up the others, which are left
    out. The share that is done and the time left are shown on the standard error where that is a terminal.

    Args:
        path: of a CSV file, compressed or not, a Parquet file, or one of Arrow's.
        seed: of the choice.
        decimal: the decimal sign of a CSV file, if the user names it.

    Raises:
        ValueError: for a file that cannot be read as a table.
    """
    if not is_large(path):
        return _of_points(_of_rows(read_table(path, texts=None, commas=decimal == ",")), path, decimal)
    with _Bar("looking") as looking, _Bar("reading") as reading:
        frame, total = sampled_rows(path, seed, looking, reading, commas=decimal == ",")
    if len(frame) == total:
        frame = _of_rows(frame)
    else:
        warnings.warn(
            f"the table has {total} rows; the model is fitted to {len(frame)} of them, drawn at random, since more would take "
            "too much memory.",
            UserWarning,
            stacklevel=2,
        )
    return _of_points(frame, path, decimal)


def table_to_check(model: TableModel, path: Path) -> pd.DataFrame:
    """The rows of a file for a check; of one that is not read whole as many, drawn at random, as bounded memory holds.

    Args:
        model: fitted.
        path: of a table, see :func:`table_to_fit`.

    Raises:
        ValueError: for a file that cannot be read as a table.
    """
    expect_table(path, ENDINGS)
    texts = [*model.columns.with_commas, *(meaning.name for meaning in model.meanings if meaning.decimal == ",")]
    if path.suffix.lower() in (".csv", ".parquet"):
        return without_footer(read_table(path, texts=texts))
    texts += [*model.columns.texts, *(meaning.name for meaning in model.meanings if meaning.kind == "category")]
    with _Bar("looking") as looking, _Bar("reading") as reading:
        frame, total = sampled_rows(path, 0, looking, reading, texts=texts)
    if len(frame) < total:
        warnings.warn(f"the check is of {len(frame)} of {total} rows, drawn at random.", UserWarning, stacklevel=2)
        return frame
    return without_footer(frame)


def _of_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without what is none of its rows, and without a first column that pandas or R has named for numbering them."""
    frame = without_footer(frame)
    if not frame.shape[1] or not len(frame):
        return frame
    name, first = str(frame.columns[0]), frame.iloc[:, 0]
    if _ROW_NAMES.fullmatch(name) and first.is_unique and not pd.api.types.is_float_dtype(first.dtype):
        warnings.warn(
            f"column {shown(name)} has another value in each row: it is taken for names of rows, and left out.",
            UserWarning,
            stacklevel=3,
        )
        return frame.iloc[:, 1:]
    if _NUMBERS.fullmatch(name) and pd.api.types.is_integer_dtype(first.dtype) and (first.diff().iloc[1:] == 1).all():
        warnings.warn(
            f"column {shown(name)} numbers the rows, and is a feature like others; --leave-out {shown(name)} leaves it out.",
            UserWarning,
            stacklevel=3,
        )
    return frame


def _of_points(frame: pd.DataFrame, path: Path, decimal: str | None) -> pd.DataFrame:
    """The table, with a warning of columns of a CSV file that have decimal points, where a user has named the comma."""
    if decimal == "," and path.name.lower().endswith((".csv", ".csv.gz")):
        floats = [name for name in frame.columns if pd.api.types.is_float_dtype(frame[name].dtype)]
        broken = [name for name in floats if (frame[name].dropna() % 1 != 0).any()]
        if broken:
            warnings.warn(
                f"--decimal , is given, but column {listed(broken)} has numbers with decimal points, and is read with these.",
                UserWarning,
                stacklevel=3,
            )
    return frame


def predicted_blocks(model: TableModel, path: Path, conformal: bool = False) -> Iterator[pd.DataFrame]:
    """The predictions of a table's rows, in their order, as :meth:`TableModel.predict` gives them for the whole.

    The share that is done and the time left are shown on the standard error where that is a terminal.

    Args:
        model: fitted.
        path: of the table, see :class:`~pyro_probmix.tables.blocks.TableBlocks`.
        conformal: whether the ends of conformal intervals follow.

    Raises:
        ValueError: for a file that cannot be read as a table, rows that do not fit the model, or conformal intervals of one
            that has none.
    """
    if conformal:
        model.expect_conformal()
    rows = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // max(1, len(model.columns.features))))
    with _Bar("reading") as show:
        texts = (*model.columns.texts, *model.columns.with_commas)
        blocks = TableBlocks(path, model.columns.features, rows, show, texts)
    model.columns.expect(blocks.names)
    first_row = 0
    new = _Told(conformal)
    with _Bar("predicting") as show:
        for frame, share in blocks:
            yield _predicted(model, frame, first_row, new)
            first_row += len(frame)
            show(share)
    if not first_row:
        raise ValueError("the table has no rows, expected some below its header. Try another file.")
    warn_of_new_levels(new.of_all_rows(), stacklevel=2)


class _Told:
    """What blocks of rows have warned of in levels that are new, as one warning for all of them."""

    def __init__(self, conformal: bool) -> None:
        self.conformal = conformal
        self.found: dict[str, NewLevel] = {}
        self.rows: Counter[str] = Counter()

    def predicted(self, model: TableModel, frame: pd.DataFrame) -> pd.DataFrame:
        """The predictions of a block; its other warnings go on."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            predicted = model.predict(frame, self.conformal)
        self.rows.update({name: int(frame[name].notna().sum()) for name in model.columns.texts})
        for one in caught:
            if not isinstance(one.message, NewLevels):
                warnings.warn(one.message, stacklevel=4)
                continue
            for column in one.message.columns:
                before = self.found.get(column.name)
                self.found[column.name] = replace(column, count=column.count + (0 if before is None else before.count))
        return predicted

    def of_all_rows(self) -> Iterator[NewLevel]:
        for column in self.found.values():
            yield replace(column, rows=self.rows[column.name])


def _predicted(model: TableModel, frame: pd.DataFrame, first_row: int, told: _Told) -> pd.DataFrame:
    try:
        return told.predicted(model, frame)
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
