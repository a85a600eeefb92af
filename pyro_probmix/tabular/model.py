"""A model of a table: how its columns become numbers, an estimator of them, and what its predictions are called."""

from __future__ import annotations

__all__ = ["TableModel"]

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.estimators.regressor import ProbMixRegressor
from pyro_probmix.estimators.saving import load
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.files import LABELS, NUMBERS, kind_of, listed

FORMAT = 1
#: The levels of a prediction's quantiles.
LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class TableModel:
    """An estimator for tables with the columns of its training table.

    Attributes:
        columns: how the features become numbers.
        estimator: fitted.
        targets: names of the target columns.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"size": range(40), "kind": ["a", "b"] * 20, "price": [2.0 * k for k in range(40)]})
        >>> model = TableModel.fit(table, ["price"], epochs=2, ensemble=2, random_state=0)
        >>> list(model.predict(table[:3]).columns)
        ['price mean', 'price std', 'price 5 %', 'price 50 %', 'price 95 %']
    """

    columns: Columns
    estimator: ProbMixRegressor | ProbMixClassifier
    targets: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        targets: list[str],
        *,
        task: str | None = None,
        impute: bool = False,
        **parameters: Any,
    ) -> TableModel:
        """Fits to the rows of a table.

        Args:
            frame: features and targets.
            targets: the target columns; one for a classification.
            task: ``"regression"`` or ``"classification"``; by default text, true and false, and categories are classified.
            impute: see :meth:`Columns.fit`.
            parameters: of the estimator.

        Raises:
            ValueError: for columns or parameters that do not fit.
        """
        labels = len(targets) == 1 and kind_of(frame[targets[0]]) in LABELS
        task = task or ("classification" if labels else "regression")
        columns = Columns.fit(frame.drop(columns=targets), impute=impute)
        make = {"regression": ProbMixRegressor, "classification": ProbMixClassifier}
        if task not in make:
            raise ValueError(f"unknown task {task!r}, expected one of {', '.join(make)}. Try --task regression.")
        model = cls(columns, make[task](**parameters), tuple(targets))
        model.estimator.fit(pd.DataFrame(columns.numbers(frame), columns=list(columns.names)), model.observed(frame))
        return model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none for a regression."""
        return tuple(str(c) for c in getattr(self.estimator, "classes_", ()))

    def features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows as numbers; raises ValueError for columns that do not fit."""
        return pd.DataFrame(self.columns.numbers(frame), columns=list(self.columns.names))

    def observed(self, frame: pd.DataFrame) -> np.ndarray:
        """The targets of a table, [n], [n, T], or classes as text, [n]; raises ValueError for what is missing or no number."""
        lost = [name for name in self.targets if name not in frame.columns]
        if lost:
            raise ValueError(
                f"the table has no target column {listed(lost)}, expected {listed(self.targets)}. Try another."
            )
        gaps = np.argwhere(frame[list(self.targets)].isna().to_numpy())
        if len(gaps):
            raise ValueError(
                f"target column {self.targets[gaps[0][1]]!r} is missing at row {gaps[0][0]} (rows counted from 0), expected a "
                "value. Try to drop that row."
            )
        if isinstance(self.estimator, ProbMixClassifier):
            if len(self.targets) > 1:
                raise ValueError(f"a classification has one target, got {listed(self.targets)}. Try one of them.")
            return frame[self.targets[0]].astype(str).to_numpy(dtype=object)
        wrong = [name for name in self.targets if kind_of(frame[name]) not in (*NUMBERS, "boolean")]
        if wrong:
            raise ValueError(
                f"target column {wrong[0]!r} holds {kind_of(frame[wrong[0]])}, expected numbers. Try --task classification."
            )
        values: np.ndarray = frame[list(self.targets)].astype(np.float64).to_numpy()
        return values[:, 0] if len(self.targets) == 1 else values

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """For each row the mean, standard deviation and quantiles of each target in its units; or the classes' probabilities.

        Args:
            frame: the features; other columns are left out.
        """
        x = self.features(frame)
        if isinstance(self.estimator, ProbMixClassifier):
            probabilities = self.estimator.predict_proba(x)
            predicted = pd.Series(np.asarray(self.classes)[probabilities.argmax(1)], name=self.targets[0])
            named = {f"probability of {name}": probabilities[:, k] for k, name in enumerate(self.classes)}
            return pd.concat([predicted, pd.DataFrame(named)], axis=1)
        mean, std = (values.reshape(len(x), -1) for values in self.estimator.predict(x, return_std=True))
        quantiles = self.estimator.predict_quantiles(x, LEVELS).reshape(len(x), -1, len(LEVELS))
        columns: dict[str, np.ndarray] = {}
        for t, name in enumerate(self.targets):
            columns |= {f"{name} mean": mean[:, t], f"{name} std": std[:, t]}
            columns |= {f"{name} {100 * level:g} %": quantiles[:, t, q] for q, level in enumerate(LEVELS)}
        return pd.DataFrame(columns)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``table.json`` and a file of the estimator into a folder; what was there stays until both are whole.

        Raises:
            ValueError: if the folder cannot be written to, or holds something else.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
            foreign = [
                one
                for one in path.iterdir()
                if one.name != "check" and not one.name.startswith((".partial-", "model-"))
            ]
            if [one.name for one in foreign] not in ([], ["table.json"]):
                raise ValueError(f"the folder {str(path)!r} holds other files, expected none. Try another --out.")
            partial = path / f".partial-{os.getpid()}"
            self.estimator.save(partial)
            name = f"model-{hashlib.sha256(partial.read_bytes()).hexdigest()[:16]}.safetensors"
            os.replace(partial, path / name)
            record = {
                "format": FORMAT,
                "model": name,
                "targets": list(self.targets),
                "columns": self.columns.record(),
            }
            partial.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
            os.replace(partial, path / "table.json")  # from here on the new model is the one
            for old in path.glob("model-*.safetensors"):
                if old.name != name:
                    old.unlink()
        except OSError as error:
            raise ValueError(
                f"the folder {str(path)!r} could not be written to ({error.strerror or error}). Try another --out."
            ) from None
        finally:
            (path / f".partial-{os.getpid()}").unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TableModel:
        """Reads what :meth:`save` wrote; its predictions are the same, bit for bit.

        Raises:
            ValueError: if it is no such folder, of a newer version, or damaged.
        """
        file = Path(folder) / "table.json"
        try:
            record = json.loads(file.read_text("utf-8"))
            version = record["format"]
            if version == FORMAT:
                columns, targets = Columns.from_record(record["columns"]), tuple(record["targets"])
                name = Path(str(record["model"])).name
        except FileNotFoundError:
            raise ValueError(f"{str(folder)!r} holds no model: there is no {file}. Try probmix fit first.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{file} is damaged, expected a model as probmix fit wrote it. Try fitting it again."
            ) from None
        if version != FORMAT:
            raise ValueError(f"{file} has format {version}, expected {FORMAT}. Try a newer version of pyro_probmix.")
        estimator: Any = load(Path(folder) / name)
        return cls(columns, estimator, targets)
