"""What the report counts and compares: pure functions of tidy results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from pyro_probmix.experiments.report.paper import METHODS, TABLES, paper_tables, published_nll, scaled, stock_power
from pyro_probmix.experiments.report.reading import KEYS

__all__ = [
    "COUNTERPARTS",
    "ablation",
    "cells",
    "comparison",
    "counterpart",
    "counts",
    "difference",
    "grid_values",
    "in_order",
    "lower_is_better",
    "paired",
    "published_comparison",
    "rank_agreement",
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
_GROUP = [key for key in KEYS if key != "method"]


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
    """The named settings, "fixed" and "chosen" first."""
    there = list(tabulated(results)["setting"].unique())
    first = [name for name in ("fixed", "chosen") if name in there]
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
    """What a method is measured against, beside ERM: the same without densities, or an ensemble's member.

    Example:
        >>> counterpart("M-ProbMix"), counterpart("5x ProbMix"), counterpart("ERM")
        ('M-Mix', 'ProbMix', None)
    """
    match = _ENSEMBLE.fullmatch(method)
    return match[1] if match else COUNTERPARTS.get(method)


def cells(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits.

    Returns:
        one row for each method, setting and metric: KEYS, metric, mean, std, ``finite`` (splits that have a number, over
        which the mean is taken) and ``of`` (all splits).
    """
    grouped = results.groupby([*KEYS, "metric"], sort=False, observed=True)["value"]
    return grouped.agg(mean="mean", std="std", finite="count", of="size").reset_index()


def comparison(results: pd.DataFrame, table: int) -> pd.DataFrame:
    """Our cells of one of the paper's tables, beside the paper's, in the paper's units.

    Args:
        results: columns ``COLUMNS``.
        table: 1 to 4.

    Returns:
        columns network, dataset, setting, method, mean, std, finite, of, paper_mean, paper_std, ``no_worse`` (NaN where the
        paper has no such cell; both rounded to the paper's two decimals) and ``power`` (of ten, that ours are scaled
        by). Rows of data sets and networks that the paper has, and ours too.
    """
    experiment, metric, _ = TABLES[table]
    ours = tabulated(scaled(results[results["experiment"] == experiment]))
    if experiment == "stocks" and metric == "nll" and "nll (standardised)" in set(ours["metric"]):
        metric = "nll (standardised)"
    paper = paper_tables()
    paper = paper[paper["table"] == table].rename(columns={"mean": "paper_mean", "std": "paper_std"})
    ours = cells(ours[ours["metric"] == metric])
    known = set(zip(paper["network"], paper["dataset"], strict=True))
    there = [pair in known for pair in zip(ours["network"], ours["dataset"], strict=True)]
    ours = ours[np.array(there, dtype=bool)]
    columns = ["network", "dataset", "method", "paper_mean", "paper_std"]
    both = ours.merge(paper[columns], on=columns[:3], how="left").assign(power=0)
    if table == 4:
        for _, rows in both.groupby("dataset").groups.items():
            part = both.loc[rows].dropna(subset=["mean", "paper_mean"])
            power = stock_power(part["mean"], part["paper_mean"])
            both.loc[rows, "power"] = power
            both.loc[rows, ["mean", "std"]] *= 10.0**power
    no_worse = both["mean"].round(2) <= both["paper_mean"].round(2) + 1e-9
    both["no_worse"] = no_worse.astype(float).where(both["paper_mean"].notna())
    order = {pair: k for k, pair in enumerate(dict.fromkeys(zip(paper["network"], paper["dataset"], strict=True)))}
    place = [order[pair] for pair in zip(both["network"], both["dataset"], strict=True)]
    names = ["network", "dataset", "setting", "method", "mean", "std", "finite", "of", *columns[3:], "no_worse", "power"]
    return both.assign(place=place).sort_values("place", kind="stable")[names].reset_index(drop=True)


def counts(compared: pd.DataFrame, table: int) -> pd.DataFrame:
    """How often ours is no worse, for each setting.

    Args:
        compared: of :func:`comparison`.
        table: 1 to 4.

    Returns:
        indexed by setting: ``cells`` that are no worse, ``cells_measured``, ``cells_in_paper``; ``rows`` where our best
        of the paper's methods is no worse than the paper's best, ``rows_further`` the same with all our methods,
        ``rows_measured``, ``rows_in_paper``.
    """
    paper = paper_tables()
    paper = paper[paper["table"] == table]
    best = paper.groupby(["network", "dataset"])["mean"].min().round(2)
    lines = []
    for setting in settings_of(compared):
        part = compared[compared["setting"] == setting]
        of_paper = part[part["paper_mean"].notna()]
        ours = of_paper.groupby(["network", "dataset"])["mean"].min().round(2)
        further = part.groupby(["network", "dataset"])["mean"].min().round(2)
        lines.append(
            {
                "setting": setting,
                "cells": int(of_paper["no_worse"].sum()),
                "cells_measured": len(of_paper),
                "cells_in_paper": len(paper),
                "rows": int((ours <= best.reindex(ours.index) + 1e-9).sum()),
                "rows_further": int((further <= best.reindex(further.index) + 1e-9).sum()),
                "rows_measured": len(ours),
                "rows_in_paper": len(best),
            }
        )
    return pd.DataFrame(lines).set_index("setting") if lines else pd.DataFrame()


