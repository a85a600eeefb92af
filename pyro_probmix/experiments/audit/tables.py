"""The audit's tables, in Markdown."""

from __future__ import annotations

__all__ = ["tables"]

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit import diverged
from pyro_probmix.experiments.audit.effects import (
    LAST,
    Audited,
    by_level,
    holding,
    in_part,
    medians,
    moved,
    nearness,
    settings_in,
)
from pyro_probmix.experiments.audit.markdown import escaped, table
from pyro_probmix.experiments.audit.summary import TEXTS, share


def tables(found: Sequence[Audited]) -> str:
    """All tables of an audit, see :func:`~pyro_probmix.experiments.audit.effects.audits`."""
    blocks: list[str] = []
    for one in found:
        if one.complete:
            blocks += [f"### {one.title}", *_of_part(one)]
        else:
            there = sum(len(scores) > 0 for scores in one.scores)
            blocks.append(
                f"{one.name}: left out, {there} of its {len(one.scores)} settings have run with the same seeds or splits of "
                f"{', '.join(map(escaped, one.methods))}. The same command goes on from there."
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
        if "ERM" in one.methods and len(one.methods) > 1:
            yield _beside_erm(one)
    yield _by_method(one)
    yield diverged.counted(one)


def _generators(one: Audited) -> str:
    if one.full:
        return " All combinations have run."
    if not one.part.generators:
        return ""
    words = [f"{name} = {' x '.join(word)}" for name, word in one.part.generators.items()]
    return f" The fraction's generators: {'; '.join(words)}."


def _lead(one: Audited) -> str:
    """Median NLL by targets and scale."""
    found = medians(one, "nll")
    lines = []
    for k in settings_in(found):
        lowest = found[k].min()
        cells = [f"**{_number(value)}**" if value == lowest < np.inf else _number(value) for value in found[k]]
        lines.append([_setting(one, k), *cells])
    head = ["targets, scales, epoch", *map(escaped, found.index)]
    return f"Median NLL of the test rows{_without(found)}:\n\n" + table(head, lines)


def _number(median: float) -> str:
    return f"{median:.3g}" if np.isfinite(median) else "none"


def _without(found: pd.DataFrame) -> str:
    """What a caption says where some medians are not there."""
    return "" if np.isfinite(found.to_numpy()).all() else " (none where half of the runs or more diverged)"


def _setting(one: Audited, k: int) -> str:
    point = one.points[k]
    return ", ".join(other if point[name] else ours for name, ours, other in one.choices)


def _by_claim(one: Audited, held: pd.DataFrame) -> str:
    """For each claim the share of settings in which it holds, at either level of each choice."""
    means = moved(one, held)
    lines = []
    for claim in held.index:
        cells = []
        for name, ours, other in one.choices:
            a, b = means.loc[claim, (name, ours)], means.loc[claim, (name, other)]
            strong = "**" if abs(a - b) >= 0.5 else ""
            cells.append("–" if a != a or b != b else f"{strong}{a:.0%} → {b:.0%}{strong}")
        lines.append([f"{claim}: {TEXTS[str(claim)].rstrip('.')}", share(held, str(claim)), *cells])
    return (
        "In how many settings each claim holds, by the medians as they are, and the share of settings from our level of a "
        "choice to the other (bold: by half of them or more):\n\n"
        + table(["claim", "holds in", *(name for name, _, _ in one.choices)], lines)
    )


def _best(one: Audited, held: pd.DataFrame) -> str:
    """The settings nearest to the paper by its claims: how many hold, and how many in part."""
    parts, count = in_part(one).sum(), held.sum()
    order = settings_in(held[parts.sort_values(ascending=False, kind="stable").index])
    lines = [[_changed(one, k), int(count[k]), f"{parts[k]:.1f}"] for k in dict.fromkeys([*order[:4], 0])]
    return (
        "The settings nearest to the paper, and ours. A claim of several comparisons counts in part, by the share of them that "
        "hold:\n\n" + table(["setting", f"claims that hold, of {len(held)}", "in part"], lines)
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
    lines = []
    for name, *levels in one.choices:
        for level in levels:
            column = means[name, level]
            lines.append([name, level, f"{column['cells']:.1f}", f"{column['rank correlation']:.2f}"])
    best = near.sort_values(["cells", "rank correlation"], ascending=False, kind="stable").index[0]
    row = near.loc[best]
    total = int(near["of"].iloc[0])
    yield (
        f"Cells of Tables 1 and 3, of {total}, that lie within the paper's standard deviation of its mean, and "
        "the rank correlation of the methods with the paper's, mean over the settings at each level:\n\n"
        + table(["choice", "level", "cells within the paper's spread", "rank correlation"], lines)
    )
    yield f"Nearest: {_changed(one, int(best))}, {int(row['cells'])} cells, rank correlation {row['rank correlation']:.2f}."


def _beside_erm(one: Audited) -> str:
    """In how many settings each method has a lower median NLL than ERM: what the paper's tables are about."""
    found = medians(one, "nll")
    lower = found.lt(found.loc["ERM"]).sum(axis=1).drop("ERM")
    counted = ", ".join(f"{escaped(method)} in {count}" for method, count in lower.items())
    return f"Of {found.shape[1]} settings a lower median NLL than ERM has {counted}."


def _by_method(one: Audited) -> str:
    """How far each choice moves each method's median NLL: the mean over the settings at either level."""
    found = medians(one, "nll")
    levels = by_level(one, found)
    choices = sorted(one.choices, key=lambda choice: choice[0] == LAST)
    lines = []
    for method in one.methods:
        cells = [
            " → ".join(_mean(levels[name, level].T[method]) for level in (ours, other))
            if one.depends(method, name)
            else "–"
            for name, ours, other in choices
        ]
        lines.append([escaped(method), *cells])
    lost = not np.isfinite(found.to_numpy()).all()
    left_out = (
        "; in brackets how many settings are left out of the mean, since half of the runs or more diverged there, so that "
        "there is no median"
    )
    return (
        "Median NLL of the test rows, mean over the settings at our level of a choice and at the other; – where a method does "
        f"not depend on the choice{left_out if lost else ''}:\n\n"
        + table(["median NLL", *(name for name, _, _ in choices)], lines)
    )


def _mean(each: pd.Series[float]) -> str:
    """The mean of the medians that are there, and how many are not."""
    there = each[np.isfinite(each)]
    lost = len(each) - len(there)
    return _number(there.mean()) + (f" ({lost} none)" if lost and len(there) else "")
