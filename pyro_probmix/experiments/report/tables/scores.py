"""Tables of scores: toys and other data sets, drawn embeddings beside their means, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.experiments.report.claims.evidence import diverged_as_worst
from pyro_probmix.experiments.report.claims.paired import by_medians
from pyro_probmix.experiments.report.numbers.paper import paper_tables, scaled
from pyro_probmix.experiments.report.numbers.reading import KEYS
from pyro_probmix.experiments.report.numbers.tidy import (
    cells,
    groups,
    in_order,
    lower_is_better,
    settings_of,
    tabulated,
)
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text, diverged, number, spread
from pyro_probmix.experiments.report.tables.beside import row_name

__all__ = ["LABELS", "chosen_table", "cost_table", "embedding_table", "other_scores"]

LABELS = {"nll": "NLL", "crps": "CRPS", "rmse": "RMSE", "accuracy": "accuracy"}


def other_scores(results: pd.DataFrame) -> list[Block]:
    """Scores of the data sets that the paper has no table for: the toys and users' tables."""
    known = set(zip(paper_tables()["dataset"], paper_tables()["network"], strict=True))
    rows = tabulated(results)
    rows = rows[rows["metric"].isin(LABELS)]
    new = [pair not in known for pair in zip(rows["dataset"], rows["network"], strict=True)]
    rows = rows[np.array(new, dtype=bool)]
    if rows.empty:
        return [Text("Left out: no run of a toy or of a table of yours is among these.")]
    methods = in_order(rows["method"])
    lines = []
    for (_, dataset, network), group in groups(_centres(rows), ["experiment", "dataset", "network"]):
        first = True
        for metric in (name for name in LABELS if name in set(group["metric"])):
            for setting in settings_of(group):
                part = group[(group["metric"] == metric) & (group["setting"] == setting)].set_index("method")
                if len(part):
                    head = (
                        Cell(row_name(dataset, network) if first else "", kind="head"),
                        Cell(f"{LABELS[metric]}, {setting}", kind="head"),
                    )
                    lines.append(Row((*head, *_scores(part, methods, metric)), first=first))
                    first = False
    caption = (
        "Scores: of a toy the median of the runs and the middle half of them, of other data sets the mean and standard "
        "deviation over the splits; ★ best of its row; (n of m): n of m have a number."
    )
    return [Table(("data set", "numbers", *methods), tuple(lines), caption, heads=2)]


