"""What the audit's numbers say: where each claim holds, how far each choice moves it, which setting is nearest to the paper."""

from __future__ import annotations

__all__ = [
    "GATHERED",
    "LAST",
    "NUMBERS",
    "Audited",
    "audited",
    "audits",
    "by_level",
    "gather",
    "holding",
    "in_part",
    "medians",
    "moved",
    "nearness",
    "settings_in",
]

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit.design import PARTS, Part, Point, canonical, design, factors_of
from pyro_probmix.experiments.audit.kept import gathered_before, with_former
from pyro_probmix.experiments.audit.running import numbers_in
from pyro_probmix.experiments.report.claims import CLAIMS
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Finding
from pyro_probmix.experiments.report.numbers.paper import paper_tables, scaled
from pyro_probmix.experiments.report.numbers.tidy import in_order, lower_is_better
from pyro_probmix.experiments.run.results import COLUMNS
from pyro_probmix.names import printable, shown

#: The choice that each training is scored for twice.
LAST = "best epoch"
_METRICS = ("nll", "rmse", "accuracy", "sharpness")
#: The file of a command's numbers, and its columns.
NUMBERS = "audit.parquet"
GATHERED = ("part", "folder", "epoch", "method", "split", "metric", "value")


def gather(out: Path) -> pd.DataFrame:
    """The numbers of an audit: of all its folders, and of a former command's file those of runs without a folder.

    Returns:
        columns ``GATHERED``.

    Raises:
        ValueError: if there are none.
    """
    frames = [
        rows[rows["metric"].isin(_METRICS)].assign(part=name, folder=folder)[list(GATHERED)]
        for name in PARTS
        for folder, rows in numbers_in(out, name)
    ]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(GATHERED))
    numbers = with_former(found, gathered_before(out, NUMBERS, GATHERED), ("part", "folder", "method"))
    if numbers.empty:
        raise ValueError(f"{shown(out)} holds no run of an audit. Try probmix run audit --out {printable(out)}.")
    return numbers


@dataclass(frozen=True, eq=False)
class Audited:
    """One data set of the audit, its numbers by setting.

    Attributes:
        name: of the data set.
        part: its design.
        points: the settings: the levels of the choices, whether the last epoch counts among them.
        scores: for each setting the rows, with the columns of a run's results; empty where a method is still missing.
            A number of a training that diverged is the worst.
        runs: seeds, or splits, that all methods have at all settings.
        full: whether the settings are all combinations of the choices, not a fraction of them.
        methods: those that have run, the paper's first.
    """

    name: str
    part: Part
    points: tuple[Point, ...]
    scores: tuple[pd.DataFrame, ...]
    runs: int
    full: bool
    methods: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is called on a page."""
        return "The toy regression by targets and scale" if self.name == "lead" else self.name

    @property
    def complete(self) -> bool:
        """Whether all of its settings have run."""
        return all(len(scores) > 0 for scores in self.scores)

    @property
    def choices(self) -> list[tuple[str, str, str]]:
        """Each choice: its name, our level, the other."""
        own = [(one.name, one.ours, one.other) for one in self.part.factors]
        return [*own, (LAST, "by validation", "the last")]

    def depends(self, method: str, choice: str) -> bool:
        """Whether a method depends on a choice."""
        return choice == LAST or choice in [factor.name for factor in factors_of(self.part, method)]

    @cached_property
    def findings(self) -> dict[int, dict[str, Finding]]:
        """What each setting says of each claim on this toy; none for a table."""
        kind = {"toy-regression": "R", "toy-classification": "C"}.get(self.part.config.experiment)
        claims = [claim for claim in CLAIMS if claim.id[0] == kind]
        found = {}
        for k, scores in enumerate(self.scores):
            evidence = Evidence(scores, "audit", resampled=False)
            checked = {claim.id: claim.check(evidence) for claim in claims}
            found[k] = {name: finding for name, finding in checked.items() if finding is not None}
        return found


def audits(gathered: pd.DataFrame) -> list[Audited]:
    """Each data set that is among the gathered numbers, in the order of the designs."""
    return [one for one in (audited(gathered, name) for name in PARTS) if one is not None]


def audited(gathered: pd.DataFrame, name: str) -> Audited | None:
    """One data set of gathered numbers by its settings.

    They are all combinations where these have run and each choice matters to a method that has, else those of the fraction.

    Returns:
        None if the data set is not among the numbers.
    """
    part, mine = PARTS[name], gathered[gathered["part"] == name]
    if mine.empty:
        return None
    mine = _as_results(mine, part)
    ran = tuple(in_order(sorted(mine["method"].unique())))
    by_folder = dict(list(mine.groupby(["folder", "method"])))

    def numbers_at(point: Point) -> list[pd.DataFrame]:
        found = (by_folder.get((canonical(part, point, method)[0], method)) for method in ran)
        return [frame for frame in found if frame is not None]

    # A method that depends on few choices has run at all combinations of all as soon as it has run at those of its own.
    matter = {factor.name for method in ran for factor in factors_of(part, method)}
    full = len(matter) == len(part.factors) and all(
        len(numbers_at(point)) == len(ran) for point in design(part, full=True)
    )
    points = design(part, full=full)
    there = [numbers_at(point) for point in points]
    # A run that a method lacks would else be taken for one that diverged.
    splits = [set(frame["split"]) for frames in there if len(frames) == len(ran) for frame in frames]
    shared = set.intersection(*splits) if splits else set()
    settings, scores = [], []
    for point, frames in zip(points, there, strict=True):
        rows = pd.concat(frames) if len(frames) == len(ran) else mine.iloc[:0]
        rows = rows[rows["split"].isin(shared)]
        for epoch in ("validation", "last"):
            settings.append({**point, LAST: epoch == "last"})
            scores.append(rows.loc[rows["epoch"] == epoch, list(COLUMNS)])
    return Audited(name, part, tuple(settings), tuple(scores), len(shared), full, ran)


def _as_results(rows: pd.DataFrame, part: Part) -> pd.DataFrame:
    """The numbers with the columns of a run's results, too."""
    config = part.config
    worst = rows["metric"].map(lambda metric: np.inf if lower_is_better(metric) else -np.inf)
    value = rows["value"].where(rows["value"].notna(), worst)
    keys = {"experiment": config.experiment, "dataset": config.dataset, "network": config.network, "setting": "audit"}
    return rows.assign(**keys, value=value)


