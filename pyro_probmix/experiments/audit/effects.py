"""What the audit's numbers say: where each claim holds, how far each choice moves it, which setting is nearest to the paper."""

from __future__ import annotations

__all__ = [
    "LAST",
    "Audited",
    "audited",
    "audits",
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

import pandas as pd

from pyro_probmix.experiments.audit.design import PARTS, Part, Point, canonical, design, methods_of
from pyro_probmix.experiments.report.claims import CLAIMS
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Finding
from pyro_probmix.experiments.report.numbers.paper import paper_tables
from pyro_probmix.experiments.run.jobs import LAST_EPOCH

#: The choice that each training is scored for twice.
LAST = "best epoch"
_METRICS = ("nll", "rmse", "accuracy", "sharpness")
_KEYS = ["part", "folder", "epoch", "method", "split", "metric"]


def gather(out: Path) -> pd.DataFrame:
    """The numbers of all folders of an audit: columns part, folder, epoch, method, split, metric, value."""
    frames = []
    for name in PARTS:
        for file in sorted((out / name).glob("*/results.parquet")):
            rows = pd.read_parquet(file)
            rows = rows[rows["metric"].isin(_METRICS)]
            last = rows["setting"].str.endswith(LAST_EPOCH)
            epoch = last.map({True: "last", False: "validation"})
            frames.append(rows.assign(part=name, folder=file.parent.name, epoch=epoch)[[*_KEYS, "value"]])
    if not frames:
        raise ValueError(f"{out} holds no run of an audit. Try probmix run audit --out {out}.")
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Audited:
    """One data set of the audit, its numbers by setting.

    Attributes:
        name: of the data set.
        part: its design.
        points: the settings: the levels of the choices, whether the last epoch counts among them.
        scores: for each setting the rows, with the columns of a run's results; empty where a method is still missing.
        runs: seeds, or splits.
        full: whether the settings are all combinations of the choices, not a fraction of them.
    """

    name: str
    part: Part
    points: tuple[Point, ...]
    scores: tuple[pd.DataFrame, ...]
    runs: int
    full: bool

    @property
    def complete(self) -> bool:
        """Whether all of its settings have run."""
        return all(len(scores) > 0 for scores in self.scores)

    @property
    def choices(self) -> list[tuple[str, str, str]]:
        """Each choice: its name, our level, the other."""
        own = [(one.name, one.ours, one.other) for one in self.part.factors]
        return [*own, (LAST, "by validation", "the last")]

    @cached_property
    def findings(self) -> dict[int, dict[str, Finding]]:
        """What each setting says of each claim on this toy; none for a table."""
        kind = {"toy-regression": "R", "toy-classification": "C"}.get(self.part.config.experiment)
        claims = [claim for claim in CLAIMS if claim.id[0] == kind]
        found = {}
        for k, scores in enumerate(self.scores):
            evidence = Evidence(scores, "audit")
            checked = {claim.id: claim.check(evidence) for claim in claims}
            found[k] = {name: finding for name, finding in checked.items() if finding is not None}
        return found


def audits(gathered: pd.DataFrame) -> list[Audited]:
    """Each data set that is among the gathered numbers, in the order of the designs."""
    return [one for one in (audited(gathered, name) for name in PARTS) if one is not None]


def audited(gathered: pd.DataFrame, name: str) -> Audited | None:
    """One data set of gathered numbers by its settings: all combinations where they have run, else those of the fraction.

    Returns:
        None if the data set is not among the numbers.
    """
    part, mine = PARTS[name], gathered[gathered["part"] == name]
    if mine.empty:
        return None
    ran = [method for method in methods_of(part) if method in set(mine["method"])]
    by_folder = dict(list(mine.groupby(["folder", "method"])))

    def numbers_at(point: Point) -> list[pd.DataFrame]:
        found = (by_folder.get((canonical(part, point, method)[0], method)) for method in ran)
        return [frame for frame in found if frame is not None]

    full = all(len(numbers_at(point)) == len(ran) for point in design(part, full=True))
    points, scores = [], []
    for point in design(part, full=full):
        there = numbers_at(point)
        rows = pd.concat(there) if len(there) == len(ran) else mine.iloc[:0]
        for epoch in ("validation", "last"):
            points.append({**point, LAST: epoch == "last"})
            scores.append(_as_results(rows[rows["epoch"] == epoch], part))
    return Audited(name, part, tuple(points), tuple(scores), int(mine["split"].nunique()), full)


def _as_results(rows: pd.DataFrame, part: Part) -> pd.DataFrame:
    config = part.config
    named = rows.assign(experiment=config.experiment, dataset=config.dataset, network=config.network, setting="audit")
    return named[["experiment", "dataset", "network", "method", "setting", "split", "metric", "value"]]


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


def moved(one: Audited, numbers: pd.DataFrame) -> pd.DataFrame:
    """The mean of numbers [row, setting] at our level and at the other of each choice: columns (choice, level)."""
    found = {}
    for name, ours, other in one.choices:
        at_other = [k for k in settings_in(numbers) if one.points[k][name]]
        at_ours = [k for k in settings_in(numbers) if not one.points[k][name]]
        found[name, ours], found[name, other] = numbers[at_ours].mean(axis=1), numbers[at_other].mean(axis=1)
    return pd.DataFrame(found)


def settings_in(numbers: pd.DataFrame) -> list[int]:
    """The settings that are the columns of some numbers."""
    return [int(str(k)) for k in numbers.columns]


def medians(one: Audited, metric: str) -> pd.DataFrame:
    """The median over the runs of each method at each setting, [method, setting]."""
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
    for k, scores in enumerate(one.scores):
        within, total, ranks = 0, 0, []
        for metric in ("nll", "rmse"):
            theirs = paper[paper["metric"] == metric].set_index("method")
            ours = scores[scores["metric"] == metric].groupby("method")["value"].mean()
            common = [name for name in theirs.index if name in ours.index]
            if len(common) < 3:
                continue
            within += int(((ours[common] - theirs["mean"][common]).abs() <= theirs["std"][common]).sum())
            total += len(common)
            ranks.append(ours[common].corr(theirs["mean"][common], method="spearman"))
        if total:
            rows[k] = {"cells": within, "of": total, "rank correlation": sum(ranks) / len(ranks)}
    return pd.DataFrame(rows).T