def _centres(rows: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations over the splits; of the toys medians, since a few runs have an NLL that decides any mean.

    Returns:
        columns of ``cells``, in ``mean`` the medians, too; ``low`` and ``high``, between which the middle half of a toy's runs
        lie, those that diverged being the worst.
    """
    keys = [*KEYS, "metric"]
    toys = diverged_as_worst(rows[rows["experiment"].map(by_medians).astype(bool)])
    middle = toys.groupby(keys, observed=True)["value"].agg(
        median="median",
        low=lambda own: own.quantile(0.25, interpolation="lower"),
        high=lambda own: own.quantile(0.75, interpolation="higher"),
    )
    found = cells(rows).merge(middle.reset_index(), how="left", on=keys)
    return found.assign(mean=found["median"].fillna(found["mean"]))


def _scores(part: pd.DataFrame, methods: list[str], metric: str) -> list[Cell]:
    digits = 3 if metric == "accuracy" else 2
    rounded = part["mean"].round(digits)
    best = rounded.min() if lower_is_better(metric) else rounded.max()
    own = part.to_dict("index")
    return [_score(own[name], digits, rounded[name] == best) if name in own else Cell("") for name in methods]


def _score(own: Mapping[Any, Any], digits: int, best: bool) -> Cell:
    middle = f"[{number(own['low'], digits)}, {number(own['high'], digits)}]"
    small = spread(own["std"], digits) if pd.isna(own["median"]) else middle
    return Cell(number(own["mean"], digits), (small + diverged(own["finite"], own["of"])).strip(), best=best)


def embedding_table(results: pd.DataFrame) -> list[Block]:
    """Drawn embeddings beside their means, for the methods that have both."""
    rows = scaled(tabulated(results))
    summed = _centres(rows)
    blocks: list[Block] = []
    for metric, label in LABELS.items():
        both = summed[summed["metric"] == metric].merge(
            summed[summed["metric"] == f"{metric} (plug-in)"], on=KEYS, suffixes=("", "_mean")
        )
        if both.empty:
            continue
        methods = in_order(both["method"])
        digits = 3
        lines = []
        for (_, dataset, network), group in groups(both, ["experiment", "dataset", "network"]):
            for k, setting in enumerate(settings_of(group)):
                part = group[group["setting"] == setting].set_index("method")
                line = [
                    Cell(f"{number(part['mean'][name], digits)} / {number(part['mean_mean'][name], digits)}")
                    if name in part.index
                    else Cell("")
                    for name in methods
                ]
                head = Cell(row_name(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
                lines.append(Row((*head, *line), first=k == 0))
        caption = (
            f"{label}: the mixture over draws of the embedding / its mean passed on; mean over the splits, median of a toy's "
            "runs."
        )
        blocks.append(Table(("data set", "setting", *methods), tuple(lines), caption, heads=2))
    return blocks or [Text("Left out: these runs hold no method with a drawn embedding.")]


def chosen_table(results: pd.DataFrame) -> list[Block]:
    """The alpha and beta that the validation rows chose, for each data set and method; no table if none were chosen."""
    rows = tabulated(results)
    values = rows[rows["metric"].isin(["alpha", "beta"])]
    if values.empty:
        return []
    tried = rows[rows["metric"].str.startswith(_TRIED)].groupby(KEYS, observed=True)["metric"].unique()
    methods = in_order(values["method"])
    lines = []
    for (experiment, dataset, network), group in groups(values, ["experiment", "dataset", "network"]):
        for k, setting in enumerate(settings_of(group)):
            line = []
            for name in methods:
                own = group[(group["setting"] == setting) & (group["method"] == name)]
                pairs = own.pivot(index="split", columns="metric", values="value")
                line.append(_chosen(pairs, tried.get((experiment, dataset, network, name, setting), ())))
            head = Cell(row_name(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            lines.append(Row((*head, *line), first=k == 0))
    caption = (
        "α and β as chosen by the validation rows. A method that does not use one of them was tried with other initial weights "
        "in its place, so that all have as many tries."
    )
    return [Table(("data set", "setting", *methods), tuple(lines), caption, heads=2)]


#: What the names of the metrics begin with that hold the validation NLL of each try.
_TRIED = "validation nll, "


def _chosen(pairs: pd.DataFrame, tried: Iterable[str]) -> Cell:
    """What was chosen on the splits, of what the tries differed in: alpha, beta, or initial weights alone."""
    if pairs.empty:
        return Cell("")
    labels = [name.removeprefix(_TRIED).split() for name in tried]
    started = any(part.startswith("start=") for label in labels for part in label)
    used = [
        name
        for name in ("alpha", "beta")
        if not started or len({part for label in labels for part in label if part.startswith(f"{name}=")}) > 1
    ]
    if not used:
        return Cell("initial weights")
    found = pairs.groupby(used).size()
    signs = {"alpha": "α", "beta": "β"}
    texts = [
        ", ".join(f"{signs[name]} {value:g}" for name, value in zip(used, np.atleast_1d(values), strict=True))
        for values in found.index
    ]
    counted = tuple(f"{text} on {count} splits" for text, count in zip(texts, found, strict=True))
    return Cell(texts[0]) if len(texts) == 1 else Cell("differs", lines=counted)


def cost_table(results: pd.DataFrame) -> list[Block]:
    """Seconds a split and the epoch whose weights were kept, medians over the splits."""
    rows = results[results["metric"].isin(["seconds", "best epoch"])]
    rows = tabulated(rows)
    if rows.empty:
        return [Text('Left out: these runs hold no "seconds" and no "best epoch".')]
    methods = in_order(rows["method"])
    medians = rows.groupby([*KEYS, "metric"], sort=False)["value"].median().unstack("metric").reset_index()
    medians = medians.reindex(columns=[*KEYS, "seconds", "best epoch"])
    lines = []
    for (_, dataset, network), group in groups(medians, ["experiment", "dataset", "network"]):
        for k, setting in enumerate(settings_of(group)):
            part = group[group["setting"] == setting].set_index("method")
            line = [
                Cell(f"{number(part['seconds'][name], 1)} s", f"epoch {number(part['best epoch'][name], 0)}")
                if name in part.index
                else Cell("")
                for name in methods
            ]
            head = Cell(row_name(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            lines.append(Row((*head, *line), first=k == 0))
    caption = (
        "Seconds a split (all splits train together: their time, divided by their number), and the median best epoch."
    )
    return [Table(("data set", "setting", *methods), tuple(lines), caption, heads=2)]
