"""The sections of the page of a check: sentences, tables and figures."""

from __future__ import annotations

__all__ = ["Section", "calibration", "failures", "first_rows", "importances", "short", "summary"]

import base64
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.calibration.checking import CheckReport, suffix_of
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows
from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.parts import FEWEST_ROWS, Part
from pyro_probmix.tabular.verdict import meaning, named, number, shown, verdict

#: Rows and parts that are listed, and columns.
WORST, MOST_COLUMNS, FIRST = 10, 50, 8
#: Figures by the first word of their names.
_CAPTIONS = {
    "predictive": "The observations, and data sets drawn from the predictions: they should look alike.",
    "pit": "PIT (probability integral transform): for each level, the share of rows below the predicted quantile of that "
    "level, less the level. It should stay in the grey band. Above zero on the left and below it on the right: predictions "
    "too narrow; the other way round: too wide; above everywhere: too high.",
    "coverage": "For central intervals of each level, the share of rows inside of them, less the level. It should stay in the "
    "grey band; below it the intervals are too narrow, above too wide.",
    "reliability": "Rows are grouped by the probability of {what}. Dots: {share}; they should lie on the diagonal, and are "
    "below it where the probability is too high, above where it is too low. Grey: where the dots of a model whose "
    "probabilities are right lie, with 95 % for each.",
    "isotonic": "How often the second class is observed, as an increasing function of its probability, without groups; it "
    "should follow the diagonal. Grey: where that of a model whose probabilities are right lies, with 95 % at each point.",
    "intervals": "Observed values in their predicted intervals, the rows in the order of the predicted median. Orange: "
    "outside, as one row in ten should be.",
    "fan": "The predicted density along the column that matters most, the other columns as in a typical row. Dots: the "
    "observed rows, whose other columns differ.",
    "mean": "The mean over the rows, observed and in data sets drawn from the predictions, which should lie around it.",
    "std": "The standard deviation over the rows, observed and in data sets drawn from the predictions, which should lie "
    "around it.",
}


@dataclass(frozen=True)
class Table:
    """A table of text."""

    heads: list[str]
    rows: list[list[str]]
    caption: str = ""
    words: bool = False  # whether the last column is text


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    text: str = ""
    points: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[dict[str, str]] = field(default_factory=list)


def summary(
    model: TableModel, rows: tuple[int, int, int], source: str, nll: Estimate, partly: int, num_checked: int
) -> str:
    """The first paragraph of the page: rows, model, NLL, and when the numbers are meaningful.

    ``rows`` are the numbers of rows in the table, on the page, and in its figures, ``num_checked`` that of the targets whose
    calibration is measured.
    """
    estimator, many = model.estimator, len(model.targets) > 1
    total, num_rows, num_some = rows
    read = (
        f"{num_rows} of the {total} rows of {source}, drawn at random"
        if num_rows < total
        else f"{total} rows of {source}"
    )
    text = (
        f"{read}, predicted by a model ({type(estimator).__name__}, method {estimator.method}, "
        f"{estimator.ensemble} members) of the target{'s' if many else ''} {', '.join(model.targets)}. The numbers are "
        "meaningful only on rows that the model was not fitted to; on its training rows every model looks better than it is. "
        f"This page cannot know which these are. NLL {shown(nll)} nats a row (minus the log density of the observations; lower "
        "is better). Here and below, the number after ± is one standard error: the typical change of the number on other rows "
        "like these."
    )
    if model.ends is not None:
        text += (
            f" In {partly} of the rows the target is known up to an interval alone, by the column {model.ends.name}. The NLL "
            "is that of what is known: the log probability of the interval stands in the place of a log density. In the checks "
            "of calibration a value stands for such a target that is drawn between its ends from the model's own density: "
            "shares of rows are right if the model is. Errors of the mean are not known."
        )
    if num_some < num_rows:
        text += f" The calibration and the figures are of {num_some} of the rows, drawn at random."
    if num_checked < len(model.targets):
        text += (
            f" The calibration and the figures are of the first {num_checked} of the {len(model.targets)} targets; those of "
            f"the others, from {model.targets[num_checked]} on, are left out. All else is of all targets."
        )
    return text


def short(
    model: TableModel,
    predictions: Predictions,
    report: CheckReport,
    y: npt.NDArray[np.float64],
    predicted: pd.DataFrame,
    parts: list[Part],
    nll: Estimate,
    plain: dict[str, float],
) -> Section:
    """The verdict in a few sentences."""
    points = []
    if plain:
        beside = " and ".join(f"{loss:.3g} of {name}" for name, loss in plain.items())
        lowest = min(plain.values())
        below = "below both" if len(plain) > 1 else "below that"
        judged = below if nll.value < lowest else "not below: the simpler one does as well or better"
        points.append(
            f"NLL {shown(nll)} nats a row, beside {beside}, fitted to these rows themselves and scored by five-fold "
            f"cross-validation; it is {judged}."
        )
    for t, target in enumerate(predictions.targets):
        without = isinstance(model.estimator, ProbMixClassifier) or model.ends is not None
        mean = None if without else predicted[f"{target} mean"].to_numpy()
        sentences = verdict(predictions, t, report.checks[target], y.reshape(len(y), -1)[:, t], mean)
        points += [f"{target}: {one}" for one in sentences] if len(model.targets) > 1 else sentences
    for target, (low, high) in zip(model.targets, model.ranges, strict=False):
        lower, upper = predicted[f"{target} 5 %"], predicted[f"{target} 95 %"]
        outside = int(((lower < low) | (upper > high)).sum())
        if outside:
            points.append(
                f"The 90 % intervals of {outside} of {len(predicted)} rows leave the range of {target} in the training rows, "
                f"{number(low)} to {number(high)}: there the density rests on its form, not on rows."
            )
    if parts and parts[0].stands_out:
        worst = parts[0]
        points.append(
            f"It does worst, beyond chance, on the {worst.count} rows with {worst.label}: NLL {shown(worst.score)}, against "
            f"{shown(nll)} for all rows (lower is better)."
        )
    else:
        points.append("No part of the rows stands out as worse than the others.")
    return Section("Summary", points=points)


