"""Trainings that diverged, and so have no NLL: how many, of which methods, at which scale and epoch."""

from __future__ import annotations

__all__ = ["counted", "diverged", "in_short"]

from itertools import product

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit.design import canonical
from pyro_probmix.experiments.audit.effects import LAST, Audited
from pyro_probmix.experiments.audit.markdown import escaped, table

#: The choices by which they are told: the map without bounds from an output to a scale, and how long one trains.
_CHOICES = ("scale", LAST)


def diverged(one: Audited) -> pd.DataFrame:
    """Whether each training diverged, once for each epoch that it is scored at, whatever the number of settings it stands for.

    Returns:
        columns method, folder, split, scale, best epoch, both in words, and diverged.
    """
    words = {name: levels for name, *levels in one.choices}
    frames = []
    for point, scores in zip(one.points, one.scores, strict=True):
        nll = scores[scores["metric"] == "nll"]
        folders = {method: canonical(one.part, point, method)[0] for method in one.methods}
        levels = {name: words[name][point[name]] for name in _CHOICES}
        frames.append(
            nll.assign(folder=nll["method"].map(folders), diverged=~np.isfinite(nll["value"].to_numpy()), **levels)
        )
    return pd.concat(frames)[["method", "folder", "split", *_CHOICES, "diverged"]].drop_duplicates()


def counted(one: Audited) -> str:
    """How many trainings diverged, of each method that had any, at each scale and epoch."""
    found = diverged(one)
    lost = set(found[found["diverged"]]["method"])
    if not lost:
        return "No training diverged."
    groups = found.groupby(["method", *_CHOICES])["diverged"]
    cells = {key: f"{own.sum()} of {len(own)}" for key, own in groups}
    columns = list(product(*(levels for name, *levels in one.choices if name in _CHOICES)))
    lines = [
        [escaped(method), *(cells[method, *column] for column in columns)] for method in one.methods if method in lost
    ]
    return (
        "Trainings that diverged, so that they have no NLL, by scale and epoch. In all that is told here they count as the "
        "worst. Of the other methods none did:\n\n"
        + table(["diverged", *("; ".join(column) for column in columns)], lines)
    )


def in_short(one: Audited) -> str:
    """The same in a sentence, empty if none diverged."""
    found = diverged(one)
    lost = found[found["diverged"]]
    if lost.empty:
        return ""
    each = found.groupby(["method", "folder", "split"])["diverged"].any()
    by_method = each.groupby("method").sum()
    listed = ", ".join(f"{escaped(name)} {by_method[name]}" for name in one.methods if by_method[name])
    shared = [f"{name}: {lost[name].iloc[0]}" for name in _CHOICES if lost[name].nunique() == 1]
    where = f", always with {' and '.join(shared)}" if shared else ""
    return f"{int(each.sum())} of {len(each)} trainings{where} ({listed})"
