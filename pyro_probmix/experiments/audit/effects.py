"""What the audit's numbers say: where each claim holds, how far each choice moves it, which setting is nearest to the paper."""

from __future__ import annotations

__all__ = ["LAST", "Audited", "audited", "gather", "holding", "in_part", "medians", "moved", "nearness", "settings_in"]

from collections.abc import Callable
from dataclasses import dataclass
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
    """

    name: str
    part: Part
    points: tuple[Point, ...]
    scores: tuple[pd.DataFrame, ...]
    runs: int

    @property
    def complete(self) -> bool:
        """Whether all of its settings have run."""
        return all(len(scores) > 0 for scores in self.scores)

    @property
    def choices(self) -> list[tuple[str, str, str]]:
        """Each choice: its name, our level, the other."""
        own = [(one.name, one.ours, one.other) for one in self.part.factors]
        return [*own, (LAST, "by validation", "the last")]


def audited(gathered: pd.DataFrame, name: str, *, full: bool = False) -> Audited | None:
    """One data set of gathered numbers by the settings of its design; None if it is not among them."""
    part, mine = PARTS[name], gathered[gathered["part"] == name]
    if mine.empty:
        return None
    ran = [method for method in methods_of(part) if method in set(mine["method"])]
    by_folder = dict(list(mine.groupby(["folder", "method"])))
    points, scores = [], []
    for point in design(part, full=full):
        found = [by_folder.get((canonical(part, point, method)[0], method)) for method in ran]
        there = [frame for frame in found if frame is not None]
        rows = pd.concat(there) if len(there) == len(ran) else mine.iloc[:0]
        for epoch in ("validation", "last"):
            points.append({**point, LAST: epoch == "last"})
            scores.append(_as_results(rows[rows["epoch"] == epoch], part))
    return Audited(name, part, tuple(points), tuple(scores), int(mine["split"].nunique()))


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
    columns = {}
    for k, scores in enumerate(one.scores):
        evidence = Evidence(scores, "audit")
        found = {claim.id: claim.check(evidence) for claim in CLAIMS if claim.id[0] in "RC"}
        columns[k] = {name: number(finding) for name, finding in found.items() if finding is not None}
    table = pd.DataFrame(columns)
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
