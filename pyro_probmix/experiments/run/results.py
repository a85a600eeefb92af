"""A run's folder: tidy results, configuration, and finished jobs, from which a run is resumed."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.run.jobs import Finished, Job, Scored
from pyro_probmix.experiments.run.measures import Calibration
from pyro_probmix.experiments.run.record import check_same, digest_of, record_of, recorded_config, versions_of_packages
from pyro_probmix.files import regular, write_file, write_files
from pyro_probmix.moves import UnfinishedError
from pyro_probmix.names import shown
from pyro_probmix.unfinished import Save, alone, settle

__all__ = ["COLUMNS", "TABLES", "RunFolder", "summary"]

_KEYS = ("experiment", "dataset", "network", "method", "setting", "split")
COLUMNS = (*_KEYS, "metric", "value")
_ADVICE = "Try another --out."
_PARTS = ("cells", "checkpoints", "figures", "models")
#: File -> its columns.
TABLES = {
    "results": COLUMNS,
    "curves": (*_KEYS, "epoch", "train_loss", "validation_nll"),
    "calibration": (*_KEYS, "bin", "count", "correct", "confidence"),
}


class RunFolder:
    """The folder of a run: its results, ``config.json``, ``figures/*.png``, and a file for each finished job.

    ``cells/JOB.json`` holds a job's numbers, ``models/JOB.safetensors`` the trained weights, ``checkpoints/`` the state of
    running jobs. ``results.parquet``, ``curves.parquet`` and ``calibration.parquet`` gather the numbers of all cells, see
    ``TABLES``. A run on a folder with the same configuration takes the finished jobs from there. One of the four folders may
    be on another disk, by a mount or by a link that is there before the run.

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
            for name in _PARTS:
                if (self.path / name).is_symlink() and not (self.path / name).is_dir():
                    raise ValueError(
                        f"{shown(self.path / name)} is a link to no folder, expected one that is there. Try making that folder."
                    )
                (self.path / name).mkdir(parents=True, exist_ok=True)
            for part in (self.path, self.checkpoints, *(self.path / name for name in _PARTS if self._is_apart(name))):
                settle(part)
                with tempfile.TemporaryFile(dir=part):
                    pass
        except UnfinishedError:
            raise
        except OSError as error:
            raise ValueError(
                f"the folder {shown(self.path)} cannot be written to ({error.strerror}). {_ADVICE}"
            ) from None
        record = record_of(config, device)
        if recorded is None:
            text = json.dumps(record, indent=2) + "\n"
            write_file(self.path / "config.json", lambda file: file.write_text(text, "utf-8"), new=True, advice=_ADVICE)
            recorded = recorded_config(path)  # another run's, if it has begun here at the same time
        check_same(self.path, recorded or {}, record)
        self._digest = digest_of(config)
        self._cells: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
        self._known: dict[str, Job] = {}

    def unfinished(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are still to be run; takes over the numbers of the others.

        Raises:
            ValueError: if there are tables without the cells that they were gathered from, and jobs that are not in them.

        Warns:
            UserWarning: names the files that are not a finished job of this run; they are left as they are and not read.
        """
        self._known = {job.name: job for job in jobs}
        for path in self._gather():
            warnings.warn(f"{shown(path)} is not a finished job of this run and was skipped.", stacklevel=2)
        if self._cells:
            self._assemble()
        elif (self.path / "results.parquet").exists():
            self._take_tables()
        for job in jobs:
            if job.name in self._cells:  # killed after it was finished, before its checkpoint was removed
                job.checkpoint(self.checkpoints).path.unlink(missing_ok=True)
        return [job for job in jobs if job.name not in self._cells]

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints of running jobs."""
        return self.path / "checkpoints"

    def add(self, job: Job, finished: Finished) -> None:
        """Writes a finished job's files, and the tables again."""
        cell = {
            "run": self._digest,
            "job": _identity(job),
            "seed": job.seed,
            "ran_on": finished.device,
            "versions": versions_of_packages(),
            "scored": [asdict(one) for one in finished.scored],
        }
        self._write(
            {
                f"models/{job.name}.safetensors": partial(_save, finished.weights),
                f"cells/{job.name}.json": lambda path: path.write_text(json.dumps(cell) + "\n", "utf-8"),
            }
        )
        job.checkpoint(self.checkpoints).path.unlink(missing_ok=True)
        self._assemble()

    def weights(self, job: Job) -> dict[str, Tensor] | None:
        """The trained weights of a finished job; None if there is no such file."""
        try:
            return load_file(regular(self.path / "models" / f"{job.name}.safetensors"))
        except (OSError, SafetensorError):
            return None

    @property
    def results(self) -> pd.DataFrame:
        """One row for each data set, network, method, setting, split and metric."""
        return self.table("results")

    def table(self, name: str) -> pd.DataFrame:
        """One of ``TABLES``, in the order of the jobs."""
        rows = [row for job in self._known if job in self._cells for row in self._cells[job][name]]
        return pd.DataFrame(rows, columns=list(TABLES[name]))

    def draw(self, figures: Mapping[str, Save]) -> list[Path]:
        """Writes figures by their names, all or none, and returns their paths."""
        files = {f"figures/{name}.png": save for name, save in figures.items()}
        self._write(files)
        return [self.path / name for name in files]

    def _assemble(self) -> None:
        """Writes the tables, with the cells that another run on the same folder has finished, too."""
        with alone(self.path / "cells"):  # else that run's tables could be replaced by ones without its last cell
            self._gather()
            self._write(
                {f"{name}.parquet": partial(self.table(name).to_parquet, index=False) for name in TABLES},
            )

    def _take_tables(self) -> None:
        """Takes the numbers of a finished run from its tables, if its cells were deleted."""
        keys = ["dataset", "network", "method"]
        try:
            tables = {
                name: pd.read_parquet(regular(self.path / f"{name}.parquet"))[list(columns)]
                for name, columns in TABLES.items()
            }
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"the tables in {shown(self.path)} cannot be read ({error}). Try another --out.") from None
        for name, job in self._known.items():
            config, found = job.config, {}
            for table, rows in tables.items():
                mine = (rows[keys] == [config.dataset, config.network, config.methods[0]]).all(axis=1)
                found[table] = list(rows[mine & rows["split"].isin(config.splits)].itertuples(index=False, name=None))
            if {row[5] for row in found["results"]} == set(config.splits):
                self._cells[name] = found
        if len(self._cells) < len(self._known):
            raise ValueError(
                f"the folder {shown(self.path)} holds the tables of a run without its cells, expected them to go on from. "
                "Try another --out."
            )

    def _gather(self) -> list[Path]:
        """Reads new cells; returns the files that are not cells of this run."""
        foreign = []
        for path in sorted((self.path / "cells").iterdir()):
            if path.name.startswith(".") or path.stem in self._cells:
                continue
            job = self._known.get(path.stem) if path.suffix == ".json" else None
            rows = None if job is None else self._read(path, job)
            if rows is None:
                foreign.append(path)
            else:
                self._cells[path.stem] = rows
        return foreign

    def _read(self, path: Path, job: Job) -> dict[str, list[tuple[Any, ...]]] | None:
        """The rows of a job's file for each table, None if it is damaged or of another run."""
        try:
            cell = json.loads(regular(path).read_text("utf-8"))
            if cell["run"] != self._digest or cell["job"] != _identity(job):
                return None
            return _rows(job, [Scored(**one) for one in cell["scored"]])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _is_apart(self, name: str) -> bool:
        """Whether a folder of the run is elsewhere, by a link or a mount."""
        folder = self.path / name
        return folder.is_symlink() or folder.stat().st_dev != self.path.stat().st_dev

    def _write(self, files: Mapping[str, Save]) -> None:
        """Writes files all or none; those of folders that are elsewhere before the others, and the cells last.

        A job whose cell is missing is run again, whatever else of it is there.
        """
        parts: dict[Path, dict[str, Save]] = {}
        for name, save in files.items():
            part, _, rest = name.partition("/")
            if rest and self._is_apart(part):
                parts.setdefault((self.path / part).resolve(), {})[rest] = save
            else:
                parts.setdefault(self.path, {})[name] = save
        cells = (self.path / "cells").resolve()
        for folder in sorted(parts, key=lambda folder: (folder == cells, folder == self.path)):
            write_files(folder, parts[folder], advice=_ADVICE, errors=(SafetensorError, pa.ArrowException))


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits, one row for each method, in the order of the run."""
    grouped = results.groupby(["method", "metric"], sort=False)["value"]
    table: pd.DataFrame = grouped.agg(["mean", "std"]).unstack("metric")  # type: ignore[assignment] # never a Series here
    return table.reindex(results["method"].unique())


def _rows(job: Job, scored: Sequence[Scored]) -> dict[str, list[tuple[Any, ...]]]:
    """A job's rows of each table."""
    config = job.config
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    for one in scored:
        keys = (config.experiment, config.dataset, config.network, config.methods[0], one.setting)
        for metric, numbers in one.values.items():
            for split, number in zip(config.splits, numbers, strict=True):
                rows["results"].append((*keys, split, metric, float(number)))
        rows["curves"] += [(*keys, int(split), int(epoch), float(a), float(b)) for split, epoch, a, b in one.curves]
        for split, counted in zip(config.splits, one.calibration, strict=True):
            calibration = counted if isinstance(counted, Calibration) else Calibration(**counted)
            for index, count in enumerate(calibration.count):
                classes = bool(calibration.correct)
                more = (calibration.correct[index], calibration.confidence[index]) if classes else (0, float("nan"))
                rows["calibration"].append((*keys, split, index, count, *more))
    return rows


def _identity(job: Job) -> dict[str, Any]:
    config = job.config
    names: dict[str, Any] = {"dataset": config.dataset, "network": config.network, "method": config.methods[0]}
    names["tries"] = [one.label for one in job.tries]
    return {**names, "splits": list(config.splits)}


def _save(weights: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
