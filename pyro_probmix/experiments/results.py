"""A run's folder: tidy results and the configuration, each written whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from pyro_probmix import __version__
from pyro_probmix.experiments.config import Config

__all__ = ["COLUMNS", "RunFolder", "summary"]

COLUMNS = ("experiment", "dataset", "network", "method", "setting", "split", "metric", "value")


class RunFolder:
    """Where a run leaves ``results.parquet``, ``config.json`` and ``figures/*.png``.

    Args:
        path: the folder, made if it is not there.

    Raises:
        ValueError: if it cannot be written to, or holds a run already.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            (self.path / "figures").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ValueError(
                f"the folder {str(self.path)!r} cannot be written to ({error.strerror}). Try another --out."
            ) from None
        if (self.path / "config.json").exists():
            raise ValueError(f"the folder {str(self.path)!r} holds a run already. Try another --out.")
        self._rows: list[dict[str, object]] = []

    def write_config(self, config: Config, record: dict[str, object]) -> None:
        """Writes ``config.json``: the configuration, what else is on record, and the versions."""
        packages = ("pyro-ppl", "torch", "numpy", "pandas", "scikit-learn")
        versions = {"pyro_probmix": __version__, "python": platform.python_version()}
        record = {**asdict(config), **record, "versions": versions | {name: version(name) for name in packages}}
        self._write("config.json", lambda path: path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8"))

    def add(self, config: Config, method: str, values: dict[str, list[float]]) -> None:
        """Adds a method's numbers, a list over the splits for each metric, and writes ``results.parquet`` anew."""
        for metric, numbers in values.items():
            for split, number in zip(config.splits, numbers, strict=True):
                row = (config.experiment, config.dataset, "mlp", method, config.setting, split, metric, number)
                self._rows.append(dict(zip(COLUMNS, row, strict=True)))
        self._write("results.parquet", lambda path: self.results.to_parquet(path, index=False))

    @property
    def results(self) -> pd.DataFrame:
        """One row for each method, split and metric."""
        return pd.DataFrame(self._rows, columns=list(COLUMNS))

    def figure(self, name: str, save: Callable[[Path], object]) -> Path:
        """Writes a figure by ``save(path)`` and returns its path."""
        self._write(f"figures/{name}.png", save)
        return self.path / "figures" / f"{name}.png"

    def _write(self, name: str, save: Callable[[Path], object]) -> None:
        target = self.path / name
        partial = target.with_name(f".partial-{target.name}")
        try:
            save(partial)
            os.replace(partial, target)
        except OSError as error:
            raise ValueError(f"{str(target)!r} could not be written ({error.strerror}). Try another --out.") from None
        finally:
            partial.unlink(missing_ok=True)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits, one row for each method, in the order of the run."""
    grouped = results.groupby(["method", "metric"], sort=False)["value"]
    table: pd.DataFrame = grouped.agg(["mean", "std"]).unstack("metric")  # type: ignore[assignment] # never a Series here
    return table.reindex(results["method"].unique())
