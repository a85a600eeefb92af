"""The tables of docs/which_method.md on whole runs: in how many tasks a method is better than ERM, and each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from pyro_probmix.experiments.audit.markdown import escaped
from pyro_probmix.experiments.report.claims.evidence import diverged_as_worst
from pyro_probmix.experiments.report.claims.paired import Paired, of_mean
from pyro_probmix.experiments.report.claims.verdicts import LEVEL
from pyro_probmix.models import METHODS

METRICS = ("nll", "rmse", "accuracy")
#: What is said of a method that is ahead of another, behind it, or neither.
SIDES = {"ahead": "better", "open": "undecided", "behind": "worse"}
#: The methods that a task has to have; those with a star are of the UCI sets only.
NEEDED = {name for name in METHODS if "*" not in name}


@dataclass(frozen=True, eq=False)
class Task:
    """The scores of all methods on the same runs.

    Attributes:
        name: data set, network, setting.
        paired: the scores.
    """

    name: str
    paired: Paired

    @property
    def metric(self) -> str:
        """A key of ``METRICS``."""
        return self.paired.metric

    def centre(self, method: str) -> float:
        """The mean, or median, of a method's scores."""
        return self._centre(method)[0]

    def score(self, method: str) -> str:
        """The centre and how uncertain it is."""
        centre, uncertain = self._centre(method)
        return f"{round(centre, 2) + 0.0:.2f} {uncertain}"

    def _centre(self, method: str) -> tuple[float, str]:
        medians = self.paired.medians and self.paired.medians.among(method)
        if medians:
            low, high = medians.interval(medians[method])
            return float(medians[method][0]), f"[{low:.2f}, {high:.2f}]"
        mean, error, _ = of_mean(self.paired.scores[method], self.paired.shared)
        return mean, f"± {error:.2f}"


def tables(results: pd.DataFrame) -> list[str]:
    """The tables, and in words what they come to."""
    tasks = list(_tasks(results))
    gains = pd.DataFrame(_gains(tasks))
    return [_by_method(gains), _in_words(gains), _by_task(tasks)]


def _tasks(results: pd.DataFrame) -> Iterator[Task]:
    keys = ["experiment", "dataset", "network", "setting", "metric"]
    for (experiment, data, network, setting, metric), own in diverged_as_worst(results).groupby(keys, sort=False):
        scores = own.pivot_table("value", "split", "method", sort=False)
        # A task of which some methods are still to be run would be counted for those that are.
        if set(scores.columns) >= NEEDED:
            words = [data] + [network.upper()] * (network != "mlp") + [f"({setting})"] * (setting != "fixed")
            yield Task(" ".join(words), Paired(scores, experiment, metric))


def _gains(tasks: list[Task]) -> Iterator[dict[str, object]]:
    for task in tasks:
        for method in task.paired.scores.columns.drop("ERM"):
            if found := task.paired.difference(method, "ERM"):
                own = {"task": task.name, "metric": task.metric, "method": method}
                yield {**own, "gain": found.gain, "side": SIDES[found.side]}


def _by_method(gains: pd.DataFrame) -> str:
    sides = tuple(SIDES.values())
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
        methods = [name for name in METHODS if name in task.paired.scores]
        best = min(methods, key=task.centre)
        gaps = {name: task.paired.difference(best, name) for name in methods if name != best}
        near = [escaped(name) for name, gap in gaps.items() if gap is None or gap.side == "open"]
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


def table_row(*cells: str) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"
