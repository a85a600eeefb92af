"""Counts and comparisons of the report: pure functions of tidy results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from pyro_probmix.experiments.report.numbers.paper import METHODS
from pyro_probmix.experiments.report.numbers.reading import KEYS

__all__ = [
    "COUNTERPARTS",
    "ablation",
    "cells",
    "counterpart",
    "grid_values",
    "groups",
    "in_order",
    "lower_is_better",
    "settings_of",
    "tabulated",
    "wide",
]

#: A probabilistic method -> the one that fuses at the same place without densities.
COUNTERPARTS = {
    "ProbMix": "Mix",
    "LocProbMix": "LocMix",
    "M-ProbMix": "M-Mix",
    "LocM-ProbMix": "LocM-Mix",
    "M-ProbMix*": "M-Mix",
    "LocM-ProbMix*": "LocM-Mix",
}

_GRID = re.compile(r"alpha=(\S+) beta=(\S+)")
_ENSEMBLE = re.compile(r"\d+x (.+)")


def lower_is_better(metric: str) -> bool:
    """False for accuracies."""
    return not metric.startswith("accuracy")


def grid_values(setting: str) -> tuple[float, float] | None:
    """Alpha and beta of a grid's setting, None for a setting with a name.

    Example:
        >>> grid_values("alpha=0.05 beta=0.01"), grid_values("fixed")
        ((0.05, 0.01), None)
    """
    match = _GRID.fullmatch(setting)
    return (float(match[1]), float(match[2])) if match else None


def tabulated(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that the tables show: those of the settings with a name, not those of a grid."""
    named = {setting: grid_values(setting) is None for setting in results["setting"].unique()}
    return results[results["setting"].map(named).astype(bool)]


def settings_of(results: pd.DataFrame) -> list[str]:
    """The named settings, "fixed", "paper" and "chosen" first."""
    there = list(tabulated(results)["setting"].unique())
    first = [name for name in ("fixed", "paper", "chosen") if name in there]
    return first + [name for name in there if name not in first]


def in_order(methods: Iterable[str]) -> list[str]:
    """The paper's methods in its order, then the others as they come.

    Example:
        >>> in_order(["5x ERM", "ProbMix", "ERM"])
        ['ERM', 'ProbMix', '5x ERM']
    """
    there = list(dict.fromkeys(methods))
    return [name for name in METHODS if name in there] + [name for name in there if name not in METHODS]


def counterpart(method: str) -> str | None:
    """The reference of a method beside ERM: the same method without densities, or an ensemble's member.

    Example:
        >>> counterpart("M-ProbMix"), counterpart("5x ProbMix"), counterpart("ERM")
        ('M-Mix', 'ProbMix', None)
    """
    match = _ENSEMBLE.fullmatch(method)
    return match[1] if match else COUNTERPARTS.get(method)


def groups(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of each value of some columns of names, in the order in which they come."""
    for key, part in frame.groupby(list(keys), sort=False, observed=True):
        yield tuple(str(name) for name in key), part


def cells(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits.

    Returns:
        one row for each method, setting and metric: KEYS, metric, mean, std, ``finite`` (splits that have a number, over
        which the mean is taken) and ``of`` (all splits).
    """
    grouped = results.groupby([*KEYS, "metric"], sort=False, observed=True)["value"]
    return grouped.agg(mean="mean", std="std", finite="count", of="size").reset_index()


def ablation(results: pd.DataFrame, experiment: str, metric: str) -> dict[tuple[float, float], pd.DataFrame]:
    """A grid's scores.

    Args:
        results: columns ``COLUMNS``.
        experiment: for example ``"ablation-regression"``.
        metric: one of the results', or ``"mse"``, the square of "rmse".

    Returns:
        (alpha, beta) -> scores, [split, method]; by beta, then alpha. A method without alpha and beta (ERM) may have been
        run once, under a setting with a name: its scores are then in each cell.
    """
    scores = wide(results[(results["experiment"] == experiment) & (results["network"] == "mlp")], metric)
    named = {s: frame for s, frame in scores.items() if grid_values(s) is None}
    grid = {values: frame for s, frame in scores.items() if (values := grid_values(s)) is not None}
    for once in named.values():  # columns that a cell lacks
        grid = {
            v: frame.join(once[[name for name in once.columns if name not in frame]], how="inner")
            for v, frame in grid.items()
        }
    return {v: grid[v][in_order(grid[v].columns)] for v in sorted(grid, key=lambda v: (v[1], v[0]))}


def wide(results: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """Scores of one data set and network by setting, [split, method]; ``"mse"`` is the square of "rmse"."""
    chosen = results[results["metric"] == ("rmse" if metric == "mse" else metric)]
    if metric == "mse":
        chosen = chosen.assign(value=chosen["value"] ** 2)
    frames = {}
    for setting, own in chosen.groupby("setting", sort=False):  # which may have other splits than the next
        frame = own.pivot(index="split", columns="method", values="value")
        frames[str(setting)] = frame[in_order(frame.columns)]
    return frames
