"""Claims, the results that decide them, and verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pandas as pd

from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables
from pyro_probmix.experiments.report.numbers.tidy import ablation, groups, wide

__all__ = ["Check", "Claim", "Evidence", "Outcome", "Verdict"]

_T = TypeVar("_T")
Outcome = Literal["supported", "contradicted", "undecided", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim: its outcome, and the numbers, one comparison a line."""

    outcome: Outcome
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """Results under one setting, the grids of the ablations beside them; the paper's methods only.

    Attributes:
        results: columns ``COLUMNS``.
        setting: for example ``"fixed"``.
    """

    results: pd.DataFrame
    setting: str
    _found: dict[tuple[str | int, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def toy(self, task: str, metric: str) -> pd.DataFrame:
        """Scores of a toy experiment, [split, method]: those of its run, or of the ablation's cell at the fixed alpha, beta."""
        scores = self._once(("toy", task, metric), lambda: wide(self._of(f"toy-{task}", "mlp"), metric))
        alike = (0.1, 0.0 if task == "regression" else 0.01)
        if self.setting == "fixed" and self.setting not in scores:
            return self.grid(task, metric).get(alike, pd.DataFrame())
        return scores.get(self.setting, pd.DataFrame())

    def grid(self, task: str, metric: str) -> dict[tuple[float, float], pd.DataFrame]:
        """Scores of an ablation, (alpha, beta) -> [split, method]."""
        return self._once(
            ("grid", task, metric), lambda: ablation(self._of(f"ablation-{task}"), f"ablation-{task}", metric)
        )

    def at_beta(self, task: str, metric: str, beta: float) -> pd.DataFrame:
        """Scores of an ablation at one beta, mean over alpha, [split, method]."""
        frames = [frame for (_, b), frame in self.grid(task, metric).items() if b == beta]
        return pd.concat(frames).groupby(level=0).mean() if frames else pd.DataFrame()

    def rows(self, table: int) -> dict[tuple[str, str], pd.DataFrame]:
        """Scores of each row of a table, (network, dataset) -> [split, method]; empty where a method is missing."""
        return self._once(("rows", table), lambda: self._rows(table))

    def _rows(self, table: int) -> dict[tuple[str, str], pd.DataFrame]:
        paper = paper_tables()
        paper = paper[paper["table"] == table]
        metric = str(paper["metric"].iloc[0])
        ours = self._of("uci" if paper["network"].eq("mlp").all() else "stocks")
        ours = ours[ours["setting"] == self.setting]
        rows: dict[tuple[str, str], pd.DataFrame] = {}
        for (network, dataset), part in groups(paper, ["network", "dataset"]):
            here = ours[(ours["network"] == network) & (ours["dataset"] == dataset)]
            standardised = f"{metric} (standardised)"  # the same order of the methods, in one unit for all stocks
            scores = wide(here, standardised if standardised in set(here["metric"]) else metric)
            frame = scores.get(self.setting, pd.DataFrame())
            complete = set(part["method"]) <= set(frame.columns) and frame.notna().any().all()
            rows[network, dataset] = frame if complete else pd.DataFrame()
        return rows

    def _of(self, experiment: str, network: str | None = None) -> pd.DataFrame:
        """An experiment's rows of the paper's methods."""
        rows = self.results[(self.results["experiment"] == experiment) & self.results["method"].isin(METHODS)]
        return rows if network is None else rows[rows["network"] == network]

    def _once(self, key: tuple[str | int, ...], make: Callable[[], _T]) -> _T:
        """The value of ``make``, computed once: many claims use the same scores."""
        if key not in self._found:
            self._found[key] = make()
        found: _T = self._found[key]
        return found


Check = Callable[[Evidence], Verdict]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        id: short, unique.
        where: its place in the paper.
        text: what is claimed, in our words.
        rule: what is compared, where the claim leaves that open.
        check: the results to a verdict.
    """

    id: str
    where: str
    text: str
    rule: str
    check: Check
