"""The sections of the report in their order; a section without input becomes one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from pyro_probmix.experiments.report.claims import CLAIMS, verdicts
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Verdict
from pyro_probmix.experiments.report.figures.boxplots import box_plots
from pyro_probmix.experiments.report.figures.calibration import coverage_curves, pit_histograms, reliability_curves
from pyro_probmix.experiments.report.figures.curves import training_curves
from pyro_probmix.experiments.report.figures.style import png
from pyro_probmix.experiments.report.numbers.comparison import comparison, counts, published_comparison
from pyro_probmix.experiments.report.numbers.coverage import (
    FEWEST,
    calibration_error,
    is_classes,
    pit_counts,
    reliability,
)
from pyro_probmix.experiments.report.numbers.paper import TABLES, scaled
from pyro_probmix.experiments.report.numbers.reading import KEYS, Run, Runs
from pyro_probmix.experiments.report.numbers.tidy import (
    ablation,
    groups,
    in_order,
    settings_of,
    tabulated,
)
from pyro_probmix.experiments.report.pages.page import Block, Cell, Figure, Page, Row, Section, Table, Text, number
from pyro_probmix.experiments.report.tables.again import again_table
from pyro_probmix.experiments.report.tables.beside import (
    GOALS,
    PUBLISHED_GOAL,
    beside_paper,
    beside_published,
    lowest_count,
    row_name,
)
from pyro_probmix.experiments.report.tables.paired import paired_tables
from pyro_probmix.experiments.report.tables.records import choices_table, claims_table, runs_table
from pyro_probmix.experiments.report.tables.scores import chosen_table, cost_table, embedding_table, other_scores

__all__ = ["build_page"]

#: Experiments in the order of the paper; others follow.
_ORDER = ("uci", "stocks", "toy-regression", "toy-classification", "ablation-regression", "ablation-classification")
_PLACE = ["experiment", "dataset", "network", "setting"]


def build_page(runs: Runs) -> Page:
    """The whole report of some runs, figures drawn."""
    results = _ordered(runs.results)
    named = tabulated(results)  # results of grids do not depend on the setting: they count once, under the first
    found = {
        setting: verdicts(Evidence(scaled(results if k == 0 else named), setting))
        for k, setting in enumerate(settings_of(results) or ["fixed"])
    }
    names = ", ".join(run.name for run in runs.runs)
    sections = [
        Section("summary", "Summary", tuple(_summary(results, found))),
        Section("runs", "What was run", tuple(runs_table(runs.runs))),
        Section("uci", "UCI regression: Tables 1 and 3", (*beside_paper(results, 1), *beside_paper(results, 3))),
        Section("stocks", "Stocks: Tables 2 and 4", (*beside_paper(results, 2), *beside_paper(results, 4))),
        Section("published", "Beside other published NLLs", tuple(beside_published(results))),
        Section("paired", "Paired differences", tuple(paired_tables(results))),
        Section("claims", "The paper's claims", tuple(claims_table(found))),
        Section("again", "The claims on the toys, decided twice", tuple(again_table(results))),
        Section("scores", "Toys and other data sets", (*other_scores(results), *_toy_figures(runs.runs))),
        Section(
            "ablation-regression", "Ablation, toy regression: Figures 4 to 13", tuple(_ablation(results, "regression"))
        ),
        Section(
            "ablation-classification",
            "Ablation, toy classification: Figures 15 to 24",
            tuple(_ablation(results, "classification")),
        ),
        Section("calibration", "Calibration", tuple(_calibration(runs.calibration))),
        Section("training", "Training curves", tuple(_training(runs.curves))),
        Section("embedding", "Drawn embeddings and their means", tuple(embedding_table(results))),
        Section("cost", "Cost", tuple(cost_table(results))),
        Section("options", "Options", (*chosen_table(results), *choices_table(runs.runs))),
    ]
    return Page("ProbMix: ours beside the paper", f"From {names}.", tuple(sections))


def _summary(results: pd.DataFrame, found: dict[str, list[Verdict]]) -> Iterator[Block]:
    """The counts in one table: cells, rows, published NLLs, claims."""
    settings = list(found)
    rows = []
    for table, (_, _, title) in TABLES.items():
        counted = counts(comparison(results, table), table)
        if counted.empty:
            continue
        total, in_paper = int(counted["rows_in_paper"].iloc[0]), int(counted["cells_in_paper"].iloc[0])
        goal = f"{GOALS[table]} of {in_paper}" if table in GOALS else "–"
        for what, of, name, wanted in (
            ("cells", in_paper, "cells no worse than the paper's", goal),
            ("rows", total, "rows where our best is no worse than the paper's best", "8 of 8" if table == 1 else "–"),
        ):
            line = [
                Cell(f"{counted[what][s]} of {counted[f'{what}_measured'][s]}") if s in counted.index else Cell("–")
                for s in settings
            ]
            rows.append(Row((Cell(f"Table {table}, {title}: {name}", kind="head"), *line, Cell(str(of)), Cell(wanted))))
    published = published_comparison(results)
    if len(published):
        reached = [lowest_count(published, setting) for setting in settings]
        line = [Cell(f"{count} of {measured}") if measured else Cell("–") for count, measured in reached]
        label = "UCI sets where the best probabilistic method is at or below the lowest published NLL"
        rows.append(Row((Cell(label, kind="head"), *line, Cell("8"), Cell(f"{PUBLISHED_GOAL} of 8"))))
    tally = [Counter(verdict.outcome for verdict in ours) for ours in found.values()]
    for outcome in ("supported", "contradicted", "undecided"):
        line = [Cell(f"{counter[outcome]} of {len(CLAIMS) - counter['not measured']}") for counter in tally]
        rows.append(
            Row((Cell(f"the paper's claims: {outcome}", kind="head"), *line, Cell(str(len(CLAIMS))), Cell("–")))
        )
    head = ("", *(f"ours, {setting}: count of measured" for setting in settings), "in the paper", "goal")
    yield Table(head, tuple(rows), "Counts; the sections below give the numbers behind each.", wrap=True)


def _toy_figures(runs: tuple[Run, ...]) -> Iterator[Block]:
    """The figures of bands and regions in the runs' folders."""
    captions = {
        "bands": (
            "Figures 2 and 3 of the paper: mean and 95 % band of each method on the toy regression, first seed; shaded: where "
            "the test points lie."
        ),
        "regions": "Figure 14 of the paper: each method's decision regions on the toy classification, first seed.",
    }
    for kind, caption in captions.items():
        pattern = re.compile(rf"(.*[-_])?{kind}([-_].*)?")
        found = [(run, name) for run in runs for name in run.figures if pattern.fullmatch(name)]
        if not found:
            yield Text(f"{caption.split(':')[0]}: left out, no run has figures/{kind}.png.")
        for run, name in found:
            yield Figure(
                _slug(f"{name}-{run.name}"), run.figures[name].read_bytes(), caption, f"{caption} Run {run.name}."
            )


