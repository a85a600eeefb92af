"""Verdicts on a claim: the results it is held against, and the comparisons that decide it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pandas as pd

from pyro_probmix.experiments.report.numbers import ablation, difference, lower_is_better, wide
from pyro_probmix.experiments.report.paper import METHODS, paper_tables

__all__ = [
    "Check",
    "Evidence",
    "Outcome",
    "Verdict",
    "ahead",
    "every",
    "first_places",
    "number",
    "on_grid",
    "on_rows",
    "ratio",
    "similar",
]

_T = TypeVar("_T")
Outcome = Literal["supported", "contradicted", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """What numbers say to a claim: the outcome, and the numbers, one comparison a line."""

    outcome: Outcome
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """Results under one setting, the grids of the ablations beside them; the paper's methods only.

    Attributes:
        results: columns ``COLUMNS``.
        setting: for example ``"fixed"``.
    """

    results: pd.DataFrame
    setting: str
    _found: dict[tuple[str | int, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def toy(self, task: str, metric: str) -> pd.DataFrame:
        """Scores of a toy experiment, [split, method]: its own run's, or of the ablation's cell at the fixed alpha, beta."""
        own = self._once(("toy", task, metric), lambda: wide(self._of(f"toy-{task}"), metric))
        alike = (0.1, 0.0 if task == "regression" else 0.01)
        if self.setting == "fixed" and self.setting not in own:
            return self.grid(task, metric).get(alike, pd.DataFrame())
        return own.get(self.setting, pd.DataFrame())

    def grid(self, task: str, metric: str) -> dict[tuple[float, float], pd.DataFrame]:
        """Scores of an ablation, (alpha, beta) -> [split, method]."""
        return self._once(
            ("grid", task, metric), lambda: ablation(self._of(f"ablation-{task}"), f"ablation-{task}", metric)
        )

    def at_beta(self, task: str, metric: str, beta: float) -> pd.DataFrame:
        """Scores of an ablation at one beta, mean over alpha, [split, method]."""
        frames = [frame for (_, b), frame in self.grid(task, metric).items() if b == beta]
        return pd.concat(frames).groupby(level=0).mean() if frames else pd.DataFrame()

    def rows(self, table: int) -> dict[tuple[str, str], pd.DataFrame]:
        """Scores of each row of a table, (network, dataset) -> [split, method]; empty where a method is missing."""
        return self._once(("rows", table), lambda: self._rows(table))

    def _rows(self, table: int) -> dict[tuple[str, str], pd.DataFrame]:
        paper = paper_tables()
        paper = paper[paper["table"] == table]
        metric = str(paper["metric"].iloc[0])
        ours = self._of("uci" if paper["network"].eq("mlp").all() else "stocks")
        ours = ours[ours["setting"] == self.setting]
        rows: dict[tuple[str, str], pd.DataFrame] = {}
        for (network, dataset), part in paper.groupby(["network", "dataset"], sort=False):
            here = ours[(ours["network"] == network) & (ours["dataset"] == dataset)]
            standardised = f"{metric} (standardised)"  # the same order of the methods, in one unit for all stocks
            scores = wide(here, standardised if standardised in set(here["metric"]) else metric)
            frame = scores.get(self.setting, pd.DataFrame())
            complete = set(part["method"]) <= set(frame.columns) and frame.notna().any().all()
            rows[str(network), str(dataset)] = frame if complete else pd.DataFrame()
        return rows

    def _of(self, experiment: str) -> pd.DataFrame:
        """An experiment's rows of the paper's methods."""
        return self.results[(self.results["experiment"] == experiment) & self.results["method"].isin(METHODS)]

    def _once(self, key: tuple[str | int, ...], make: Callable[[], _T]) -> _T:
        """What ``make`` gives, made when it is first asked for: many claims look at the same scores."""
        if key not in self._found:
            self._found[key] = make()
        found: _T = self._found[key]
        return found


Check = Callable[[Evidence], Verdict]


def number(value: float) -> str:
    """A number in a sentence, with the digits that tell."""
    if not math.isfinite(value):
        return str(value)
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    return text.removesuffix("0") if digits == 3 else text


def ahead(
    scores: Callable[[Evidence], pd.DataFrame], metric: str, a: str, b: str, *, clearly: bool = False
) -> Check:
    """Method a scores better than b, ``clearly`` by more than two standard errors of the paired difference."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        mean, error, _ = difference(frame[a], frame[b])
        gain = -mean if lower_is_better(metric) else mean
        text = _compared(frame, metric, a, b, mean, error)
        if not math.isfinite(gain) or (clearly and not math.isfinite(error)):
            return Verdict("not measured", (text,))
        return Verdict("supported" if gain > (2 * error if clearly else 0) else "contradicted", (text,))

    return check


