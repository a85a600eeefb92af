"""Reading run folders: results, configurations, curves, calibration counts, and the figures that runs drew."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pyro_probmix.experiments.config.comparison import differences, same_method
from pyro_probmix.experiments.run.results import COLUMNS
from pyro_probmix.files import regular
from pyro_probmix.names import printable, shown
from pyro_probmix.tables.reading import expect_room

__all__ = ["KEYS", "Run", "Runs", "read_run", "read_runs"]

#: The columns that identify a trained method.
KEYS = ["experiment", "dataset", "network", "method", "setting"]

#: Options that name what a run does besides a cell, or how; two runs of one cell may have others.
_OF_ONE_RUN = {"chunk", "dataset", "methods", "network", "splits"}

_NUMBERS = {
    "split": "an integer",
    "value": "a number",
    "epoch": "an integer",
    "train_loss": "a number",
    "validation_nll": "a number",
    "bin": "an integer",
    "count": "an integer",
    "correct": "a number",
    "confidence": "a number",
}


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of one run folder.

    Attributes:
        path: the folder.
        name: in the report: the folder's name, or its whole path if two have the same name.
        results: columns ``COLUMNS``, one row a number.
        config: ``config.json``, or None.
        curves: columns KEYS, split, epoch, train_loss, validation_nll, or None.
        calibration: columns KEYS, split, bin, count, and for classes correct and confidence, or None.
        figures: the figures that the run drew, by name without the suffix.
    """

    path: Path
    name: str
    results: pd.DataFrame
    config: dict[str, Any] | None = None
    curves: pd.DataFrame | None = None
    calibration: pd.DataFrame | None = None
    figures: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Runs:
    """Several run folders, taken together.

    Attributes:
        runs: each folder.
        results, curves, calibration: their rows, one below the other; None where no folder has any.
    """

    runs: tuple[Run, ...]
    results: pd.DataFrame
    curves: pd.DataFrame | None
    calibration: pd.DataFrame | None


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> Runs:
    """Reads run folders; those that hold other seeds, or splits, of one method add to each other.

    Args:
        paths: the folders; one that is given twice counts once.

    Raises:
        ValueError: if one is not there, holds no results or files that are not a run's, or if two hold the same split of a
            method, or one method with different options.
    """
    if not paths:
        raise ValueError("a report needs a run's folder, none was given. Try probmix report runs/uci-yacht.")
    unique = {os.path.realpath(path): Path(path) for path in paths}
    runs = _named([read_run(path) for path in unique.values()])
    owners: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        for cell, rows in run.results.groupby(KEYS, dropna=False):
            for other in owners.setdefault(cell, []):
                _check_adds(", ".join(map(str, cell)), rows, run, other)
            owners[cell].append(run)
    return Runs(
        runs,
        pd.concat([run.results for run in runs], ignore_index=True),
        _joined([run.curves for run in runs]),
        _joined([run.calibration for run in runs]),
    )


def _check_adds(name: str, rows: pd.DataFrame, run: Run, other: Run) -> None:
    """Raises ValueError unless the rows of a method add to those of another run: other splits, by the same options."""
    theirs = other.results[(other.results[KEYS] == rows[KEYS].iloc[0]).all(axis=1)]
    again = sorted(set(rows["split"]) & set(theirs["split"]))
    if again:
        raise ValueError(
            f"{shown(other.path)} and {shown(run.path)} both hold {name}, split {again[0]}. Try one of the two."
        )
    alike = "expected runs alike but for their splits. Try one of the two."
    if run.config is None or other.config is None:
        raise ValueError(
            f"{shown(other.path)} and {shown(run.path)} both hold {name}, and not both a config.json that tells how, {alike}"
        )
    for option, had, has in differences(other.config, run.config):
        if option not in _OF_ONE_RUN:
            raise ValueError(
                f"{shown(other.path)} and {shown(run.path)} both hold {name}, with {option} {had} and {has}, {alike}"
            )
    files = {config["sha256"] for config in (run.config, other.config) if config.get("sha256")}
    if len(files) > 1 or not same_method(other.config, run.config, str(rows["method"].iloc[0])):
        what = "of another file" if len(files) > 1 else "by another method of this name"
        raise ValueError(f"{shown(other.path)} and {shown(run.path)} both hold {name}, {what}, {alike}")


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads one run's folder; see :func:`read_runs`."""
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is not there"
        raise ValueError(f"{shown(folder)} {what}, expected a run's folder. Try one that probmix run wrote.")
    results = folder / "results.parquet"
    if not results.is_file():
        if (folder / "cells").is_dir():
            raise ValueError(f"no method of {shown(folder)} has finished yet. Try again when one has.")
        inside = sorted(found.parent.name for found in folder.glob("*/results.parquet"))
        hint = f"its folder {shown(inside[0])}" if inside else "one that probmix run wrote"
        raise ValueError(f"{shown(folder)} holds no results.parquet. Try {hint}.")
    frame = _parquet(results, COLUMNS)
    keys = [*KEYS, "split"]
    curves = _parquet(folder / "curves.parquet", (*keys, "epoch", "train_loss", "validation_nll"))
    calibration = _parquet(folder / "calibration.parquet", (*keys, "bin", "count"), ("correct", "confidence"))
    figures = {figure.stem: _picture(figure) for figure in sorted((folder / "figures").glob("*.png"))}
    return Run(
        folder,
        folder.resolve().name,
        _checked(frame, results),
        _config(folder / "config.json"),
        curves,
        calibration,
        figures,
    )


