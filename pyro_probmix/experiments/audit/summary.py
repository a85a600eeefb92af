"""The audit in short: which claims hold whatever one chooses, which hang on a choice, and what diverged."""

from __future__ import annotations

__all__ = ["KINDS", "TEXTS", "kinds_of", "share", "summary"]

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit import diverged
from pyro_probmix.experiments.audit.effects import Audited, holding, medians, moved, settings_in
from pyro_probmix.experiments.report.claims import CLAIMS

#: What a claim is called by the share of settings in which it holds: at least so much.
KINDS = ((0.9, "holds whatever one chooses"), (0.1, "hangs on a choice"), (0.0, "does not hold"))
#: A claim -> its text.
TEXTS = {claim.id: claim.text for claim in CLAIMS}
#: The methods that the paper finds best on the toy regression.
_BEST = ("M-ProbMix", "LocM-ProbMix")


def kinds_of(held: pd.DataFrame) -> dict[str, list[str]]:
    """The claims by kind, from whether each holds at each setting."""
    shares = held.mean(axis=1)
    kinds: dict[str, list[str]] = {name: [] for _, name in KINDS}
    for claim, value in shares.items():
        kinds[next(name for least, name in KINDS if value >= least)].append(str(claim))
    return kinds


def share(held: pd.DataFrame, claim: str) -> str:
    """In how many settings a claim holds."""
    row = held.T[claim]
    return f"{int(row.sum())} of {row.count()}"


def summary(found: Sequence[Audited]) -> str:
    """Which claims on the toys hold whatever one chooses, which hang on a choice, and which do not hold; what diverged."""
    blocks = []
    for one in found:
        held = holding(one) if one.complete else pd.DataFrame()
        if held.empty:
            continue
        means = moved(one, held)
        lines = [f"**{one.title}**, {held.shape[1]} settings, {one.runs} runs of each method:", ""]
        if one.part.config.experiment == "toy-regression" and set(_BEST) <= set(one.methods):
            lines += [_leaders(one), ""]
        for kind, claims in kinds_of(held).items():
            listed = [
                f"{claim}, {share(held, claim)}{_strongest(one, means, claim)}{_together(one, held, claim)}: {TEXTS[claim]}"
                for claim in claims
            ]
            lines += [f"* {kind}: " + ("none." if not listed else ""), *(f"  * {text}" for text in listed)]
        blocks.append("\n".join(lines))
    lost = {one.title: diverged.in_short(one) for one in found if one.complete}
    if any(lost.values()):
        told = "\n".join(f"* {title}: {text}." for title, text in lost.items() if text)
        blocks.append(f"**Trainings that diverged** have no NLL, and count as the worst:\n\n{told}")
    return "\n\n".join(blocks) + "\n"


def _leaders(one: Audited) -> str:
    """At how many settings M-ProbMix and LocM-ProbMix have the lowest medians of all, and at which levels more often."""
    parts = []
    for metric, label in (("nll", "NLL"), ("rmse", "MSE")):
        found = medians(one, metric)
        lowest = {k: found[k][np.isfinite(found[k])].nsmallest(2).index for k in settings_in(found)}
        first = {k: set(names) == set(_BEST) for k, names in lowest.items()}
        each = []
        for name, *words in one.choices:
            own = [[held for k, held in first.items() if one.points[k][name] is other] for other in (False, True)]
            if abs(sum(own[1]) / len(own[1]) - sum(own[0]) / len(own[0])) >= 0.25:
                counts = (f"{sum(held)} of {len(held)} with {word}" for held, word in zip(own, words, strict=True))
                each.append(f"{name}: {', '.join(counts)}")
        listed = f" ({'; '.join(each)})" if each else ""
        parts.append(f"in {label} in {sum(first.values())} of {len(first)}{listed}")
    return f"{' and '.join(_BEST)} have the two lowest medians of {len(one.methods)} methods {'; '.join(parts)}."


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
