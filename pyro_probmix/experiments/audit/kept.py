"""Gathered numbers of runs whose folders are no longer there, as in a copy that has the numbers alone: they are kept."""

from __future__ import annotations

__all__ = ["expect_own", "gathered_before", "with_former"]

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_probmix.files import reading, regular
from pyro_probmix.names import shown


def gathered_before(out: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The numbers that a former command gathered in a folder; without rows where there is no such file.

    Args:
        out: the folder.
        name: of the Parquet file.
        columns: that it has.

    Raises:
        ValueError: if it cannot be read, or is another file.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise ValueError(f"--out is {shown(out)}, which is no folder, expected one to write to. Try another --out.")
    try:
        with reading(out, [name]):
            numbers = pd.read_parquet(regular(out / name))
    except FileNotFoundError:
        return pd.DataFrame(columns=list(columns))
    except OSError as error:
        raise ValueError(f"{shown(out / name)} cannot be read ({error.strerror}). Try another --out.") from None
    except ValueError:  # no Parquet file
        numbers = pd.DataFrame()
    if set(numbers.columns) != set(columns):
        raise ValueError(
            f"{shown(out / name)} would be replaced and is another table, expected the columns {', '.join(columns)}. Try "
            "another --out."
        )
    return numbers[list(columns)]


def expect_own(out: Path, name: str, others: Sequence[str]) -> None:
    """Raises ValueError if a folder has a file that a command would replace, and no numbers of that command beside it.

    Args:
        out: the folder.
        name: of the file of numbers, which the command always writes.
        others: the names of the files that it writes beside it.
    """
    foreign = [other for other in others if os.path.lexists(out / other)]
    if foreign and not os.path.lexists(out / name):
        raise ValueError(
            f"the folder {shown(out)} holds {shown(foreign[0])}, which would be replaced, and no {name} beside it, expected "
            "both or neither. Try another --out."
        )


def with_former(found: pd.DataFrame, former: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Numbers, and below them the former ones of what is not among them.

    Args:
        found: of runs that are there.
        former: see :func:`gathered_before`.
        keys: the columns that say what a number is of; all numbers of one are replaced together.
    """
    there = pd.MultiIndex.from_frame(found[list(keys)])
    left = former[~pd.MultiIndex.from_frame(former[list(keys)]).isin(there)]
    frames = [frame for frame in (found, left) if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else found
