"""The comparisons that decide a claim: pairs of methods, places, rows of a table, cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from pyro_probmix.experiments.report.claims.evidence import Check, Evidence
from pyro_probmix.experiments.report.claims.resampling import Centres, FloatArray
from pyro_probmix.experiments.report.claims.verdicts import BoolArray, Finding
from pyro_probmix.experiments.report.numbers.tidy import lower_is_better

__all__ = [
    "ALIKE",
    "ALIKE_ACCURACY",
    "Scores",
    "above",
    "ahead",
    "every",
    "first_places",
    "lowest",
    "number",
    "on_grid",
    "on_rows",
    "ratio",
    "similar",
    "within",
]

#: A function from evidence to scores.
Scores = Callable[[Evidence], Centres]
#: Centres of a row's methods, [1 + resamples] each.
Row = Centres

#: Scores whose centres differ by no more than this share of the reference's are about the same; accuracies by no more than
#: the second number.
ALIKE, ALIKE_ACCURACY = 0.25, 0.02


def number(value: float) -> str:
    """A number in a sentence, with two or three decimals by its size."""
    if not math.isfinite(value):
        return str(value)
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.removesuffix("0") if digits == 3 else text


def ahead(scores: Scores, metric: str, a: str, b: str) -> Check:
    """Method a scores better than b."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(a, b)
        if found is None:
            return None
        return _finding(found, _gain(found, a, b) > 0, _pair(found, metric, a, b))

    return check


def similar(scores: Scores, metric: str, a: str, b: str, *, or_ahead: bool = False) -> Check:
    """Methods a and b score about the same, or, ``or_ahead``, a is better."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(a, b)
        if found is None:
            return None
        margin = ALIKE * np.abs(found[b]) if lower_is_better(metric) else ALIKE_ACCURACY
        gain = _gain(found, a, b)
        alike = gain >= -margin if or_ahead else np.abs(gain) <= margin
        return _finding(found, alike, _pair(found, metric, a, b))

    return check


def ratio(scores: Scores, metric: str, of: Literal["median", "iqr"], a: str, b: str, low: float, high: float) -> Check:
    """The median, or the range of the middle half, of a lies between ``low`` and ``high`` times that of b."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(a, b)
        if found is None:
            return None
        ours, theirs = found.statistic(a, of), found.statistic(b, of)
        if not (math.isfinite(ours[0]) and theirs[0] > 0):
            return None
        what = "range of the middle half of " if of == "iqr" else ""
        text = f"{what}{_label(metric)} {a} {number(ours[0])}, {b} {number(theirs[0])}: {ours[0] / theirs[0]:.2f} times"
        with np.errstate(invalid="ignore", divide="ignore"):
            times = ours / theirs
        return _finding(found, (low <= times) & (times <= high), text)

    return check


def above(scores: Scores, metric: str, method: str, threshold: float) -> Check:
    """The centre of a method's scores is above a number."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(method)
        if found is None:
            return None
        return _finding(found, found[method] > threshold, f"{_label(metric)} {method} {number(found[method][0])}")

    return check


def within(scores: Scores, metric: str, methods: Sequence[str], width: float) -> Check:
    """The centres of the methods are at most ``width`` apart."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(*methods)
        if found is None:
            return None
        each = np.stack([found[name] for name in methods])
        ends = [f"{methods[k]} {number(each[k, 0])}" for k in (int(each[:, 0].argmax()), int(each[:, 0].argmin()))]
        return _finding(found, each.max(0) <= each.min(0) + width, f"{_label(metric)} {ends[0]}, {ends[1]}")

    return check


def first_places(
    scores: Scores, metric: str, methods: Sequence[str], among: Sequence[str], *, last: bool = False
) -> Check:
    """The given methods have the best centres of those they are ``among``, or, ``last``, the worst."""

    def check(evidence: Evidence) -> Finding | None:
        found = scores(evidence).among(*among)
        if found is None:
            return None
        sign = (1 if lower_is_better(metric) else -1) * (-1 if last else 1)
        inside = np.max([sign * found[name] for name in methods], axis=0)
        outside = np.min([sign * found[name] for name in among if name not in methods], axis=0)
        return _finding(found, inside < outside, _places(found, metric, methods, among, last))

    return check


def _places(found: Centres, metric: str, methods: Sequence[str], among: Sequence[str], last: bool) -> str:
    order = sorted(among, key=lambda name: found[name][0], reverse=not lower_is_better(metric))
    ends = order[-len(methods) :] if last else order[: len(methods)]
    shown = [name for name in among if name in ends or name in methods]
    return f"{_label(metric)} " + ", ".join(
        f"{name} {number(found[name][0])} (place {order.index(name) + 1})" for name in shown
    )


def every(*checks: Check) -> Check:
    """All of several comparisons hold."""

    def check(evidence: Evidence) -> Finding | None:
        parts = [part(evidence) for part in checks]
        found = [part for part in parts if part is not None]
        if not found:
            return None
        yes, no = _all([part.yes for part in found]), ~_all([~part.no for part in found])
        if len(found) < len(parts):  # one that is missing may fail
            yes = np.zeros_like(yes)
        marks = ["✓ " if part.yes[0] else "✗ " if part.no[0] else "? " for part in found]
        lines = tuple(mark + line for mark, part in zip(marks, found, strict=True) for line in part.numbers)
        fewest = min(found, key=lambda part: part.runs)
        return Finding(yes, no, lines, fewest.runs, fewest.shared)

    return check


