"""The comparisons that decide a claim: pairs of methods, places, rows of a table, cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from pyro_probmix.experiments.report.claims.evidence import Check, Evidence, Outcome, Verdict
from pyro_probmix.experiments.report.numbers.tidy import difference, lower_is_better

__all__ = ["Scores", "ahead", "every", "first_places", "number", "on_grid", "on_rows", "ratio", "similar"]

#: A function from evidence to scores, [split, method].
Scores = Callable[[Evidence], pd.DataFrame]


def number(value: float) -> str:
    """A number in a sentence, with two or three decimals by its size."""
    if not math.isfinite(value):
        return str(value)
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.removesuffix("0") if digits == 3 else text


def ahead(scores: Scores, metric: str, a: str, b: str) -> Check:
    """Method a scores better than b by more than two standard errors of the paired difference; undecided within them."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        gain, error, text = _gain(frame, metric, a, b)
        if not math.isfinite(error):
            return Verdict("not measured", (text,))
        return Verdict(
            "supported" if gain > 2 * error else "contradicted" if gain < -2 * error else "undecided", (text,)
        )

    return check


def similar(scores: Scores, metric: str, a: str, b: str, *, or_ahead: bool = False) -> Check:
    """Methods a and b differ by at most two standard errors of the paired difference, or, ``or_ahead``, a is better."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        gain, error, text = _gain(frame, metric, a, b)
        if not math.isfinite(error):
            return Verdict("not measured", (text,))
        alike = gain >= -2 * error if or_ahead else abs(gain) <= 2 * error
        return Verdict("supported" if alike else "contradicted", (text,))

    return check


def ratio(
    scores: Scores,
    metric: str,
    of: Literal["mean", "std"],
    a: str,
    b: str,
    low: float,
    high: float,
) -> Check:
    """The mean, or standard deviation over the splits, of a lies between ``low`` and ``high`` times that of b."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        if np.isinf(frame[[a, b]].to_numpy()).any():
            return Verdict("not measured")
        ours, theirs = float(frame[a].agg(of)), float(frame[b].agg(of))
        if not (math.isfinite(ours) and theirs > 0):
            return Verdict("not measured")
        what = "standard deviation of " if of == "std" else ""
        text = f"{what}{_label(metric)} {a} {number(ours)}, {b} {number(theirs)}: {ours / theirs:.2f} times"
        return Verdict("supported" if low <= ours / theirs <= high else "contradicted", (text,))

    return check


def first_places(
    scores: Scores,
    metric: str,
    methods: Sequence[str],
    among: Sequence[str],
    *,
    last: bool = False,
) -> Check:
    """The given methods have the best means of those they are ``among``, or, ``last``, the worst.

    Contradicted if another one is ahead of one of them by more than two standard errors of the paired difference,
    undecided if it is ahead by less.
    """

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not set(among) <= set(frame.columns):
            return Verdict("not measured")
        means = frame[list(among)].mean()
        if means.isna().any():
            return Verdict("not measured")
        order = means.sort_values(ascending=lower_is_better(metric) is not last).index[: len(methods)]
        shown = sorted({*order, *methods}, key=lambda name: list(means.index).index(name))
        place = means.rank(ascending=lower_is_better(metric)).astype(int)
        text = f"{_label(metric)} " + ", ".join(f"{name} {number(means[name])} (place {place[name]})" for name in shown)
        if set(order) == set(methods):
            return Verdict("supported", (text,))
        sign = -1 if last else 1
        gains = [_gain(frame, metric, other, one)[:2] for one in methods for other in among if other not in methods]
        clearly = any(sign * gain > 2 * error for gain, error in gains)
        return Verdict("contradicted" if clearly else "undecided", (text,))

    return check


def every(*checks: Check) -> Check:
    """All of several comparisons hold: a failed one contradicts the claim, an open one leaves it undecided."""

    def check(evidence: Evidence) -> Verdict:
        verdicts = [part(evidence) for part in checks]
        outcomes = {verdict.outcome for verdict in verdicts}
        order: tuple[Outcome, ...] = ("contradicted", "not measured", "undecided", "supported")
        outcome = next(name for name in order if name in outcomes)
        if outcome == "not measured" and len(outcomes) > 1:
            outcome = "undecided"
        marks = {"supported": "✓ ", "contradicted": "✗ ", "undecided": "? ", "not measured": ""}
        return Verdict(outcome, tuple(marks[v.outcome] + line for v in verdicts for line in v.numbers))

    return check


