"""The tables of docs/which_method.md on whole runs: in how many tasks a method is better than ERM, and each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from docs.paired import LEVEL, of_mean
from pyro_probmix.experiments.report.claims.evidence import SHARED
from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import Finding
from pyro_probmix.models import METHODS

#: Metric -> what is better, its sign.
SIGNS = {"nll": -1, "rmse": -1, "accuracy": 1}
#: The methods that a task has to have; those with a star are of the UCI sets only.
NEEDED = {name for name in METHODS if "*" not in name}
#: Experiment -> test rows of a split in training rows. The other experiments' runs are no splits of one table.
SHARED_ROWS = {"uci": SHARED}


@dataclass(frozen=True, eq=False)
class Task:
    """The scores of all methods on the same runs.

    Attributes:
        name: data set, network, setting.
        experiment: it says what the runs are: new data for each in a toy, splits of one table, or seeds.
        metric: a key of ``SIGNS``.
        scores: [run, method].
    """

    name: str
    experiment: str
    metric: str
    scores: pd.DataFrame

    @cached_property
    def medians(self) -> Centres | None:
        """Of a toy's runs, a few of which have an NLL that is many times the others' and decides any mean."""
        return Centres(self.scores, self.experiment, self.metric) if self.experiment.startswith("toy") else None

    def centre(self, method: str) -> float:
        """The mean, or median, of a method's scores."""
        return float(self.medians[method][0] if self.medians else self.scores[method].mean())

    def score(self, method: str) -> str:
        """The centre and how uncertain it is."""
        centre = f"{round(self.centre(method), 2) + 0.0:.2f}"
        if self.medians:
            low, high = self.medians.interval(self.medians[method])
            return f"{centre} [{low:.2f}, {high:.2f}]"
        return f"{centre} ± {of_mean(self.scores[method], SHARED_ROWS.get(self.experiment, 0.0))[1]:.2f}"

    def gain(self, method: str, reference: str) -> tuple[float, float]:
        """By how much a method is better than another on the same runs, and p of no difference."""
        sign = SIGNS[self.metric]
        if self.medians:
            gains = sign * self.medians.gap(method, reference)
            return float(gains[0]), Finding(gains > 0, gains < 0, runs=self.medians.runs).p_value
        gain, _, p = of_mean(
            sign * (self.scores[method] - self.scores[reference]), SHARED_ROWS.get(self.experiment, 0.0)
        )
        return gain, p


def tables(results: pd.DataFrame) -> list[str]:
    """The tables, and in words what they come to."""
    tasks = list(_tasks(results))
    gains = pd.DataFrame(_gains(tasks))
    return [_by_method(gains), _in_words(gains), _by_task(tasks)]


def _tasks(results: pd.DataFrame) -> Iterator[Task]:
    keys = ["experiment", "dataset", "network", "setting", "metric"]
    for (experiment, data, network, setting, metric), own in results.groupby(keys, sort=False):
        scores = own.pivot_table("value", "split", "method", sort=False)
        # A task of which some methods are still to be run would be counted for those that are.
        if set(scores.columns) >= NEEDED:
            words = [data] + [network.upper()] * (network != "mlp") + [f"({setting})"] * (setting != "fixed")
            yield Task(" ".join(words), experiment, metric, scores)


def _gains(tasks: list[Task]) -> Iterator[dict[str, object]]:
    for task in tasks:
        for method in task.scores.columns.drop("ERM"):
            gain, p = task.gain(method, "ERM")
            side = "undecided" if p >= LEVEL else "better" if gain > 0 else "worse"
            yield {"task": task.name, "metric": task.metric, "method": method, "gain": gain, "side": side}


def _by_method(gains: pd.DataFrame) -> str:
    sides = ("better", "undecided", "worse")
    heads = [f"{what}: better" for what in ("NLL", "RMSE or accuracy")]
    lines = [table_row("method", "mean rank, NLL", heads[0], *sides[1:], heads[1], *sides[1:]), table_row(*["---"] * 8)]
    # Those of the methods that all tasks have.
    nll = gains[gains["metric"] == "nll"].pivot_table("gain", "task", "method", sort=False)
    ranks = nll.assign(ERM=0.0).dropna(axis="columns").rank(axis="columns", ascending=False).mean()
    for method in (name for name in METHODS if name == "ERM" or name in set(gains["method"])):
        own = gains[gains["method"] == method]
        cells = [f"{ranks[method]:.1f}" if method in ranks else ""]
        for is_nll in (True, False):
            found = own[(own["metric"] == "nll") == is_nll]["side"]
            cells += [str((found == side).sum()) if len(own) else "" for side in sides]
        lines.append(table_row(escaped(method), *cells))
    return (
        f"**In how many of {gains['task'].nunique()} tasks a method is better than ERM**, or worse, each comparison by itself "
        f"at {100 * LEVEL:.0f} %:\n\n" + "\n".join(lines)
    )


def _in_words(gains: pd.DataFrame) -> str:
    """How many comparisons show a difference, and which methods they speak for and against."""
    nll = gains[gains["metric"] == "nll"]
    words = []
    for side in ("better", "worse"):
        own = nll[nll["side"] == side]
        counts = own["method"].value_counts(sort=False).reindex([m for m in METHODS if m in set(own["method"])])
        each = ", ".join(f"{escaped(method)} {count}" for method, count in counts.items())
        where = f"; on {listed(own['task'].unique())}" if side == "better" and len(own) else ""
        words.append(f"{len(own)} {'is' if len(own) == 1 else 'are'} {side}" + f" ({each}{where})" * bool(each))
    return (
        f"Of {len(nll)} comparisons of the NLL with ERM's, {words[0]}, and {words[1]}. If all methods were equally good, "
        f"about {LEVEL * len(nll):.0f} would be better or worse by chance."
    )


def _by_task(tasks: list[Task]) -> str:
    """For each task the lowest NLL and which methods may be as good."""
    lines = [table_row("task", "NLL, ERM", "lowest NLL", "of", "not told apart from it"), table_row(*["---"] * 5)]
    for task in (one for one in tasks if one.metric == "nll"):
        methods = [name for name in METHODS if name in task.scores]
        best = min(methods, key=task.centre)
        near = [escaped(name) for name in methods if name != best and task.gain(best, name)[1] >= LEVEL]
        lines.append(
            table_row(task.name, task.score("ERM"), task.score(best), escaped(best), ", ".join(near) or "none")
        )
    return (
        "**Task by task:** means and their standard errors, of a toy medians and their 95 % intervals.\n\n"
        + "\n".join(lines)
    )


def listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def escaped(method: str) -> str:
    """A method's name in Markdown."""
    return method.replace("*", "\\*")


def table_row(*cells: str) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"
