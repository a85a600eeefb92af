"""The targets of a table: regression or classification, and their values as numbers."""

from __future__ import annotations

__all__ = ["TASKS", "numbers", "task_of"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.columns.kinds import LABELS, NUMBERS, text_rows
from pyro_probmix.names import shown
from pyro_probmix.tabular.columns import MOST_LEVELS, column_kind
from pyro_probmix.tabular.spelling import advice, unread_format, where

TASKS = ("regression", "classification")


def task_of(frame: pd.DataFrame, targets: Sequence[str]) -> str:
    """The task of a table: a single target of true and false, categories or recurring texts is classified, all else regressed.

    Args:
        frame: with the targets.
        targets: their names.

    Raises:
        ValueError: for a target of numbers or dates written in another way, or of texts that hardly recur.

    Example:
        >>> task_of(pd.DataFrame({"y": ["red", "blue", "red", "blue"]}), ["y"])
        'classification'
    """
    values = frame[targets[0]]
    kind = column_kind(values)
    if len(targets) > 1 or kind not in LABELS:
        return "regression"
    if kind == "string" and (found := unread_format(values)) is not None:
        row, what, remedy = found
        raise ValueError(f"target {where(targets[0], values, row)}, which is {what}. {remedy}")
    rows, count = int(values.notna().sum()), values.nunique()
    if count > min(MOST_LEVELS, rows / 2) and kind != "boolean":
        raise ValueError(
            f"target column {shown(targets[0])} has {count} different texts in {rows} rows, expected numbers, or "
            "classes: at most "
            f"{MOST_LEVELS}, and two rows of each on average. Try another target, or --task classification if they are classes."
        )
    return "classification"


def numbers(frame: pd.DataFrame, targets: Sequence[str]) -> npt.NDArray[np.float64]:
    """The targets of a regression, which are not missing, [n] or [n, T].

    Raises:
        ValueError: for values that are no finite numbers; the message says which.
    """
    for name in targets:
        values = frame[name]
        kind = column_kind(values)
        if kind == "date":
            raise ValueError(
                f"target column {shown(name)} holds dates, as {shown(str(values.iloc[0]))}, expected numbers or classes. "
                "Try a number, such as days since the first, or another target."
            )
        if kind not in (*NUMBERS, "boolean"):
            row = next(iter(text_rows(values)), 0)
            remedy = "correcting it or dropping that row" if kind == "text among numbers" else "another target"
            remedy = advice(values.iloc[row], f"Try {remedy}, or --task classification if these are classes.")
            raise ValueError(f"target {where(name, values, row)}, expected a number. {remedy}")
    y: npt.NDArray[np.float64] = frame[list(targets)].astype(np.float64).to_numpy()
    wrong = np.argwhere(~np.isfinite(y))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"target column {shown(targets[column])} is infinite at row {row} (rows counted from 0), expected a finite number. "
            "Try correcting it, or dropping that row."
        )
    return y[:, 0] if len(targets) == 1 else y
