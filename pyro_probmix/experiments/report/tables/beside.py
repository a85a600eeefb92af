"""Our numbers beside the paper's and beside those published elsewhere, as tables."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from pyro_probmix.experiments.report.numbers.comparison import comparison, counts, published_comparison, rank_agreement
from pyro_probmix.experiments.report.numbers.paper import (
    METHODS,
    RMSE_FACTOR,
    TABLES,
    paper_tables,
    published_nll,
    scale_check,
)
from pyro_probmix.experiments.report.numbers.tidy import groups, in_order, settings_of
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text, diverged, number, spread

__all__ = ["GOALS", "PUBLISHED_GOAL", "beside_paper", "beside_published", "lowest_count", "row_name"]

#: The project's goals for cells that are no worse than the paper's, by table.
GOALS = {1: 70, 3: 60}
#: The project's goal for data sets where the best probabilistic method reaches the lowest published NLL.
PUBLISHED_GOAL = 5

_NETWORKS = {"lstm": "LSTM", "transformer": "Transformer"}


def row_name(dataset: str, network: str) -> str:
    """The name of a row: the data set, and the network if it is not the MLP."""
    return dataset if network == "mlp" else f"{dataset}, {_NETWORKS.get(network, network)}"


def beside_paper(results: pd.DataFrame, table: int) -> list[Block]:
    """One of the paper's tables with our numbers below its cells, and counts; one line without such results."""
    compared = comparison(results, table)
    experiment, _, title = TABLES[table]
    if compared.empty:
        return [Text(f"Table {table}, {title}: left out, no run of {experiment} with its data sets is among these.")]
    methods = in_order(compared["method"])
    shown = [name for name in METHODS if name in set(_of_paper(table)["method"])]
    columns = [*shown, *(name for name in methods if name not in shown)]
    rows = [
        row
        for _, part in groups(compared, ["network", "dataset"])
        for row in _group(part, columns, table, settings_of(compared))
    ]
    further = " Further methods stand to the right of the paper's." if len(columns) > len(shown) else ""
    caption = f"Table {table}: {title}, mean and standard deviation over the splits. {_LEGEND}{further}"
    blocks: list[Block] = [Table(("data set", "numbers", *columns), tuple(rows), caption, heads=2)]
    return [*blocks, *(Text(line) for line in [*_counted(compared, table), *_notes(compared, table)])]


_LEGEND = (
    "★ best of its row (of the paper's methods; a further method where it is better still); ✓ no worse than the paper's "
    "cell, both rounded to two decimals."
)


def _of_paper(table: int) -> pd.DataFrame:
    cells = paper_tables()
    return cells[cells["table"] == table]


def _group(part: pd.DataFrame, columns: list[str], table: int, settings: list[str]) -> Iterable[Row]:
    """The rows of one data set: the paper's, then ours, one for each setting."""
    network, dataset = part["network"].iloc[0], part["dataset"].iloc[0]
    paper = _of_paper(table)
    paper = paper[(paper["network"] == network) & (paper["dataset"] == dataset)].set_index("method")
    dagger = " †" if table == 3 and dataset in RMSE_FACTOR else ""
    lowest = paper["mean"].min()
    cells = [
        Cell(
            number(paper["mean"][name]),
            spread(paper["std"][name]),
            best=paper["mean"][name] == lowest,
            kind="paper",
        )
        if name in paper.index
        else Cell("", kind="paper")
        for name in columns
    ]
    yield Row((Cell(row_name(dataset, network) + dagger, kind="head"), Cell("paper", kind="head"), *cells))
    for setting in settings:
        ours = part[part["setting"] == setting].set_index("method")
        if len(ours):
            best = _best(ours["mean"], columns)
            cells = [_ours(ours, name, name in best) for name in columns]
            yield Row((Cell("", kind="head"), Cell(f"ours, {setting}", kind="head"), *cells), first=False)


def _best(means: pd.Series, columns: list[str]) -> set[str]:
    """The lowest of the paper's methods, and any further method that is lower still; ties as the rounded numbers show."""
    rounded = means.dropna().round(2)
    own = rounded[[name for name in rounded.index if name in METHODS]]
    best = set(own[own == own.min()].index)
    further = rounded.drop(own.index)
    lower = further[further < own.min()] if len(own) else further
    return best | set(lower[lower == lower.min()].index)


def _ours(ours: pd.DataFrame, name: str, best: bool) -> Cell:
    if name not in ours.index:
        return Cell("", kind="" if name in METHODS else "further")
    mean, std, finite, of, no_worse = (
        float(ours[column][name]) for column in ("mean", "std", "finite", "of", "no_worse")
    )
    small = spread(std) + diverged(finite, of)
    mark = "✓" if no_worse == 1 else ""
    return Cell(number(mean), small, best=best, mark=mark, kind="" if name in METHODS else "further")


