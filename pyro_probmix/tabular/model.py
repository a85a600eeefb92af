"""A model of a table: the encoding of its columns, a fitted estimator, and the names of its predictions."""

from __future__ import annotations

__all__ = ["TableModel"]

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.columns.levels import codes, spelled
from pyro_probmix.columns.new_levels import NewLevels
from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.estimators.loading import load
from pyro_probmix.estimators.regressor import ProbMixRegressor
from pyro_probmix.files import reading, write_files
from pyro_probmix.names import shown
from pyro_probmix.tables.names import distinct, listed, remedy
from pyro_probmix.tables.writing import expect_folder
from pyro_probmix.tabular.asking import Asked, expect_all, in_options
from pyro_probmix.tabular.column import Column
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.model_files import FORMAT, OWN_MODEL, digest, is_record, read_record, told_of
from pyro_probmix.tabular.page_files import files_of_page
from pyro_probmix.tabular.targets import TASKS, Ends, numbers
from pyro_probmix.tabular.texts.conventions import Conventions, likely_decimal
from pyro_probmix.unfinished import UNFINISHED, settle

#: The levels of a prediction's quantiles.
LEVELS = (0.05, 0.5, 0.95)
#: The coverage of a conformal interval.
COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class TableModel:
    """An estimator for tables with the columns of its training table.

    Attributes:
        columns: the encoding of the features.
        estimator: fitted.
        targets: names of the target columns.
        meanings: of their values.
        impute: whether values may be missing without a warning where the training rows had none.
        ranges: the lowest and the highest value of each target of a regression in the training rows.
        ends: what says how far the target is known; None where it is known itself.

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
    meanings: tuple[Column, ...]
    impute: bool = False
    ranges: tuple[tuple[float, float], ...] = ()
    ends: Ends | None = None

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        targets: list[str],
        *,
        task: str | None = None,
        impute: bool = False,
        drop_missing_target: bool = False,
        upper: str | None = None,
        event: str | None = None,
        conventions: Conventions | None = None,
        **parameters: Any,
    ) -> TableModel:
        """Fits to the rows of a table; what was read in a way that a reader may want to know of is a warning.

        Args:
            frame: features and targets.
            targets: the target columns; one for a classification.
            task: ``"regression"`` or ``"classification"``; by default true and false, categories and texts that recur are
                classified, numbers are regressed, and all else is refused.
            impute: whether values may be missing in other rows, without a warning, where none is here.
            drop_missing_target: whether rows without a target are left out.
            upper: a column of upper ends of the target, whose column has the lower ones: a missing end is open, and of two
                equal ones the target is known.
            event: a column that is true (1) where the target is known, and false (0) where it is known to be larger.
            conventions: what the user says of the table.
            parameters: of the estimator.

        Raises:
            ValueError: for columns or parameters that do not fit, all columns at once, with the option that settles each.
        """
        if not len(frame):
            raise ValueError("the table has no rows, expected some below its header. Try another file.")
        if task not in (None, *TASKS):
            raise ValueError(f"unknown task {shown(task)}, expected one of {', '.join(TASKS)}. Try --task regression.")
        if task == "classification" and len(targets) > 1:
            raise ValueError(f"a classification has one target, got {listed(targets)}. Try one of them.")
        if upper is not None and event is not None:
            raise ValueError(
                f"got --upper {shown(upper)} and --event {shown(event)}, expected one of the two. Try --upper alone."
            )
        said = conventions or Conventions()
        asked = Asked(frame, targets, replace(said, likely_decimal=said.likely_decimal or likely_decimal(frame)))
        ends = asked.ends(event if upper is None else upper, "boolean" if upper is None else "number")
        task, meanings, notes = asked.meanings("regression" if ends is not None and task is None else task)
        if ends is not None and task == "classification":
            raise ValueError(
                f"got {shown(ends.name)} for classes, expected a target of numbers. Try --task regression."
            )
        kept = asked.with_target(meanings, ends, drop=drop_missing_target)
        columns = asked.columns(kept, ends)
        asked.answer()
        if len(kept) < len(frame):
            notes.append(f"{len(frame) - len(kept)} of {len(frame)} rows have no target, and are left out.")
        for note in (*notes, *columns.notes):
            warnings.warn(note, UserWarning, stacklevel=2)
        made: Any = {"regression": ProbMixRegressor, "classification": ProbMixClassifier}[task](**parameters)
        model = cls(columns, made, tuple(targets), meanings, impute, ends=ends)
        y = model.observed(kept)
        known: dict[str, Any] = {}
        if task == "regression":
            each = [y[np.isfinite(y)]] if ends is not None else y.reshape(len(y), -1).astype(np.float64).T
            model = replace(model, ranges=tuple((float(target.min()), float(target.max())) for target in each))
        if ends is not None:
            y, known["y_upper"] = y.T
        with warnings.catch_warnings():
            # The warning about many classes is for users who did not choose a classification; here it was chosen by name.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            try:
                model.estimator.fit(model.features(kept), y, **known)
            except ValueError as error:
                raise ValueError(in_options(str(error))) from None
        return model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none for a regression."""
        return tuple(str(c) for c in getattr(self.estimator, "classes_", ()))

    @property
    def task(self) -> str:
        """The task in words: ``"regression on y"``, or ``"classification of y into 3 classes"``."""
        named = ", ".join(self.targets)
        if isinstance(self.estimator, ProbMixClassifier):
            return f"classification of {named} into {len(self.classes)} classes"
        return f"regression on {named}"

    def features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The features of the rows as the estimator takes them; raises ValueError for columns that do not fit, or no rows."""
        if not len(frame):
            raise ValueError("the table has no rows, expected some below its header. Try another file.")
        return self.columns.typed(frame)

    def observed(self, frame: pd.DataFrame) -> np.ndarray:
        """The targets of a table, [n] or [n, T], their ends, [n, 2], or classes as text, [n].

        Raises:
            ValueError: for missing values, or texts.
        """
        lost = [name for name in self.targets if name not in frame.columns]
        if lost:
            raise ValueError(
                f"the table has no target column {listed(lost)}, which the model predicts; there are {listed(frame.columns)}. "
                + remedy(frame.columns, "Try a table with it, or probmix predict, which needs none.")
            )
        if isinstance(self.estimator, ProbMixClassifier):
            values = self.meanings[0].read(frame[self.targets[0]]).astype(object)
            expect_all(self.targets, values.isna().to_numpy()[:, None])
            found = codes(values, self.classes)
            named = [self.classes[k] if k >= 0 else spelled(value) for k, value in zip(found, values, strict=True)]
            return np.array(named, dtype=object)
        if self.ends is not None:
            known = self.ends.read(frame, self.meanings[0])
            expect_all(self.targets, np.asarray(np.isnan(known).any(1) | np.isinf(known).all(1))[:, None])
            return known
        y = numbers(self.meanings, frame)
        expect_all(self.targets, np.isnan(y))
        return y[:, 0] if len(self.targets) == 1 else y

    def expect_conformal(self) -> None:
        """Raises ValueError unless the model has conformal intervals: it is of numbers, and its fit held rows out."""
        if isinstance(self.estimator, ProbMixClassifier):
            raise ValueError("--conformal is for numbers, but the model is of classes. Try probmix predict without it.")
        if self.estimator.state_.scores is None:
            raise ValueError(
                "--conformal needs rows that the fit held out, but the model was fitted to too few rows to hold some out. Try "
                "a fit to at least 20 rows, or probmix predict without it."
            )

    def predict(self, frame: pd.DataFrame, conformal: bool = False) -> pd.DataFrame:
        """For each row the mean, standard deviation and quantiles of each target in its units; or the classes' probabilities.

        Args:
            frame: the features; other columns are left out.
            conformal: whether the ends of the conformal interval of coverage 90 % follow.
        """
        with warnings.catch_warnings():
            if self.impute:
                warnings.filterwarnings("ignore", ".*none was in the rows of the fit", UserWarning)
            return self._predicted(self.features(frame), conformal)

    def _predicted(self, x: pd.DataFrame, conformal: bool) -> pd.DataFrame:
        if isinstance(self.estimator, ProbMixClassifier):
            probabilities = self.estimator.predict_proba(x)
            predicted = pd.Series(np.asarray(self.classes)[probabilities.argmax(1)], name=self.targets[0])
            # A column that has the target's name gets a prime, so that no two have one name.
            names = distinct([self.targets[0], *(f"probability of {name}" for name in self.classes)])
            return pd.concat([predicted, pd.DataFrame(probabilities, columns=names[1:])], axis=1)
        mean, std = (values.reshape(len(x), -1) for values in self.estimator.predict(x, return_std=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NewLevels)  # of which the moments have warned
            quantiles = self.estimator.predict_quantiles(x, LEVELS).reshape(len(x), -1, len(LEVELS))
            ends = (
                self.estimator.predict_interval(x, COVERAGE, conformal=True) if conformal else np.empty((len(x), 0, 2))
            )
        columns: dict[str, np.ndarray] = {}
        for t, name in enumerate(self.targets):
            columns |= {f"{name} mean": mean[:, t], f"{name} std": std[:, t]}
            columns |= {f"{name} {100 * level:g} %": quantiles[:, t, q] for q, level in enumerate(LEVELS)}
        for t, (low, high) in enumerate(ends.reshape(len(x), -1, 2).transpose(1, 2, 0)):
            columns |= {f"{self.targets[t]} conformal low": low, f"{self.targets[t]} conformal high": high}
        return pd.DataFrame(columns)

    @staticmethod
    def expect_place(folder: str | os.PathLike[str]) -> None:
        """Raises ValueError if a model cannot be saved to a folder, as far as is known without writing."""
        path = Path(folder)
        expect_folder(path)
        inside = {one.name for one in path.iterdir()} if path.exists() else set()
        ours = {name for name in inside if name == "check" or name.startswith((*UNFINISHED, "model-"))}
        if "table.json" in inside and is_record(path / "table.json", any(map(OWN_MODEL.fullmatch, inside))):
            ours.add("table.json")
        if inside - ours:
            raise ValueError(f"the folder {shown(path)} holds other files, expected none. Try another --out.")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``table.json`` and a file of the estimator into a folder; what was there stays until both are whole.

        A page of ``probmix check`` in a folder ``check`` there, which is about the model before, is removed with that.

        Raises:
            ValueError: if the folder cannot be written to, or holds something else.
        """
        path = Path(folder)
        self.expect_place(path)
        table, text = path / "table.json", ""

        def fill(private: Path) -> None:
            nonlocal text
            self.estimator.save(private / "model")
            content = hashlib.sha256((private / "model").read_bytes()).hexdigest()
            # Named by its content, so that even where there are no locks no model lies beside the record of another.
            model = (private / "model").rename(private / f"model-{content[:16]}.safetensors")
            record = {
                "format": FORMAT,
                "model": model.name,
                "sha256": content,
                "targets": list(self.targets),
                "meanings": [asdict(column) for column in self.meanings],
                "impute": self.impute,
                "ranges": [list(ends) for ends in self.ranges],
                "ends": None if self.ends is None else asdict(self.ends.column),
                **self.columns.record(),
            }
            text = json.dumps(record | {"digest": digest(record)}, indent=1) + "\n"
            (private / "table.json").write_text(text, "utf-8")

        def stale() -> Iterable[str]:
            yield from (one.name for one in path.iterdir() if OWN_MODEL.fullmatch(one.name))
            page = path / "check"
            if page.is_dir() and not page.is_symlink():  # a linked folder is not the model's
                settle(page, ["check.html"])  # a check may have been killed there
                if not (table.is_file() and table.read_bytes() == text.encode()):
                    yield from (f"check/{name}" for name in files_of_page(page))

        write_files(path, fill, stale=stale, advice="Try another --out.")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TableModel:
        """Reads what :meth:`save` wrote; its predictions are the same, bit for bit.

        Raises:
            ValueError: if it is no such folder, of another version, damaged, or was changed, or it cannot be read.
        """
        path = Path(folder)
        if "\0" in str(path):
            raise ValueError(f"{shown(path)} has a NUL character, expected a model's folder. Try another path.")
        if os.path.isfile(path):
            raise ValueError(f"{shown(path)} is a file, expected a model's folder. Try {shown(path.parent)}.")
        with ExitStack() as others:
            with told_of(path):
                others.enter_context(reading(path))
            found = read_record(path)
            estimator: Any = load(found.model)
        return cls(found.columns, estimator, found.targets, found.meanings, found.impute, found.ranges, found.ends)
