"""Tables from a user's CSV or Parquet files, and scikit-learn's embedded ones by name."""

from __future__ import annotations

__all__ = ["EMBEDDED", "load_table", "random_split"]

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets

from pyro_probmix.columns.kinds import LABELS, NUMBERS, kind_of, text_rows
from pyro_probmix.experiments.data.tables import Split, Table, Task
from pyro_probmix.names import printable, shown
from pyro_probmix.tables.names import find_columns, listed
from pyro_probmix.tables.reading import read_table

EMBEDDED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def load_table(source: str | os.PathLike[str], target: str | None = None, task: Task | None = None) -> Table:
    """Reads a table of numeric features and one or more targets.

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
        name = printable(Path(source).name)
        frame, targets = read_table(Path(source), ", ".join(EMBEDDED)), []
    if target is not None:
        targets = find_columns(frame, target, name)
    if not targets:
        raise ValueError(f"{name}: no target column is named. Try --target with one of {listed(frame.columns)}.")
    return _table(name, frame, targets, task)


def random_split(n: int, seed: int, test: float = 0.2, validation: float = 0.2) -> Split:
    """Deals rows 0 to n - 1 at random: a fifth tests, a fifth of the rest validates, the others train.

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


def _table(name: str, frame: pd.DataFrame, targets: list[str], task: Task | None) -> Table:
    features = [column for column in frame.columns if column not in targets]
    _refuse_text(name, "feature", frame[features])
    if task is None:
        labels = len(targets) == 1 and kind_of(frame[targets[0]]) in LABELS
        task = "classification" if labels else "regression"
    if task == "regression":
        _refuse_text(name, "target", frame[targets])
        y = _numbers(frame[targets])
    elif len(targets) == 1:
        y = frame[targets[0]].to_numpy(dtype=object)
    else:
        raise ValueError(f"{name}: a classification has one target, got {listed(targets)}. Try one of them.")
    return Table(name, _numbers(frame[features]), y, tuple(features), tuple(targets), task)


def _numbers(columns: pd.DataFrame) -> np.ndarray:
    return columns.astype(np.float64).to_numpy()


def _refuse_text(table: str, kind: str, columns: pd.DataFrame) -> None:
    refused = [name for name in columns.columns if kind_of(columns[name]) not in (*NUMBERS, "boolean")]
    if refused:
        first = columns[refused[0]]
        row = next(iter(text_rows(first)), 0)  # dates can be cast to numbers, and are refused too
        advice = "leaving them out" if kind == "feature" else "a classification"
        raise ValueError(
            f"{table}: {kind} column{'s' if len(refused) > 1 else ''} {listed(refused)} cannot be read as numbers: "
            f"{shown(refused[0])} holds {shown(str(first.iloc[row]))} at row {row} (rows counted from 0). "
            f"Try encoding such columns as numbers, or {advice}."
        )