def _ablation(results: pd.DataFrame, task: str) -> Iterator[Block]:
    """Box plots of each cell of the grid, numbered as in the paper."""
    metrics = {
        "regression": {"mse": "MSE", "nll": "NLL (nats)"},
        "classification": {"accuracy": "accuracy", "nll": "NLL (nats)"},
    }[task]
    scores = {metric: ablation(results, f"ablation-{task}", metric) for metric in metrics}
    grid = list(dict.fromkeys(cell for frames in scores.values() for cell in frames))
    if not grid:
        yield Text(f"Left out: no run of ablation-{task} is among these.")
        return
    yield Text(
        "Boxes are the middle half of the runs, whiskers reach 1.5 times its length, dots lie beyond. Axes show the bulk; how "
        "many runs lie outside, and how far, is in the margin. Hatched: fused with neighbours only."
    )
    first = 4 if task == "regression" else 15
    numbers = {
        cell: first + k for k, cell in enumerate((a, b) for b in (0.0, 0.01) for a in (0.01, 0.05, 0.1, 0.5, 1.0))
    }
    for alpha, beta in grid:
        panels = {label: scores[m][alpha, beta] for m, label in metrics.items() if (alpha, beta) in scores[m]}
        paper = f"Figure {numbers[alpha, beta]} of the paper: " if (alpha, beta) in numbers else ""
        caption = f"{paper}toy {task}, α = {alpha:g}, β = {beta:g}."
        yield Figure(
            f"ablation-{task}-alpha{alpha:g}-beta{beta:g}", png(box_plots(panels)), f"Box plots. {caption}", caption
        )