def similar(
    scores: Callable[[Evidence], pd.DataFrame], metric: str, a: str, b: str, *, or_ahead: bool = False
) -> Check:
    """Methods a and b differ by at most two standard errors of the paired difference, or, ``or_ahead``, a is better."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        mean, error, _ = difference(frame[a], frame[b])
        text = _compared(frame, metric, a, b, mean, error)
        if not math.isfinite(error):
            return Verdict("not measured", (text,))
        gain = -mean if lower_is_better(metric) else mean
        alike = gain >= -2 * error if or_ahead else abs(gain) <= 2 * error
        return Verdict("supported" if alike else "contradicted", (text,))

    return check


def ratio(
    scores: Callable[[Evidence], pd.DataFrame], metric: str, of: Literal["mean", "std"], a: str, b: str, low: float, high: float
) -> Check:
    """The mean, or standard deviation over the splits, of a lies between ``low`` and ``high`` times that of b."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not {a, b} <= set(frame.columns):
            return Verdict("not measured")
        ours, theirs = float(frame[a].agg(of)), float(frame[b].agg(of))
        if not (math.isfinite(ours) and theirs > 0):
            return Verdict("not measured")
        what = "standard deviation of " if of == "std" else ""
        text = f"{what}{_label(metric)} {a} {number(ours)}, {b} {number(theirs)}: {ours / theirs:.2f} times"
        return Verdict("supported" if low <= ours / theirs <= high else "contradicted", (text,))

    return check


def first_places(
    scores: Callable[[Evidence], pd.DataFrame], metric: str, methods: Sequence[str], among: Sequence[str], *, last: bool = False
) -> Check:
    """The given methods have the best means of those they are ``among``, or, ``last``, the worst."""

    def check(evidence: Evidence) -> Verdict:
        frame = scores(evidence)
        if not set(among) <= set(frame.columns):
            return Verdict("not measured")
        means = frame[list(among)].mean()
        order = means.sort_values(ascending=lower_is_better(metric) is not last).index[: len(methods)]
        shown = sorted({*order, *methods}, key=lambda name: list(means.index).index(name))
        place = means.rank(ascending=lower_is_better(metric)).astype(int)
        text = f"{_label(metric)} " + ", ".join(f"{name} {number(means[name])} (place {place[name]})" for name in shown)
        return Verdict("supported" if set(order) == set(methods) else "contradicted", (text,))

    return check


def every(*checks: Check) -> Check:
    """All of several comparisons hold: one that does not contradicts the claim, one that is missing leaves it open."""

    def check(evidence: Evidence) -> Verdict:
        verdicts = [part(evidence) for part in checks]
        outcomes = {verdict.outcome for verdict in verdicts}
        outcome: Outcome = (
            "contradicted" if "contradicted" in outcomes else "not measured" if "not measured" in outcomes else "supported"
        )
        marks = {"supported": "✓ ", "contradicted": "✗ ", "not measured": ""}
        return Verdict(outcome, tuple(marks[v.outcome] + line for v in verdicts for line in v.numbers))

    return check


def on_rows(
    table: int,
    holds: Callable[[pd.Series], bool],
    shown: Callable[[pd.Series], str],
    *,
    need: int | None = None,
    rows: Callable[[str, str], bool] = lambda network, dataset: True,
) -> Check:
    """A comparison of means holds on at least ``need`` of a table's rows (all, if None); decided as soon as it must be."""

    def check(evidence: Evidence) -> Verdict:
        found: dict[str, tuple[bool, str]] = {}
        chosen = {key: frame for key, frame in evidence.rows(table).items() if rows(*key)}
        for (network, dataset), frame in chosen.items():
            if len(frame):
                label = dataset if network == "mlp" else f"{dataset} ({_network(network)})"
                found[label] = holds(frame.mean()), shown(frame.mean())
        return _tally(found, len(chosen), need or len(chosen))

    return check


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
    return "supported" if held >= need else "contradicted" if held + total - measured < need else "not measured"


def _compared(frame: pd.DataFrame, metric: str, a: str, b: str, mean: float, error: float) -> str:
    spread = f" ± {number(error)}" if math.isfinite(error) else ""
    return f"{_label(metric)} {a} {number(frame[a].mean())}, {b} {number(frame[b].mean())}, difference {number(mean)}{spread}"


def _label(metric: str) -> str:
    return metric.upper() if metric in ("nll", "mse", "rmse") else metric


def _network(network: str) -> str:
    return {"lstm": "LSTM", "transformer": "Transformer"}.get(network, network)