def on_rows(
    table: int,
    holds: Callable[[Row], BoolArray],
    shown: Callable[[Row], Sequence[str]],
    *,
    need: int | None = None,
    rows: Callable[[str, str], bool] = lambda network, dataset: True,
) -> Check:
    """A comparison of means holds on ``need`` or more rows of a table (default all), whatever rows are still missing.

    The means of the methods that ``shown`` names are the numbers, and of two methods the paired difference too.
    """

    def check(evidence: Evidence) -> Finding | None:
        chosen = {key: row for key, row in evidence.rows(table).items() if rows(*key)}
        there = {_row_label(*key): row for key, row in chosen.items() if row.has()}
        if not there:
            return None
        held = {label: holds(row) for label, row in there.items()}
        texts = {label: _means(row, shown(row)) for label, row in there.items()}
        return _counted(held, texts, list(there.values()), len(chosen), need or len(chosen))

    return check


def _counted(
    held: Mapping[str, BoolArray], texts: Mapping[str, str], rows: Sequence[Centres], total: int, need: int
) -> Finding:
    count = np.sum(_same_length(list(held.values())), axis=0)
    measured = "" if len(held) == total else f" measured, of {total}"
    lines = [f"{'✓' if held[label][0] else '✗'} {label}: {text}" for label, text in texts.items()]
    fewest = min(rows, key=lambda row: row.runs)
    return Finding(
        count >= need,
        count + total - len(held) < need,
        (f"holds on {count[0]} of {len(held)}{measured}", *lines),
        fewest.runs,
        fewest.shared,
    )


def on_grid(
    task: str,
    metrics: Sequence[str],
    holds: Callable[[Centres, bool], BoolArray],
    needs: Sequence[str],
    panels: int = 10,
) -> Check:
    """A comparison of centres holds in more than half of the panels of an ablation's figures, one for each cell and metric."""

    def check(evidence: Evidence) -> Finding | None:
        grids = {m: [one.among(*needs) for one in evidence.grid(task, m).values()] for m in metrics}
        cells = {m: [one for one in own if one is not None] for m, own in grids.items()}
        flat = [one for own in cells.values() for one in own]
        if not flat:
            return None
        held = {m: [holds(one, lower_is_better(m)) for one in own] for m, own in cells.items()}
        text = ", ".join(f"{_label(m)} in {sum(int(h[0]) for h in held[m])} of {len(held[m])} cells" for m in metrics)
        count = np.sum(_same_length([one for own in held.values() for one in own]), axis=0)
        total = panels * len(metrics)
        need = total // 2 + 1
        return Finding(count >= need, count + total - len(flat) < need, (text,), min(one.runs for one in flat))

    return check


def lowest(row: Row, methods: Sequence[str]) -> FloatArray:
    """The lowest centre of some methods, on each resample."""
    least: FloatArray = np.min([row[name] for name in methods if row.has(name)], axis=0)
    return least


def _finding(found: Centres, yes: BoolArray, text: str) -> Finding:
    return Finding(yes, ~yes, (text,), found.runs, found.shared)


def _all(parts: Sequence[BoolArray]) -> BoolArray:
    every_one: BoolArray = np.all(_same_length(parts), axis=0)
    return every_one


def _same_length(parts: Sequence[BoolArray]) -> list[BoolArray]:
    """Parts on equally many resamples, the fewest of any; those of a single run are the same on all."""
    fewest = min((len(part) for part in parts if len(part) > 1), default=1)
    return [np.repeat(part, fewest) if len(part) == 1 else part[:fewest] for part in parts]


def _gain(found: Centres, a: str, b: str) -> FloatArray:
    """By how much the centre of a is better."""
    return found.gap(b, a) if lower_is_better(found.metric) else found.gap(a, b)


def _pair(found: Centres, metric: str, a: str, b: str) -> str:
    gap = found.gap(a, b)
    spread = "" if len(gap) < 2 else " [{}, {}]".format(*map(number, found.interval(gap)))
    values = f"{a} {number(found[a][0])}, {b} {number(found[b][0])}"
    return f"{_label(metric)} {values}, difference {number(gap[0])}{spread}"


def _means(row: Centres, names: Sequence[str]) -> str:
    text = ", ".join(f"{name} {number(row[name][0])}" for name in names)
    if len(set(names)) == 2 and len(gap := row.gap(names[0], names[1])) > 1:
        text += ", difference {} [{}, {}]".format(number(gap[0]), *map(number, row.interval(gap)))
    return text


def _label(metric: str) -> str:
    return metric.upper() if metric in ("nll", "mse", "rmse") else metric


def _row_label(network: str, dataset: str) -> str:
    names = {"lstm": "LSTM", "transformer": "Transformer"}
    return dataset if network == "mlp" else f"{dataset} ({names.get(network, network)})"
