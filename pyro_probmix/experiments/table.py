"""Tables of a user's own, from CSV or Parquet files, and scikit-learn's embedded ones by name."""

from __future__ import annotations

__all__ = ["EMBEDDED", "load_table", "random_split"]

import os
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn import datasets

from pyro_probmix.experiments.data import Split, Table, Task

EMBEDDED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")

# The kinds of values, as pandas names them; what is in neither (dates, bytes, text among numbers) is not understood.
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "empty")
LABELS = ("string", "boolean", "categorical")


def load_table(source: str | os.PathLike[str], target: str | None = None, task: Task | None = None) -> Table:
    """Read a table of numeric features and one or more targets.

    Args:
        source: The name of one of scikit-learn's embedded data sets, or the path of a CSV file (with a header) or of a
            Parquet file.
        target: The target's column, or several with commas between. An embedded data set has a default.
        task: `"regression"` or `"classification"`. By default a target of text, true and false, or categories is
            classified, and a target of numbers regressed, also where the numbers are few.

    Raises:
        ValueError: If there is no such file, it cannot be read as a table, a column is missing or named twice, or
            `Table` refuses the values.

    Example:
        >>> load_table("diabetes").x.shape
        (442, 10)
        >>> load_table("iris").classes
        ('setosa', 'versicolor', 'virginica')
        >>> load_table("linnerud").target_names
        ('Weight', 'Waist', 'Pulse')
    """
    name = str(source)
    if name in EMBEDDED:
        frame, targets = _embedded(name)
    else:
        name = Path(source).name
        frame, targets = _read(Path(source)), []
    if target is not None:
        targets = _columns(frame, target, name)
    if not targets:
        raise ValueError(f"{name}: no target column is named. Try --target with one of {_listed(frame.columns)}.")
    return _table(name, frame, targets, task)


def random_split(n: int, seed: int, test: float = 0.2, validation: float = 0.2) -> Split:
    """Deal rows 0 to n - 1 at random: a fifth tests, a fifth of the rest validates, the others train.

    Args:
        n: How many rows there are, 4 or more.
        seed: Of NumPy's generator.
        test: The share of all rows that tests.
        validation: The share of the remaining rows that validates.

    Example:
        >>> split = random_split(100, seed=0)
        >>> len(split.train), len(split.validation), len(split.test)
        (64, 16, 20)
    """
    if n < 4:
        raise ValueError(f"{n} rows are too few to train, validate and test. Try 4 rows or more.")
    order = np.random.default_rng(seed).permutation(n)
    testing = max(round(test * n), 1)
    validating = max(round(validation * (n - testing)), 1)
    parts = np.split(order, [testing, testing + validating])
    return Split(train=np.sort(parts[2]), validation=np.sort(parts[1]), test=np.sort(parts[0]))


def _embedded(name: str) -> tuple[pd.DataFrame, list[str]]:
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    targets = [column for column in frame.columns if column not in list(bunch.feature_names)]
    if isinstance(bunch.get("target_names"), np.ndarray):  # the classes' names
        frame["target"] = bunch.target_names.astype(str)[frame["target"]]
    return frame, targets


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if not path.exists():
        raise ValueError(
            f"no file {path}, and no embedded data set of that name. Try the path of a .csv or .parquet file, "
            f"or one of {', '.join(EMBEDDED)}."
        )
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Try the path of a .csv or .parquet file in it.")
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} does not end in {' or '.join(readers)}. Try saving the table as one of these.")
    try:
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty. Try a file with a header and 4 rows or more.")
        frame = readers[path.suffix.lower()](path)
    except (pa.ArrowException, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{path} cannot be read as a {path.suffix[1:]} table: {reason}. Try writing the file again."
        ) from None
    names = [str(name).strip() for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: more than one column is named {_listed(twice)}. Try giving each its own name.")
    if "" in names:
        raise ValueError(
            f"{path}: column {names.index('')} (counted from 0) has no name. Try naming it, or leaving it out "
            "(pandas writes row numbers there, unless told index=False)."
        )
    return frame.set_axis(names, axis="columns").reset_index(drop=True)


def _read_csv(path: Path) -> pd.DataFrame:
    # The header is read by itself, since pandas renames columns of the same name and columns without one.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, skipinitialspace=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False)
        except pd.errors.ParserWarning:
            raise pd.errors.ParserError(f"a row has more fields than the {header.shape[1]} of the header") from None
    return frame.set_axis(header.iloc[0].tolist(), axis="columns")


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, engine="pyarrow")


def _columns(frame: pd.DataFrame, target: str, table: str) -> list[str]:
    if target in frame.columns:
        return [target]
    wanted = list(dict.fromkeys(part.strip() for part in target.split(",")))
    for name in wanted:
        if name not in frame.columns:
            near = get_close_matches(name, list(frame.columns), n=1)
            hint = f"Try {near[0]!r}." if near else "Try one of these."
            if len(frame.columns) == 1:
                hint = "Try a file with commas between its columns."
            raise ValueError(f"{table}: no column {name!r}; there are {_listed(frame.columns)}. {hint}")
    return wanted


def _table(name: str, frame: pd.DataFrame, targets: list[str], task: Task | None) -> Table:
    features = [column for column in frame.columns if column not in targets]
    _refuse_text(name, "feature", frame[features])
    if task is None:
        labels = len(targets) == 1 and _kind(frame[targets[0]]) in LABELS
        task = "classification" if labels else "regression"
    if task == "regression":
        _refuse_text(name, "target", frame[targets])
        y = _numbers(frame[targets])
    elif len(targets) == 1:
        y = frame[targets[0]].to_numpy(dtype=object)
    else:
        raise ValueError(f"{name}: a classification has one target, got {_listed(targets)}. Try one of them.")
    return Table(name, _numbers(frame[features]), y, tuple(features), tuple(targets), task)


def _kind(column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categorical"
    kind = pd.api.types.infer_dtype(column, skipna=True)
    # A single cell of text makes text of a whole column of numbers in a CSV file: a slip, not a column of classes.
    if kind == "string" and 0 < len(_text_rows(column)) < column.notna().sum():
        return "text among numbers"
    return kind


def _text_rows(column: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    return np.flatnonzero(numbers.isna() & column.notna())


def _numbers(columns: pd.DataFrame) -> np.ndarray:
    return columns.astype(np.float64).to_numpy()


def _refuse_text(table: str, kind: str, columns: pd.DataFrame) -> None:
    refused = [name for name in columns.columns if _kind(columns[name]) not in (*NUMBERS, "boolean")]
    if refused:
        first = columns[refused[0]]
        row = next(iter(_text_rows(first)), 0)  # dates read as numbers, and are refused all the same
        advice = "leaving them out" if kind == "feature" else "a classification"
        raise ValueError(
            f"{table}: {kind} column{'s' if len(refused) > 1 else ''} {_listed(refused)} cannot be read as numbers: "
            f"{refused[0]!r} holds {str(first.iloc[row])!r} at row {row} (rows counted from 0). "
            f"Try encoding such columns as numbers, or {advice}."
        )


def _listed(names: Iterable[object]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
