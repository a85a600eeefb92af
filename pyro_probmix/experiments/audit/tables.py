"""The audit's tables, in Markdown."""

from __future__ import annotations

__all__ = ["KINDS", "kinds_of", "summary", "tables"]

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from pyro_probmix.experiments.audit.effects import (
    LAST,
    Audited,
    holding,
    in_part,
    medians,
    moved,
    nearness,
    settings_in,
)
from pyro_probmix.experiments.report.claims import CLAIMS

#: What a claim is called by the share of settings in which it holds: at least so much.
KINDS = ((0.9, "holds whatever one chooses"), (0.1, "hangs on a choice"), (0.0, "does not hold"))
_TEXTS = {claim.id: claim.text for claim in CLAIMS}


def kinds_of(held: pd.DataFrame) -> dict[str, list[str]]:
    """The claims by kind, from whether each holds at each setting."""
    share = held.mean(axis=1)
    kinds: dict[str, list[str]] = {name: [] for _, name in KINDS}
    for claim, value in share.items():
        kinds[next(name for least, name in KINDS if value >= least)].append(str(claim))
    return kinds


def summary(found: Sequence[Audited]) -> str:
    """Which claims on the toys hold whatever one chooses, which hang on a choice, and which do not hold."""
    blocks = []
    for one in found:
        if not one.complete or one.part.config.experiment == "uci":
            continue
        held = holding(one)
        means = moved(one, held)
        lines = [f"**{_title(one)}**, {held.shape[1]} settings, {one.runs} runs of each method:", ""]
        if one.name == "lead":
            lines += [_leaders(one), ""]
        for kind, claims in kinds_of(held).items():
            listed = [
                f"{claim}, {_share(held, claim)}{_strongest(one, means, claim)}{_together(one, held, claim)}: {_TEXTS[claim]}"
                for claim in claims
            ]
            lines += [f"* {kind}: " + ("none." if not listed else ""), *(f"  * {text}" for text in listed)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _title(one: Audited) -> str:
    return "The toy regression by targets and scale" if one.name == "lead" else one.name


def _leaders(one: Audited) -> str:
    """At how many settings of either scale M-ProbMix and LocM-ProbMix have the lowest medians of all."""
    name, *levels = next(choice for choice in one.choices if choice[0] == "scale")
    parts = []
    for metric, label in (("nll", "NLL"), ("rmse", "MSE")):
        found = medians(one, metric)
        first = {k: set(found[k].nsmallest(2).index) == {"M-ProbMix", "LocM-ProbMix"} for k in settings_in(found)}
        counts = []
        for level in levels:
            own = [k for k in first if one.points[k][name] is (level == levels[1])]
            counts.append(f"{sum(first[k] for k in own)} of {len(own)} with {level}")
        parts.append(f"in {label} in {' and '.join(counts)}")
    return f"M-ProbMix and LocM-ProbMix have the two lowest medians of nine methods {'; '.join(parts)}."


def _share(held: pd.DataFrame, claim: str) -> str:
    row = held.T[claim]
    return f"{int(row.sum())} of {row.count()}"


def _strongest(one: Audited, means: pd.DataFrame, claim: str) -> str:
    """The choice that moves a claim most, if it moves it by a quarter of the settings or more."""
    gaps = {name: means[name, other][claim] - means[name, ours][claim] for name, ours, other in one.choices}
    gaps = {name: gap for name, gap in gaps.items() if gap == gap}
    if not gaps:
        return ""
    name = max(gaps, key=lambda key: abs(gaps[key]))
    if abs(gaps[name]) < 0.25:
        return ""
    level = next(other if gaps[name] > 0 else ours for key, ours, other in one.choices if key == name)
    return f", more often with {name}: {level}"


def _together(one: Audited, held: pd.DataFrame, claim: str) -> str:
    """The two levels with which a claim holds most often, if they say more than one does.

    Told of all combinations of some choices only: a fraction of resolution IV confounds pairs of choices with each other.
    """
    row = held.T[claim]
    if not one.full or held.shape[1] < 32 or not row.any():
        return ""
    levels = [(name, at, word) for name, *words in one.choices for at, word in zip((False, True), words, strict=True)]

    def held_with(*pair: tuple[str, bool, str]) -> pd.Series[float]:
        return row[[k for k in settings_in(held) if all(one.points[k][name] is at for name, at, _ in pair)]]

    pairs = [pair for pair in combinations(levels, 2) if pair[0][0] != pair[1][0]]
    first, second = max(pairs, key=lambda pair: held_with(*pair).mean())
    own = held_with(first, second)
    if own.mean() < max(held_with(level).mean() for level in levels) + 0.1:
        return ""
    return f", {int(own.sum())} of the {len(own)} with {first[0]}: {first[2]} and {second[0]}: {second[2]}"


def tables(found: Sequence[Audited]) -> str:
    """All tables of an audit, see :func:`~pyro_probmix.experiments.audit.effects.audits`."""
    blocks: list[str] = []
    for one in found:
        if one.complete:
            blocks += [f"### {_title(one)}", *_of_part(one)]
        else:
            there = sum(len(scores) > 0 for scores in one.scores)
            blocks.append(
                f"{one.name}: left out, {there} of its {len(one.scores)} settings have run. The same command goes on from "
                "there."
            )
    return "\n\n".join(blocks) + "\n"


def _of_part(one: Audited) -> Iterator[str]:
    yield (
        f"{one.runs} runs of each method at {len(one.scores)} settings; the choices: "
        + "; ".join(f"{name} ({ours}, or {other})" for name, ours, other in one.choices)
        + f".{_generators(one)}"
    )
    if one.name == "lead":
        yield _lead(one)
    held = holding(one)
    if len(held):
        yield _by_claim(one, held)
        yield _best(one, held)
    if one.part.config.experiment == "uci":
        yield from _beside_paper(one)
        if "ERM" in medians(one, "nll").index:
            yield _beside_erm(one)
    yield _by_method(one)


def _generators(one: Audited) -> str:
    if one.full:
        return " All combinations have run."
    words = [f"{name} = {' x '.join(word)}" for name, word in one.part.generators.items()]
    return f" The fraction's generators: {'; '.join(words)}."


def _lead(one: Audited) -> str:
    """Median NLL by targets and scale."""
    found = medians(one, "nll")
    lines = [_row("targets, scales, epoch", *found.index), _row(*["---"] * (len(found.index) + 1))]
    for k in settings_in(found):
        lowest = found[k].min()
        cells = [f"**{value:.3g}**" if value == lowest else f"{value:.3g}" for value in found[k]]
        lines.append(_row(_setting(one, k), *cells))
    return "Median NLL of the test rows:\n\n" + "\n".join(lines)


def _setting(one: Audited, k: int) -> str:
    point = one.points[k]
    return ", ".join(other if point[name] else ours for name, ours, other in one.choices)


def _by_claim(one: Audited, held: pd.DataFrame) -> str:
    """For each claim the share of settings in which it holds, at either level of each choice."""
    means = moved(one, held)
    names = [name for name, _, _ in one.choices]
    head = _row("claim", "holds in", *names)
    lines = [head, _row(*["---"] * (len(names) + 2))]
    for claim in held.index:
        cells = []
        for name, ours, other in one.choices:
            a, b = means.loc[claim, (name, ours)], means.loc[claim, (name, other)]
            strong = "**" if abs(a - b) >= 0.5 else ""
            cells.append("–" if a != a or b != b else f"{strong}{a:.0%} → {b:.0%}{strong}")
        lines.append(_row(f"{claim}: {_TEXTS[str(claim)].rstrip('.')}", _share(held, str(claim)), *cells))
    return (
        "In how many settings each claim holds, by the medians as they are, and the share of settings from our level of a "
        "choice to the other (bold: by half of them or more):\n\n" + "\n".join(lines)
    )


def _best(one: Audited, held: pd.DataFrame) -> str:
    """The settings nearest to the paper by its claims: how many hold, and how many in part."""
    parts, count = in_part(one).sum(), held.sum()
    order = settings_in(held[parts.sort_values(ascending=False, kind="stable").index])
    lines = [_row("setting", f"claims that hold, of {len(held)}", "in part"), _row("---", "---", "---")]
    lines += [_row(_changed(one, k), f"{int(count[k])}", f"{parts[k]:.1f}") for k in dict.fromkeys([*order[:4], 0])]
    return (
        "The settings nearest to the paper, and ours. A claim of several comparisons counts in part, by the share of them that "
        "hold:\n\n" + "\n".join(lines)
    )


def _changed(one: Audited, k: int) -> str:
    point = one.points[k]
    changed = [f"{name} {other}" for name, _, other in one.choices if point[name]]
    return ", ".join(changed) or "all as ours"


def _beside_paper(one: Audited) -> Iterator[str]:
    near = nearness(one)
    if near.empty:
        return
    means = moved(one, near[["cells", "rank correlation"]].astype(float).T)
    lines = [_row("choice", "level", "cells within the paper's spread", "rank correlation"), _row(*["---"] * 4)]
    for name, *levels in one.choices:
        for level in levels:
            column = means[name, level]
            lines.append(_row(name, level, f"{column['cells']:.1f}", f"{column['rank correlation']:.2f}"))
    best = near.sort_values(["cells", "rank correlation"], ascending=False, kind="stable").index[0]
    row = near.loc[best]
    total = int(near["of"].iloc[0])
    yield (
        f"Cells of Tables 1 and 3, of {total}, that lie within the paper's standard deviation of its mean, and "
        "the rank correlation of the methods with the paper's, mean over the settings at each level:\n\n"
        + "\n".join(lines)
    )
    yield f"Nearest: {_changed(one, int(best))}, {int(row['cells'])} cells, rank correlation {row['rank correlation']:.2f}."


def _beside_erm(one: Audited) -> str:
    """In how many settings each method has a lower median NLL than ERM: what the paper's tables are about."""
    found = medians(one, "nll")
    lower = found.lt(found.loc["ERM"]).sum(axis=1).drop("ERM")
    counted = ", ".join(f"{_escaped(method)} in {count}" for method, count in lower.items())
    return f"Of {found.shape[1]} settings a lower median NLL than ERM has {counted}."


def _escaped(method: object) -> str:
    return str(method).replace("*", "\\*")


def _by_method(one: Audited) -> str:
    """How far each choice moves each method's median NLL: the mean over the settings at either level."""
    means = moved(one, medians(one, "nll"))
    names = [name for name, _, _ in one.choices if name != LAST] + [LAST]
    lines = [_row("median NLL", *names), _row(*["---"] * (len(names) + 1))]
    for method, row in means.iterrows():
        cells = []
        for name in names:
            ours, other = row[name]
            cells.append("–" if ours != ours or other != other else f"{ours:.3g} → {other:.3g}")
        lines.append(_row(_escaped(method), *cells))
    return (
        "Median NLL of the test rows, mean over the settings at our level of a choice and at the other:\n\n"
        + "\n".join(lines)
    )


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