def first_rows(model: TableModel, table: pd.DataFrame) -> Section:
    """The first rows of observations and predictions."""
    text = "The first rows, counted from 0: observations and predictions. "
    if isinstance(model.estimator, ProbMixClassifier):
        text += "The predicted class is the most probable one."
    else:
        text += (
            "Mean and standard deviation (std) of the predicted distribution, and its quantiles: the target is below the 5 % "
            "column with a predicted probability of 5 %, and so on, so that the 90 % interval is from 5 % to 95 %. Counts, "
            "and targets of few values, such as grades, are at or below the 5 % column with a probability of at least 5 %."
        )
    return Section("First predictions", text, tables=[_listed(table[:FIRST])])


def _listed(frame: pd.DataFrame, caption: str = "") -> Table:
    rows = [
        [str(index), *(number(value) for value in row)]
        for index, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return Table(["row", *map(str, frame.columns)], rows, caption)


def calibration(model: TableModel, predictions: Predictions, report: CheckReport) -> Section:
    """The checks with their meanings, and the figures."""
    tables, figures, text = [], [], ""
    if any(mark is not None for mark in model.estimator.state_.recipe.marks):
        text = (
            "A target of few values, such as grades, is checked by its density before it is rounded. The quantiles in the "
            "tables of rows are rounded to such values."
        )
    for target, checks in report.checks.items():
        rows = [[named(metric), shown(value), meaning(metric, predictions)] for metric, value in checks.items()]
        for statistic, p in report.bayesian_p_values.get(target, {}).items():
            name = f"Bayesian p-value, {statistic}"
            rows.append([name, f"{p:.2g}", meaning(name, predictions)])
        several = target if len(report.checks) > 1 else ""
        tables.append(Table(["check", "value", "meaning"], rows, several, words=True))
    for t, target in enumerate(predictions.targets):
        suffix = suffix_of(predictions.targets, t)
        for name, path in report.figures.items():
            if name.endswith(suffix):
                caption = _caption(name.removesuffix(suffix), predictions.classes)
                caption = f"{target}: {caption}" if suffix else caption
                figures.append({"data": base64.b64encode(path.read_bytes()).decode(), "caption": caption})
    return Section("How well calibrated it is", text, tables=tables, figures=figures)


def _caption(name: str, classes: tuple[str, ...]) -> str:
    """The caption of a figure, for example ``pit``, or ``reliability-1``, of the class of that number."""
    base, _, position = name.partition("-")
    if position:
        what, share = f"“{classes[int(position)]}”", f"the share of the group that is “{classes[int(position)]}”"
    else:
        what, share = "their most probable class", "the share of the group for which that class is right"
    return _CAPTIONS[base].format(what=what, share=share)


def failures(
    table: pd.DataFrame, features: pd.DataFrame, scores: npt.NDArray[np.float64], parts: list[Part], num_targets: int
) -> Section:
    """The rows with the worst scores, and the parts where the score is worse than elsewhere."""
    worst = np.argsort(-scores)[:WORST]
    worst_rows = pd.concat([table, pd.DataFrame({"NLL": scores}, index=table.index), features], axis=1).iloc[worst]
    several = " (of all targets together)" if num_targets > 1 else ""
    tables = [
        _listed(worst_rows, f"The rows whose observation the model found least likely, the highest NLL{several} first.")
    ]
    worse = [part for part in parts if part.stands_out]
    rule = (
        f"Looked at: {len(parts)} parts of the rows (a quarter of a column's numbers or dates, a category, missing values; "
        f"at least {FEWEST_ROWS} rows). A part stands out if its mean NLL is above that of all other rows by more than two "
        "standard errors of the difference, which about one part of forty does by chance. "
    )
    if not worse:
        return Section("Where it does worst", rule + "No part stands out.", tables=tables)
    rows = [[part.label, str(part.count), shown(part.score), f"{part.excess:.1f}"] for part in worse[:WORST]]
    rows.append(["all rows", str(len(scores)), shown(mean_over_rows(scores)), ""])
    if len(worse) > WORST:
        rule += f"{len(worse)} stand out, the first {WORST} are shown."
    heads = ["rows with", "how many", "mean NLL ± standard error", "standard errors above the others"]
    tables.append(Table(heads, rows, "Parts of the rows that stand out, and all rows for comparison."))
    return Section("Where it does worst", rule, tables=tables)


def importances(importance: pd.DataFrame, num_rows: int, repeats: int, num_columns: int) -> Section:
    """The columns by the rise of the NLL when they are shuffled."""
    first = importance[:MOST_COLUMNS]
    rows = [[str(name), f"{row['mean']:.4g}", f"{row['std']:.2g}"] for name, row in first.iterrows()]
    text = (
        f"How much the NLL rises, in nats a row, when a column's values are shuffled among {num_rows} rows ({repeats} times, "
        "which gives a mean and a standard deviation). It measures what the model uses, not what causes the target. Of columns "
        "with the same information each looks less important than it is."
    )
    if len(importance) < num_columns:
        text += f" Measured for the first {len(importance)} of {num_columns} columns of the table."
    if len(rows) < len(importance):
        text += f" The first {len(rows)} of {len(importance)} columns."
    return Section(
        "Importance of the columns", text, tables=[Table(["column", "rise of the NLL", "standard deviation"], rows)]
    )