def rank_agreement(compared: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of our means with the paper's, over the methods of each row; no unit enters it.

    Returns:
        columns network, dataset, setting, correlation, methods; rows of at least four methods.
    """
    lines = []
    for (network, dataset, setting), part in compared.groupby(["network", "dataset", "setting"], sort=False):
        both = part[part["mean"].notna() & part["paper_mean"].notna()]
        if len(both) >= 4 and both["mean"].nunique() > 1:
            correlation = float(spearmanr(both["mean"], both["paper_mean"]).statistic)
            lines.append((network, dataset, setting, correlation, len(both)))
    return pd.DataFrame(lines, columns=["network", "dataset", "setting", "correlation", "methods"])


def paired(results: pd.DataFrame, metric: str, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Differences of two methods over the splits that both have.

    Args:
        results: columns ``COLUMNS``.
        metric: for example ``"nll"``.
        pairs: (method, reference).

    Returns:
        columns experiment, dataset, network, setting, method, reference, ``difference`` (mean of method minus reference),
        ``error`` (its standard error, NaN for one split), ``splits``; rows of the pairs that are there.
    """
    chosen = results[results["metric"] == metric]
    lines = []
    for group, part in chosen.groupby(_GROUP, sort=False, observed=True):
        wide = part.pivot(index="split", columns="method", values="value")
        for method, reference in pairs:
            if method in wide and reference in wide:
                mean, error, count = difference(wide[method], wide[reference])
                lines.append((*group, method, reference, mean, error, count))
    return pd.DataFrame(lines, columns=[*_GROUP, "method", "reference", "difference", "error", "splits"])


def difference(a: pd.Series, b: pd.Series) -> tuple[float, float, int]:
    """Mean of a - b over the splits where both are finite, its standard error, and how many splits those are."""
    gap = (a - b).replace([np.inf, -np.inf], np.nan).dropna()
    error = float(gap.std() / np.sqrt(len(gap))) if len(gap) > 1 else float("nan")
    return float(gap.mean()) if len(gap) else float("nan"), error, len(gap)


def published_comparison(results: pd.DataFrame) -> pd.DataFrame:
    """Our lowest NLL of each UCI set beside the lowest published one.

    Returns:
        columns setting, dataset, ``best`` and ``best_method`` (of all methods), ``probabilistic`` and
        ``probabilistic_method`` (of those whose name has ProbMix, ensembles of them included), ``lowest`` (published).
    """
    lowest = published_nll().min()
    ours = tabulated(results)
    ours = cells(ours[(ours["experiment"] == "uci") & (ours["metric"] == "nll") & ours["dataset"].isin(lowest.index)])
    lines = []
    for (setting, dataset), part in ours.dropna(subset=["mean"]).groupby(["setting", "dataset"], sort=False):
        means = part.set_index("method")["mean"]
        probabilistic = means[means.index.str.contains("ProbMix")]
        there = len(probabilistic) > 0
        lines.append(
            {
                "setting": setting,
                "dataset": dataset,
                "best": means.min(),
                "best_method": means.idxmin(),
                "probabilistic": probabilistic.min() if there else float("nan"),
                "probabilistic_method": probabilistic.idxmin() if there else "",
                "lowest": lowest[dataset],
            }
        )
    names = ["setting", "dataset", "best", "best_method", "probabilistic", "probabilistic_method", "lowest"]
    return pd.DataFrame(lines, columns=names)


def ablation(results: pd.DataFrame, experiment: str, metric: str) -> dict[tuple[float, float], pd.DataFrame]:
    """A grid's scores.

    Args:
        results: columns ``COLUMNS``.
        experiment: for example ``"ablation-regression"``.
        metric: one of the results', or ``"mse"``, the square of "rmse".

    Returns:
        (alpha, beta) -> scores, [split, method]; by beta, then alpha. What alpha and beta do not enter (ERM) may have been
        run once, under a setting with a name: it then stands in each cell.
    """
    scores = wide(results[results["experiment"] == experiment], metric)
    named = {s: frame for s, frame in scores.items() if grid_values(s) is None}
    grid = {values: frame for s, frame in scores.items() if (values := grid_values(s)) is not None}
    for once in named.values():
        grid = {v: frame.join(once[once.columns.difference(frame.columns)], how="outer") for v, frame in grid.items()}
    return {v: grid[v][in_order(grid[v].columns)] for v in sorted(grid, key=lambda v: (v[1], v[0]))}


def wide(results: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """Scores of one data set and network by setting, [split, method]; ``"mse"`` is the square of "rmse"."""
    chosen = results[results["metric"] == ("rmse" if metric == "mse" else metric)]
    if metric == "mse":
        chosen = chosen.assign(value=chosen["value"] ** 2)
    frames = {}
    for setting, part in chosen.groupby("setting", sort=False, observed=True):
        frame = part.pivot(index="split", columns="method", values="value")
        frames[str(setting)] = frame[in_order(frame.columns)]
    return frames