def holding(one: Audited) -> pd.DataFrame:
    """Whether each claim on a toy holds, for the numbers as they are, at each setting, [claim, setting]."""
    return _of_claims(one, lambda finding: float(finding.yes[0]))


def in_part(one: Audited) -> pd.DataFrame:
    """The share of each claim's comparisons that hold at each setting, [claim, setting]; of a single one 0 or 1."""

    def share(finding: Finding) -> float:
        parts = [line for line in finding.numbers if line[0] in "✓✗?"]
        return sum(line[0] == "✓" for line in parts) / len(parts) if parts else float(finding.yes[0])

    return _of_claims(one, share)


def _of_claims(one: Audited, number: Callable[[Finding], float]) -> pd.DataFrame:
    table = pd.DataFrame({k: {name: number(f) for name, f in found.items()} for k, found in one.findings.items()})
    return table.reindex([claim.id for claim in CLAIMS if claim.id in table.index])


def by_level(one: Audited, numbers: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Numbers [row, setting] at our level and at the other of each choice, by (choice, level)."""
    found = {}
    for name, *levels in one.choices:
        for is_other, level in enumerate(levels):
            found[name, level] = numbers[[k for k in settings_in(numbers) if one.points[k][name] == bool(is_other)]]
    return found


def moved(one: Audited, numbers: pd.DataFrame) -> pd.DataFrame:
    """The mean of numbers [row, setting] at our level and at the other of each choice: columns (choice, level)."""
    return pd.DataFrame({level: own.mean(axis=1) for level, own in by_level(one, numbers).items()})


def settings_in(numbers: pd.DataFrame) -> list[int]:
    """The settings that are the columns of some numbers."""
    return [int(str(k)) for k in numbers.columns]


def medians(one: Audited, metric: str) -> pd.DataFrame:
    """The median over the runs of each method at each setting, [method, setting]; infinite where half of the runs diverged."""
    columns = {
        k: scores[scores["metric"] == metric].groupby("method", sort=False)["value"].median()
        for k, scores in enumerate(one.scores)
        if len(scores)
    }
    return pd.DataFrame(columns)


def nearness(one: Audited) -> pd.DataFrame:
    """How near each setting is to the paper's tables: ``cells`` within the paper's standard deviation of its mean, ``of`` how
    many, and the rank correlation of the methods (Spearman); none for a toy, for which the paper has no tables.
    """
    paper = paper_tables()
    paper = paper[(paper["dataset"] == one.part.config.dataset) & (paper["network"] == "mlp")]
    rows = {}
    for k, scores in enumerate(map(scaled, one.scores)):
        within, total, ranks = 0, 0, []
        for metric in ("nll", "rmse"):
            theirs = paper[paper["metric"] == metric].set_index("method")
            ours = scores[scores["metric"] == metric].groupby("method")["value"].mean()
            common = [name for name in theirs.index if name in ours.index]
            if len(common) < 3:
                continue
            within += int(((ours[common] - theirs["mean"][common]).abs() <= theirs["std"][common]).sum())
            total += len(common)
            ranks.append(_rank_correlation(ours[common], theirs["mean"][common]))
        if total:
            rows[k] = {"cells": within, "of": total, "rank correlation": sum(ranks) / len(ranks)}
    return pd.DataFrame(rows).T


def _rank_correlation(one: pd.Series[float], other: pd.Series[float]) -> float:
    """Spearman's; 0 where all are equal, as methods of which each has a run that diverged, which is no order."""
    if min(one.nunique(), other.nunique()) < 2:
        return 0.0
    return float(one.rank().corr(other.rank()))
