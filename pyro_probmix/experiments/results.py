"""A run's folder: tidy results and the configuration, each written whole or not at all, and resumed from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyro_probmix import __version__
from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.jobs import Finished, Job
from pyro_probmix.inference import Fit

__all__ = ["COLUMNS", "RunFolder", "recorded_config", "summary"]

COLUMNS = ("experiment", "dataset", "network", "method", "setting", "split", "metric", "value")

#: Where a run computes and reads from, not what: it may be resumed with others.
PLACES = ("device", "data_dir")


class RunFolder:
    """Where a run leaves ``results.parquet``, ``config.json``, ``figures/*.png``, and a file for each finished job.

    ``cells/JOB.json`` holds a job's numbers, ``models/JOB.pt`` the trained weights and the curves of its training. A run on
    a folder that holds the same configuration takes what is finished from there.

    Args:
        path: the folder, made if it is not there.
        config: the run's configuration.
        device: where it runs.

    Raises:
        ValueError: if it cannot be written to, or holds a run of another configuration.
    """

    def __init__(self, path: str | os.PathLike[str], config: Config, device: str) -> None:
        self.path = Path(path)
        recorded = recorded_config(path)
        try:
            for name in ("cells", "figures", "models"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ValueError(
                f"the folder {str(self.path)!r} cannot be written to ({error.strerror}). Try another --out."
            ) from None
        wanted = _as_json(asdict(config))
        for name, value in wanted.items():
            if recorded is not None and name not in PLACES and recorded.get(name) != value:
                raise ValueError(
                    f"the folder {str(self.path)!r} holds another run, with {name} {recorded.get(name)!r}, not {value!r}. "
                    "Try another --out."
                )
        self._digest = _digest(wanted)
        self._order: list[str] = []
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        if recorded is None:
            record = {**wanted, "ran_on": device, "versions": _versions()}
            self._write("config.json", lambda path: path.write_text(json.dumps(record, indent=2) + "\n", "utf-8"))

    def unfinished(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are still to be run; takes over the numbers of the others.

        Warns:
            UserWarning: names the files that are not a finished job of this run; they are left as they are and not read.
        """
        self._order = [job.name for job in jobs]
        known = {f"{job.name}.json": job for job in jobs}
        for path in sorted((self.path / "cells").iterdir()):
            if path.name.startswith(".partial-"):
                continue
            rows = self._read(path, known[path.name]) if path.name in known else None
            if rows is None:
                warnings.warn(f"{str(path)!r} is not a finished job of this run and was skipped.", stacklevel=2)
            else:
                self._rows[known[path.name].name] = rows
        if self._rows:
            self._assemble()
        return [job for job in jobs if job.name not in self._rows]

    def add(self, job: Job, finished: Finished) -> None:
        """Writes a finished job's files, and ``results.parquet`` anew."""
        state = {"weights": finished.weights, "fit": vars(finished.fit)}
        self._write(f"models/{job.name}.pt", lambda path: torch.save(state, path))
        cell = {
            "run": self._digest,
            "job": _identity(job),
            "seed": job.seed,
            "ran_on": finished.device,
            "versions": _versions(),
            "values": finished.values,
        }
        # Last, since it is what makes the job a finished one.
        self._write(f"cells/{job.name}.json", lambda path: path.write_text(json.dumps(cell, indent=1) + "\n", "utf-8"))
        self._rows[job.name] = _rows(job, finished.values)
        self._assemble()

    def model(self, job: Job) -> tuple[dict[str, Tensor], Fit] | None:
        """The trained weights of a finished job and how its training went; None if there is no such file."""
        try:
            state = torch.load(self.path / "models" / f"{job.name}.pt", weights_only=True)
            return state["weights"], Fit(**state["fit"])
        except Exception:  # a file that is damaged may raise anything
            return None

    @property
    def results(self) -> pd.DataFrame:
        """One row for each data set, method, split and metric."""
        rows = [row for name in self._order for row in self._rows.get(name, ())]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def figure(self, name: str, save: Callable[[Path], object]) -> Path:
        """Writes a figure by ``save(path)`` and returns its path."""
        self._write(f"figures/{name}.png", save)
        return self.path / "figures" / f"{name}.png"

    def _assemble(self) -> None:
        self._write("results.parquet", lambda path: self.results.to_parquet(path, index=False))

    def _read(self, path: Path, job: Job) -> list[tuple[Any, ...]] | None:
        """The rows in a job's file, None if it is damaged or of another run."""
        try:
            cell = json.loads(path.read_text("utf-8"))
            ours = cell["run"] == self._digest and cell["job"] == _identity(job)
            return _rows(job, cell["values"]) if ours else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _write(self, name: str, save: Callable[[Path], object]) -> None:
        target = self.path / name
        partial = target.with_name(f".partial-{os.getpid()}-{target.name}")  # two runs may share the folder
        try:
            save(partial)
            os.replace(partial, target)
        except OSError as error:
            raise ValueError(f"{str(target)!r} could not be written ({error.strerror}). Try another --out.") from None
        finally:
            partial.unlink(missing_ok=True)


def recorded_config(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The configuration of the run that a folder holds; None if it holds none.

    Raises:
        ValueError: if its ``config.json`` is not a run's.
    """
    file = Path(path) / "config.json"
    try:
        recorded = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        recorded = None
    if not isinstance(recorded, dict) or "experiment" not in recorded:
        raise ValueError(f"{str(file)!r} is not a run's configuration. Try another --out.")
    return recorded


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits, one row for each method, in the order of the run."""
    grouped = results.groupby(["method", "metric"], sort=False)["value"]
    table: pd.DataFrame = grouped.agg(["mean", "std"]).unstack("metric")  # type: ignore[assignment] # never a Series here
    return table.reindex(results["method"].unique())


def _rows(job: Job, values: dict[str, list[float]]) -> list[tuple[Any, ...]]:
    config = job.config
    return [
        (config.experiment, config.dataset, "mlp", config.methods[0], config.setting, split, metric, float(number))
        for metric, numbers in values.items()
        for split, number in zip(config.splits, numbers, strict=True)
    ]


def _identity(job: Job) -> dict[str, Any]:
    config = job.config
    names = {"dataset": config.dataset, "method": config.methods[0], "setting": config.setting}
    return {**names, "splits": list(config.splits)}


def _as_json(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it is read back, with lists for tuples."""
    read: dict[str, Any] = json.loads(json.dumps(record))
    return read


def _digest(record: dict[str, Any]) -> str:
    deciding = {name: value for name, value in record.items() if name not in PLACES}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    packages = ("pyro-ppl", "torch", "numpy", "pandas", "scikit-learn")
    own = {"pyro_probmix": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in packages}