def _counted(compared: pd.DataFrame, table: int) -> list[str]:
    lines = []
    for setting, row in counts(compared, table).iterrows():
        goal = f"; the goal is {GOALS[table]} of {row['cells_in_paper']}" if table in GOALS else ""
        further = (
            f" ({row['rows_further']} with the further methods)" if not set(compared["method"]) <= set(METHODS) else ""
        )
        lines.append(
            f"Setting {setting}: {row['cells']} of {row['cells_measured']} measured cells are no worse than the paper's, which "
            f"has {row['cells_in_paper']}{goal}. Our best is no worse than the paper's best in {row['rows']}{further} of "
            f"{row['rows_measured']} measured rows ({row['rows_in_paper']} in all)."
        )
    ranks = rank_agreement(compared)
    for (setting,), part in groups(ranks, ["setting"]):
        names = [row_name(dataset, network) for dataset, network in zip(part["dataset"], part["network"], strict=True)]
        each = "; ".join(f"{name} {value:.2f}" for name, value in zip(names, part["correlation"], strict=True))
        lines.append(
            f"Setting {setting}: rank correlation (Spearman) of our order of the methods with the paper's: {each}."
        )
    return lines


def _notes(compared: pd.DataFrame, table: int) -> list[str]:
    """Notes on the units of the comparison, and on what is missing."""
    notes = []
    absent = [
        row_name(dataset, network)
        for network, dataset in _of_paper(table)[["network", "dataset"]].drop_duplicates().itertuples(index=False)
        if not ((compared["network"] == network) & (compared["dataset"] == dataset)).any()
    ]
    if absent:
        notes.append(f"Not among these runs: {'; '.join(absent)}.")
    if (compared["finite"] < compared["of"]).any():
        notes.append("(n of m): the mean is over the n splits that have a number; the others diverged.")
    if table in (1, 3) and set(RMSE_FACTOR) & set(compared["dataset"]):
        gaps = scale_check()
        numbers = "; ".join(
            f"{name}: {gaps['unscaled'][name]:+.2f} with RMSE / 100, {gaps['as tabulated'][name]:+.2f} with RMSE as tabulated"
            for name in RMSE_FACTOR
        )
        notes.append(
            "† kin8nm and naval: the paper shows RMSE x 100, so ours is multiplied by 100 here; NLL is in the target's own "
            "units in both. That follows from the paper's numbers: NLL minus the NLL of a constant Gaussian whose width is the "
            f"RMSE, median over the methods, should be near 0 and is {numbers} (other sets "
            f"{gaps['unscaled'].drop(list(RMSE_FACTOR)).min():+.2f} to {gaps['unscaled'].drop(list(RMSE_FACTOR)).max():+.2f})."
        )
    if table == 2:
        notes.append(
            "The paper divides each stock's numbers by a power of ten that it does not state, and its NLLs and RMSEs of a row "
            "do not fit one unit; ours is the NLL of the standardised target where the run has it. Read the order in a row, "
            "which no unit enters, and take the count of cells with care."
        )
    if table == 4:
        powers = compared.groupby("dataset", sort=False)["power"].first()
        text = ", ".join(f"{name} 10^{power}" for name, power in powers.items())
        notes.append(
            "The paper divides each stock's numbers by a power of ten that it does not state; ours, in dollars, are multiplied "
            f"by the one that brings our median over the methods nearest to the paper's ({text}). Read the order within a row, "
            "which no unit enters, and take the count of cells with care."
        )
    return notes


def lowest_count(published: pd.DataFrame, setting: str) -> tuple[int, int]:
    """On how many data sets our best probabilistic method reaches the lowest published NLL, of how many measured."""
    part = published[published["setting"] == setting]
    return int((part["probabilistic"].round(2) <= part["lowest"] + 1e-9).sum()), len(part)


def beside_published(results: pd.DataFrame) -> list[Block]:
    """Our lowest NLL of each UCI set beside those published on the same splits; one line without such results."""
    ours = published_comparison(results)
    if ours.empty:
        return [Text("Left out: no run of the UCI sets is among these.")]
    table = published_nll()
    lowest = table.min()
    rows = [
        Row(
            (
                Cell(str(source), kind="head"),
                *(
                    Cell(number(value), best=value == least, kind="paper")
                    for value, least in zip(line, lowest, strict=True)
                ),
            ),
            first=k == 0,
        )
        for k, (source, line) in enumerate(table.iterrows())
    ]
    notes = []
    for setting in settings_of(ours):
        part = ours[ours["setting"] == setting].set_index("dataset")
        for k, (column, label) in enumerate((("best", "best"), ("probabilistic", "best probabilistic"))):
            cells = [_published_cell(part, str(name), column) for name in table.columns]
            rows.append(Row((Cell(f"ours, {setting}: {label}", kind="head"), *cells), first=k == 0))
        reached, measured = lowest_count(ours, setting)
        notes.append(
            f"Setting {setting}: the best probabilistic method, ensembles allowed, is at or below the lowest published NLL on "
            f"{reached} of {measured} measured data sets ({len(lowest)} in all); the goal is {PUBLISHED_GOAL}."
        )
    caption = (
        "NLL published on the same 20 splits, and our lowest mean, with the method that has it. ★ lowest published; ✓ ours at "
        "or below it. Ours is the lowest of several methods on the test rows, as the paper's best cell is."
    )
    return [Table(("", *table.columns), tuple(rows), caption), *(Text(note) for note in notes)]


def _published_cell(part: pd.DataFrame, dataset: str, column: str) -> Cell:
    if dataset not in part.index or part[column][dataset] != part[column][dataset]:
        return Cell("")
    value = part[column][dataset]
    reached = round(value, 2) <= part["lowest"][dataset] + 1e-9
    return Cell(number(value), part[f"{column}_method"][dataset], mark="✓" if reached else "")