def _training(curves: pd.DataFrame | None) -> Iterator[Block]:
    if curves is None:
        yield Text("Left out: no run has a curves.parquet.")
        return
    for key, part in groups(tabulated(_ordered(curves)), _PLACE):
        name, title = _named(key)
        caption = (
            f"Training curves, {title}, of the standardised target or the class; the axis follows the validation rows."
        )
        yield Figure(f"training-{name}", png(training_curves(part)), caption, caption)


def _calibration(calibration: pd.DataFrame | None) -> Iterator[Block]:
    if calibration is None:
        yield Text("Left out: no run has a calibration.parquet.")
        return
    yield Text(
        "PIT: the predictive distribution function at the observed target, uniform for a calibrated density. Shaded: the "
        "pointwise 95 % band of as many independent rows; test rows of different splits overlap, so it is on the narrow side."
    )
    chosen = tabulated(_ordered(calibration))
    errors: dict[tuple[str, ...], dict[str, float]] = {}
    for key, part in groups(chosen, _PLACE):
        name, title = _named(key)
        if is_classes(part):
            caption = (
                f"Reliability, {title}: accuracy against confidence, in bins of at least {FEWEST} rows; below the line, "
                "predictions are too confident."
            )
            yield Figure(f"reliability-{name}", png(reliability_curves(reliability(part))), caption, caption)
            continue
        counted = {k[KEYS.index("method")]: v for k, v in pit_counts(part).items()}
        empty = [method for method, own in counted.items() if not own.any()]
        if empty:
            yield Text(f"{title}: no test row has a finite predictive under {', '.join(empty)}.")
        counted = {method: own for method, own in counted.items() if own.any()}
        if not counted:
            continue
        errors[key] = {method: calibration_error(own) for method, own in counted.items()}
        caption = f"PIT histograms, {title}."
        yield Figure(f"pit-{name}", png(pit_histograms(counted)), caption, caption)
        caption = (
            f"Coverage of central intervals minus their nominal level, {title}; above 0, intervals are too wide. Shaded: the "
            "pointwise 95 % band. ERM, in black, stands in each panel."
        )
        yield Figure(f"coverage-{name}", png(coverage_curves(counted)), caption, caption)
    if errors:
        yield _errors(errors)


def _errors(errors: dict[tuple[str, ...], dict[str, float]]) -> Table:
    methods = in_order(method for line in errors.values() for method in line)
    rows = []
    for (_, dataset, network, setting), line in errors.items():
        lowest = min(round(value, 3) for value in line.values())
        numbers = [
            Cell(number(line[name], 3), best=round(line[name], 3) == lowest) if name in line else Cell("")
            for name in methods
        ]
        rows.append(Row((Cell(row_name(dataset, network), kind="head"), Cell(setting, kind="head"), *numbers)))
    caption = "Calibration error: |coverage - nominal|, mean over the levels. ★ best of its row."
    return Table(("data set", "setting", *methods), tuple(rows), caption, heads=2)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, sorted by experiment in the order of the paper."""
    order = {name: k for k, name in enumerate(_ORDER)}
    places = [order.get(name, len(order)) for name in frame["experiment"]]
    return frame.assign(place=places).sort_values("place", kind="stable").drop(columns="place")


def _named(key: tuple[str, ...]) -> tuple[str, str]:
    """A figure's file name and title from experiment, data set, network and setting."""
    experiment, dataset, network, setting = key
    return _slug("-".join((experiment, dataset, network, setting))), f"{row_name(dataset, network)}, {setting}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
