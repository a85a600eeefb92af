"""Which one setting comes nearest to the paper as a whole: all data sets of the audit together, by what each choice adds."""

from __future__ import annotations

__all__ = ["nearest", "whole"]

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit.design import PARTS, Point
from pyro_probmix.experiments.audit.effects import Audited, in_part, nearness, settings_in
from pyro_probmix.experiments.audit.markdown import table as in_markdown
from pyro_probmix.experiments.config.config import PAPER

#: The columns of :func:`nearest` that its last one is made of: shares, but for the correlation.
MEASURES = ("claims", "cells", "rank correlation")


def whole(found: Sequence[Audited], shown: int = 3) -> str:
    """The nearest settings, ours and ``--setting paper``, in Markdown; an empty text where too little has run."""
    table = nearest(found)
    if table.empty:
        return ""
    names = [name for name in table.columns if name not in (*MEASURES, "whole", "error")]
    ours, papers = (_row_of(table[names], point) for point in ({}, _of_paper()))
    words = _words(found)
    lines = []
    for k in dict.fromkeys([*table.index[:shown], ours, papers]):
        row = table.loc[k]
        who = {ours: "ours: ", papers: "--setting paper: "}.get(k, "")
        changed = ", ".join(f"{name} {words[name]}" for name in names if row[name]) or "all as ours"
        place = int((table["whole"] > row["whole"]).sum()) + 1
        measures = (f"{row['claims']:.0%}", f"{row['cells']:.0%}", f"{row['rank correlation']:.2f}")
        lines.append((f"{who}{changed}", place, *measures, f"{row['whole']:.3f} ± {row['error']:.3f}"))
    sets = ", ".join(one.name for one in _counted(found))
    head = ("setting", "place", "claims in part", "cells", "rank correlation", "as a whole")
    return f"Of {len(table)} settings, by what each choice adds on {sets}:\n\n{in_markdown(head, lines)}\n"


def nearest(found: Sequence[Audited]) -> pd.DataFrame:
    """How near each setting of all choices is to the paper, nearest first.

    Of a toy it is the share of the comparisons in the paper's claims that hold, of a UCI set the mean of two shares: of the
    cells of Tables 1 and 3 within the paper's standard deviation of its mean, and (1 + r) / 2, r the rank correlation of the
    methods. Each is fitted by a sum of effects of the choices, so that settings of which a fraction has run can be compared; a
    choice that a data set does not have adds nothing there. ``whole`` is the mean over the data sets, ``error`` its standard
    error by the residuals of the fits.

    Returns:
        a row for each setting: a column for each choice, whether it is at the other level than ours, then ``MEASURES``,
        ``whole`` and ``error``; no rows unless a toy and a UCI set have run.
    """
    counted = _counted(found)
    names = list(dict.fromkeys(name for one in counted for name, _, _ in one.choices))
    # Our level first, so that the first of equally near settings is the one with fewest changes.
    points = pd.DataFrame(list(product((False, True), repeat=len(names))), columns=names)
    each: dict[str, list[np.ndarray]] = {measure: [] for measure in (*MEASURES, "whole", "variance")}
    for one in counted:
        own = _measured(one)
        for measure in own:
            each[str(measure)].append(_fitted(one, own[measure], points)[0])
        mean, variance = _fitted(one, _of_one(own), points)
        each["whole"].append(mean)
        each["variance"].append(variance)
    if not each["claims"] or not each["cells"]:
        return pd.DataFrame(columns=[*names, *MEASURES, "whole", "error"])
    means = {measure: np.mean(each[measure], axis=0) for measure in (*MEASURES, "whole")}
    error = np.sqrt(np.sum(each["variance"], axis=0)) / len(counted)
    return points.assign(**means, error=error).sort_values("whole", ascending=False, kind="stable")


def _counted(found: Sequence[Audited]) -> list[Audited]:
    """The data sets that count; the first part is a smaller design of one of them."""
    return [one for one in found if one.complete and one.name != "lead"]


def _measured(one: Audited) -> pd.DataFrame:
    """The measures that a data set has, [setting, measure]."""
    if one.part.config.experiment == "uci":
        near = nearness(one)
        return pd.DataFrame({"cells": near["cells"] / near["of"], "rank correlation": near["rank correlation"]}).astype(
            float
        )
    return in_part(one).mean().rename("claims").to_frame()


def _of_one(own: pd.DataFrame) -> pd.Series[float]:
    """How near a data set is at each setting."""
    return own["claims"] if "claims" in own else (own["cells"] + (1 + own["rank correlation"]) / 2) / 2


def _fitted(one: Audited, values: pd.Series[float], points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What a sum of effects says of each point, and its variance, from the values at the settings that have run."""
    names = [name for name, _, _ in one.choices]
    ran = pd.DataFrame([{name: one.points[k][name] for name in names} for k in settings_in(values.to_frame().T)])
    here, there = (np.column_stack([np.ones(len(at)), 2.0 * at[names].to_numpy(float) - 1]) for at in (ran, points))
    effects, *_ = np.linalg.lstsq(here, values.to_numpy(float))
    left = values.to_numpy(float) - here @ effects
    spread = left @ left / max(1, len(here) - here.shape[1])
    return there @ effects, spread * np.einsum("ij,jk,ik->i", there, np.linalg.inv(here.T @ here), there)


def _of_paper() -> Point:
    """The choices at the other level under ``--setting paper``."""
    factors = (factor for part in PARTS.values() for factor in part.factors)
    return {factor.name: True for factor in factors if factor.changes.items() <= PAPER.items()}


def _row_of(points: pd.DataFrame, point: Point) -> int:
    wanted = [point.get(str(name), False) for name in points.columns]
    return int(points.index[(points.to_numpy(bool) == wanted).all(axis=1)][0])


def _words(found: Sequence[Audited]) -> dict[str, str]:
    """The other level of each choice; of one that differs between data sets, each."""
    others: dict[str, dict[str, None]] = {}
    for one in _counted(found):
        for name, _, other in one.choices:
            others.setdefault(name, {})[other] = None
    return {name: " or ".join(words) for name, words in others.items()}
