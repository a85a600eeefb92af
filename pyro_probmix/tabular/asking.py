"""What the user of a table has to decide before a fit, asked all at once; targets that are missing."""

from __future__ import annotations

__all__ = ["Asked", "MissingTargets", "expect_all", "in_options"]

import re
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed
from pyro_probmix.tabular.column import Column
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.targets import Ends, ends_column, meaning_of_targets
from pyro_probmix.tabular.texts.conventions import Conventions
from pyro_probmix.tabular.texts.decisions import Decision, NeedsDecision


@dataclass
class Asked:
    """A table to fit to, and what its user has to decide; asked all at once."""

    frame: pd.DataFrame
    targets: list[str]
    said: Conventions
    decisions: list[Decision] = field(default_factory=list)

    def meanings(self, task: str | None) -> tuple[str, tuple[Column, ...], list[str]]:
        left = [name for name in self.targets if name in self.said.leave_out]
        if left:
            raise ValueError(
                f"got {listed(left)} to leave out, which is the target, expected features. Try another target."
            )
        try:
            return meaning_of_targets(self.frame, self.targets, task, self.said)
        except Decision as decision:
            self.decisions.append(_of_target(decision))
        except ValueError as error:
            self.decisions.append(Decision(self.targets[0], str(error), error=True))
        return "regression", (), []

    def ends(self, name: str | None, kind: str) -> Ends | None:
        """What a column says of how far the target is known; None without a column."""
        if name is None:
            return None
        if name not in self.frame.columns or name in self.targets:
            raise ValueError(
                f"the table has no column {shown(name)} beside its target, which should say how far that is known; there are "
                f"{listed(self.frame.columns)}. Try one of these."
            )
        if len(self.targets) > 1:
            raise ValueError(
                f"got {shown(name)} for {len(self.targets)} targets, expected one target. Try one model each."
            )
        try:
            return ends_column(self.frame, name, kind, self.said)
        except Decision as decision:
            self.decisions.append(decision)
        except ValueError as error:
            self.decisions.append(Decision(name, str(error), error=True))
        return None

    def with_target(self, meanings: tuple[Column, ...], ends: Ends | None, *, drop: bool) -> pd.DataFrame:
        """The rows with all targets; asks where some are missing and none may be dropped."""
        try:
            if ends is None:
                gone = np.array([meaning.read(self.frame[meaning.name]).isna() for meaning in meanings])
            else:
                known = [ends.read(self.frame, meaning) for meaning in meanings]
                gone = np.array([np.isnan(each).any(1) | np.isinf(each).all(1) for each in known])
        except ValueError as error:
            self.decisions.append(Decision(self.targets[0], f"target {error}", error=True))
            return self.frame
        rows = np.flatnonzero(gone.any(0)) if len(gone) else np.array([], dtype=np.intp)
        if len(rows) and not drop:
            names = listed(name for name, missing in zip(self.targets, gone, strict=True) if missing.any())
            self.decisions.append(Decision(self.targets[0], missing_target(names, rows, len(self.frame)), error=True))
        kept = self.frame.drop(index=self.frame.index[rows]).reset_index(drop=True) if len(rows) else self.frame
        if not len(kept):
            raise ValueError(f"target column {listed(self.targets)} has no value in any row. Try another target.")
        return kept

    def columns(self, kept: pd.DataFrame, ends: Ends | None) -> Columns:
        beside = [*self.targets, *([] if ends is None else [ends.name])]
        features = replace(self.said, categories=tuple(name for name in self.said.categories if name not in beside))
        try:
            return Columns.fit(kept.drop(columns=beside), features)
        except NeedsDecision as more:
            self.decisions += more.decisions
            return Columns(())

    def answer(self) -> None:
        """Raises what has to be decided."""
        if self.decisions:
            raise NeedsDecision(self.decisions)


def _of_target(decision: Decision) -> Decision:
    """The decision on a target, which cannot be left out, and is made classes by another option than a feature."""
    if decision.error:
        return decision
    option, name = decision.option.replace(f", or --leave-out {shown(decision.name)}", ""), shown(decision.name)
    for ask in (f", or --category {name}", f", --category {name}"):
        option = option.replace(ask, ", or --task classification")
    return Decision(decision.name, decision.what, option)


def in_options(text: str) -> str:
    """A message of an estimator with the command's options in the place of its own arguments.

    Example:
        >>> in_options("Try ProbMixClassifier, or likelihood='student-t'.")
        'Try --task classification, or --likelihood student-t.'
    """
    return re.sub(r"likelihood='([\w-]+)'", r"--likelihood \1", text).replace(
        "ProbMixClassifier", "--task classification"
    )


def missing_target(names: str, rows: np.ndarray, count: int) -> str:
    return (
        f"target column {names} is missing in {len(rows)} of {count} rows, first at row {rows[0]} (rows counted from 0), "
        "expected a value in each. Try --drop-missing-target."
    )


class MissingTargets(ValueError):
    """Rows without a target.

    Attributes:
        rows: their numbers.
    """

    def __init__(self, said: str, rows: np.ndarray) -> None:
        super().__init__(said)
        self.rows = rows


def expect_all(targets: tuple[str, ...], missing: np.ndarray) -> None:
    """Raises MissingTargets if a target is missing, [n, T]."""
    rows = np.flatnonzero(missing.any(1))
    if len(rows):
        names = listed(name for name, gone in zip(targets, missing.T, strict=True) if gone.any())
        raise MissingTargets(missing_target(names, rows, len(missing)), rows)
