"""Our cells beside the paper's and the published ones: means, counts, ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from pyro_probmix.experiments.report.numbers.paper import TABLES, paper_tables, published_nll, scaled, stock_power
from pyro_probmix.experiments.report.numbers.tidy import cells, groups, settings_of, tabulated

__all__ = ["comparison", "counts", "published_comparison", "rank_agreement"]


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
    names = [
        "network",
        "dataset",
        "setting",
        "method",
        "mean",
        "std",
        "finite",
        "of",
        *columns[3:],
        "no_worse",
        "power",
    ]
    return both.assign(place=place).sort_values("place", kind="stable")[names].reset_index(drop=True)


def counts(compared: pd.DataFrame, table: int) -> pd.DataFrame:
    """Counts of cells and rows in which ours is no worse, for each setting.

    Args:
        compared: of :func:`comparison`.
        table: 1 to 4.

    Returns:
        indexed by setting: ``cells`` that are no worse, ``cells_measured``, ``cells_in_paper``; ``rows`` where our best
        of the paper's methods is no worse than the paper's best, ``rows_further`` the same with all our methods,
        ``rows_measured``, those with a number for each of the paper's methods, ``rows_in_paper``.
    """
    paper = paper_tables()
    paper = paper[paper["table"] == table]
    rows = ["network", "dataset"]
    best = paper.groupby(rows)["mean"].min().round(2)
    methods = paper.groupby(rows).size()
    lines = []
    for setting in settings_of(compared):
        part = compared[compared["setting"] == setting]
        of_paper = part[part["paper_mean"].notna()]
        measured = of_paper.groupby(rows).size()
        whole = measured.index[measured == methods.reindex(measured.index)]  # others may still get a better number
        ours = of_paper.groupby(rows)["mean"].min().round(2).reindex(whole)
        further = part.groupby(rows)["mean"].min().round(2).reindex(whole)
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
    """Spearman's rank correlation of our means with the paper's, over the methods of each row; it does not depend on units.

    Returns:
        columns network, dataset, setting, correlation, methods; rows of at least four methods.
    """
    lines = []
    for (network, dataset, setting), part in groups(compared, ["network", "dataset", "setting"]):
        both = part[part["mean"].notna() & part["paper_mean"].notna()]
        if len(both) >= 4 and both["mean"].nunique() > 1:
            correlation = float(spearmanr(both["mean"], both["paper_mean"]).statistic)
            lines.append((network, dataset, setting, correlation, len(both)))
    return pd.DataFrame(lines, columns=["network", "dataset", "setting", "correlation", "methods"])


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
    for (setting, dataset), part in groups(ours.dropna(subset=["mean"]), ["setting", "dataset"]):
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