def _picture(path: Path) -> Path:
    """The path, if it is of a PNG file."""
    try:
        with regular(path).open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read ({error.strerror}). Try running it anew.") from None
    if head != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{shown(path)} is no PNG file, expected a figure that probmix run drew. Try running it anew.")
    return path


def _named(runs: list[Run]) -> tuple[Run, ...]:
    """The runs, with whole paths as names where two folders have the same name."""
    names = [run.name for run in runs]
    return tuple(
        replace(run, name=run.path.resolve().as_posix().strip("/")) if names.count(run.name) > 1 else run
        for run in runs
    )


def _checked(frame: pd.DataFrame | None, path: Path) -> pd.DataFrame:
    """The results, of which there must be some, none of them twice."""
    if frame is None or frame.empty:
        raise ValueError(f"{shown(path)} has no rows yet. Try again when a method has finished.")
    twice = frame[frame.duplicated([*KEYS, "split", "metric"])]
    if len(twice):
        row = twice.iloc[0]
        name = ", ".join(str(row[key]) for key in (*KEYS, "split", "metric"))
        raise ValueError(f"{shown(path)} holds two values of {name}, expected one. Try running it anew.")
    return frame


def _parquet(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame | None:
    """The named columns of a Parquet file; None if the file is not there."""
    if not path.exists():
        return None
    try:
        expect_room(regular(path))
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{shown(path)} is not a whole Parquet file ({reason}), expected what probmix run wrote. Try running it anew."
        ) from None
    frame: pd.DataFrame = table.to_pandas()
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(
            f"{shown(path)} has no column {shown(missing[0])}, expected {', '.join(columns)}. Try a file that probmix "
            "run wrote."
        )
    kept = [*columns, *(name for name in optional if name in frame)]
    for name in kept:
        if name in _NUMBERS and not pd.api.types.is_numeric_dtype(frame[name]):
            kind = pd.api.types.infer_dtype(frame[name])  # the name of text's dtype depends on pandas' version
            raise ValueError(
                f"{shown(path)}: the column {shown(name)} is {kind}, expected {_NUMBERS[name]}. "
                "Try a file that probmix run wrote."
            )
    unnamed = [name for name in KEYS if frame[name].isna().any()]
    if unnamed:
        raise ValueError(
            f"{shown(path)}: some rows have no {unnamed[0]}, expected a name in each. Try a file that probmix run wrote."
        )
    return frame[kept].astype(dict.fromkeys(KEYS, str))


def _config(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        config = json.loads(regular(path).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{shown(path)} is not whole JSON ({reason}), expected a run's record. Try moving it away."
        ) from None
    if not isinstance(config, dict):
        raise ValueError(f"{shown(path)} holds a {type(config).__name__}, expected a run's record. Try moving it away.")
    for name, kind in (("experiment", str), ("epochs", int), ("versions", dict)):
        if not isinstance(config.get(name), kind):
            value = printable(json.dumps(config.get(name)))
            raise ValueError(f"{shown(path)} has {value} for {name}, expected a run's record. Try moving it away.")
    return config


def _joined(frames: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    there = [frame for frame in frames if frame is not None and len(frame)]
    return pd.concat(there, ignore_index=True) if there else None