def on_rows(
    table: int,
    holds: Callable[[pd.Series], bool],
    shown: Callable[[pd.Series], Sequence[str]],
    *,
    need: int | None = None,
    rows: Callable[[str, str], bool] = lambda network, dataset: True,
) -> Check:
    """A comparison of means holds on ``need`` or more rows of a table (default all), whatever rows are still missing.

    The means of the methods that ``shown`` names are the numbers, and of two methods the paired difference too.
    """

    def check(evidence: Evidence) -> Verdict:
        found: dict[str, tuple[bool, str]] = {}
        chosen = {key: frame for key, frame in evidence.rows(table).items() if rows(*key)}
        for (network, dataset), frame in chosen.items():
            if len(frame):
                label = dataset if network == "mlp" else f"{dataset} ({_network(network)})"
                found[label] = holds(frame.mean()), _means(frame, shown(frame.mean()))
        return _tally(found, len(chosen), need or len(chosen))

    return check


def _means(frame: pd.DataFrame, names: Sequence[str]) -> str:
    text = ", ".join(f"{name} {number(frame[name].mean())}" for name in names)
    if len(set(names)) == 2 and len(frame) > 1:
        mean, error, _ = difference(frame[names[0]], frame[names[1]])
        text += f", difference {number(mean)} ± {number(error)}"
    return text


def on_grid(
    task: str, metrics: Sequence[str], holds: Callable[[pd.Series, bool], bool], needs: Sequence[str], panels: int = 10
) -> Check:
    """A comparison of means holds in more than half of the panels of an ablation's figures, one for each cell and metric."""

    def check(evidence: Evidence) -> Verdict:
        held = dict.fromkeys(metrics, 0)
        there = dict.fromkeys(metrics, 0)
        for metric in metrics:
            for frame in evidence.grid(task, metric).values():
                if set(needs) <= set(frame.columns):
                    there[metric] += 1
                    held[metric] += holds(frame.mean(), lower_is_better(metric))
        total = panels * len(metrics)
        if not any(there.values()):
            return Verdict("not measured")
        text = ", ".join(f"{_label(metric)} in {held[metric]} of {there[metric]} cells" for metric in metrics)
        return Verdict(_decided(sum(held.values()), sum(there.values()), total, total // 2 + 1), (text,))

    return check


def _tally(found: Mapping[str, tuple[bool, str]], total: int, need: int) -> Verdict:
    held = sum(holds for holds, _ in found.values())
    if not found:
        return Verdict("not measured")
    measured = "" if len(found) == total else f" measured, of {total}"
    rows = [f"{'✓' if holds else '✗'} {label}: {text}" for label, (holds, text) in found.items()]
    return Verdict(_decided(held, len(found), total, need), (f"holds on {held} of {len(found)}{measured}", *rows))


def _decided(held: int, measured: int, total: int, need: int) -> Outcome:
    """Supported once enough hold, contradicted once too few can, open between."""
    return "supported" if held >= need else "contradicted" if held + total - measured < need else "undecided"


def _gain(frame: pd.DataFrame, metric: str, a: str, b: str) -> tuple[float, float, str]:
    """The gain of a over b, its standard error, and both in words."""
    mean, error, _ = difference(frame[a], frame[b])
    spread = f" ± {number(error)}" if math.isfinite(error) else ""
    means = f"{a} {number(frame[a].mean())}, {b} {number(frame[b].mean())}"
    text = f"{_label(metric)} {means}, difference {number(mean)}{spread}"
    return -mean if lower_is_better(metric) else mean, error, text


def _label(metric: str) -> str:
    return metric.upper() if metric in ("nll", "mse", "rmse") else metric


def _network(network: str) -> str:
    return {"lstm": "LSTM", "transformer": "Transformer"}.get(network, network)
