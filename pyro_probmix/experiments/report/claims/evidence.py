"""Claims, and the results that decide them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, TypeVar

import pandas as pd

from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import Finding
from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables
from pyro_probmix.experiments.report.numbers.tidy import ablation, groups, lower_is_better, wide

__all__ = ["SHARED", "Check", "Claim", "Evidence", "diverged_as_worst"]

_T = TypeVar("_T")
#: Test rows of a published split of the UCI sets, in training rows.
SHARED = 1 / 9


@dataclass(frozen=True, eq=False)
class Evidence:
    """Results under one setting, the grids of the ablations beside them; the paper's methods only.

    Attributes:
        results: columns ``COLUMNS``.
        setting: for example ``"fixed"``.
        tabulated: whether these are a table's means, each in the place of a single run, and not runs.
        resampled: whether to tell how uncertain what is found is; else it is of the runs as they are, in far less time.
    """

    results: pd.DataFrame
    setting: str
    tabulated: bool = False
    resampled: bool = True
    _found: dict[tuple[str | int | float, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def toy(self, task: str, metric: str) -> Centres:
        """Medians of a toy experiment: those of its run, or of the ablation's cell at the fixed alpha and beta."""
        return self._once(("toy", task, metric), lambda: self._toy(task, metric))

    def _toy(self, task: str, metric: str) -> Centres:
        scores = wide(self._of(f"toy-{task}", "mlp"), metric)
        alike = (0.1, 0.0 if task == "regression" else 0.01)
        if self.setting == "fixed" and self.setting not in scores:
            grid = self.grid(task, metric)
            return grid[alike] if alike in grid else Centres(pd.DataFrame(), task, metric)
        return Centres(scores.get(self.setting, pd.DataFrame()), self._unit(f"toy-{task}"), metric)

    def grid(self, task: str, metric: str) -> dict[tuple[float, float], Centres]:
        """Medians of an ablation, at each (alpha, beta)."""
        return self._once(("grid", task, metric), lambda: self._grid(task, metric))

    def _grid(self, task: str, metric: str) -> dict[tuple[float, float], Centres]:
        name = f"ablation-{task}"
        return {
            at: Centres(frame, self._unit(name), metric) for at, frame in ablation(self._of(name), name, metric).items()
        }

    def at_beta(self, task: str, metric: str, beta: float) -> Centres:
        """Medians of an ablation at one beta, of each run's mean over alpha."""
        return self._once(("at beta", task, metric, beta), lambda: self._at_beta(task, metric, beta))

    def _at_beta(self, task: str, metric: str, beta: float) -> Centres:
        frames = [cell.frame for (_, b), cell in self.grid(task, metric).items() if b == beta]
        frame = reduce(add, frames) / len(frames) if frames else pd.DataFrame()
        return Centres(frame, self._unit(f"ablation-{task}"), metric)

    def rows(self, table: int) -> dict[tuple[str, str], Centres]:
        """Means of each row of a table, at (network, dataset); without runs where a method is missing."""
        return self._once(("rows", table), lambda: self._rows(table))

    def _rows(self, table: int) -> dict[tuple[str, str], Centres]:
        paper = paper_tables()
        paper = paper[paper["table"] == table]
        metric = str(paper["metric"].iloc[0])
        ours = self._of("uci" if paper["network"].eq("mlp").all() else "stocks")
        ours = ours[ours["setting"] == self.setting]
        rows: dict[tuple[str, str], Centres] = {}
        for (network, dataset), part in groups(paper, ["network", "dataset"]):
            here = ours[(ours["network"] == network) & (ours["dataset"] == dataset)]
            standardised = f"{metric} (standardised)"  # the same order of the methods, in one unit for all stocks
            scores = wide(here, standardised if standardised in set(here["metric"]) else metric)
            frame = scores.get(self.setting, pd.DataFrame())
            complete = set(part["method"]) <= set(frame.columns)
            rows[network, dataset] = Centres(
                frame.dropna() if complete else pd.DataFrame(),
                self._unit(f"{network} {dataset}"),
                metric,
                "mean",
                SHARED if network == "mlp" else 0.0,
                self.tabulated,
            )
        return rows

    def _unit(self, name: str) -> str | None:
        return name if self.resampled else None

    def _of(self, experiment: str, network: str | None = None) -> pd.DataFrame:
        """An experiment's rows of the paper's methods, those that diverged as the worst."""
        rows = self.results[(self.results["experiment"] == experiment) & self.results["method"].isin(METHODS)]
        return diverged_as_worst(rows if network is None else rows[rows["network"] == network])

    def _once(self, key: tuple[str | int | float, ...], make: Callable[[], _T]) -> _T:
        """The value of ``make``, computed once: many claims use the same scores."""
        if key not in self._found:
            self._found[key] = make()
        found: _T = self._found[key]
        return found


def diverged_as_worst(rows: pd.DataFrame) -> pd.DataFrame:
    """Results in which a run that has no number has the worst one, so that it differs from a run that is not there."""
    lost = rows["value"].isna()
    if not lost.any():
        return rows
    worst = rows["metric"].map(lambda metric: math.inf if lower_is_better(metric) else -math.inf)
    return rows.assign(value=rows["value"].mask(lost, worst))


Check = Callable[[Evidence], Finding | None]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        id: short, unique.
        where: its place in the paper.
        text: what is claimed, in our words.
        rule: what is compared, where the claim leaves that open.
        check: from the results to a finding, None where they hold no numbers for it.
    """

    id: str
    where: str
    text: str
    rule: str
    check: Check
