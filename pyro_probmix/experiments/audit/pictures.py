"""The audit's figures: claims by setting, and methods by the choices that move them most."""

from __future__ import annotations

__all__ = ["draw"]

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from pyro_probmix.experiments.audit.effects import Audited, audited, holding, medians, settings_in
from pyro_probmix.experiments.report.figures.style import png, style_of
from pyro_probmix.unfinished import Save

#: Does not hold, holds.
_COLOURS = ListedColormap(["#F0E3D6", "#0072B2"])


def draw(gathered: pd.DataFrame, *, full: bool = False) -> dict[str, Save]:
    """The figures of gathered numbers, by name."""
    figures: dict[str, Figure] = {}
    for name in ("lead", "toy-regression", "toy-classification"):
        one = audited(gathered, name, full=full)
        if one is not None and one.complete and len(held := holding(one)):
            figures[f"claims-{name}"] = _claims(one, held)
    lead = audited(gathered, "lead")
    if lead is not None and len(found := medians(lead, "nll")):
        figures["lead"] = _lead(lead, found)
    return {name: partial(_write, png(figure, dpi=130)) for name, figure in figures.items()}


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _claims(one: Audited, held: pd.DataFrame) -> Figure:
    """Which claims hold at which setting: the levels of the choices above, the claims below, most often true first."""
    held = held.loc[held.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    order = settings_in(held[held.sum().sort_values(ascending=False, kind="stable").index])
    levels = np.array([[float(one.points[k][name]) for k in order] for name, _, _ in one.choices])
    figure = Figure(figsize=(9, 0.27 * (len(levels) + len(held)) + 1.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[len(levels), len(held)])
    above.imshow(levels, cmap=ListedColormap(["#FFFFFF", "#6B6B6B"]), aspect="auto", vmin=0, vmax=1)
    above.set_yticks(range(len(levels)), [f"{name}: {other}" for name, _, other in one.choices])
    figure.suptitle(f"{len(order)} settings, grey: the other level than ours; below, blue: the claim holds there")
    below.imshow(held[order].to_numpy(float), cmap=_COLOURS, aspect="auto", vmin=0, vmax=1)
    below.set_yticks(range(len(held)), [str(name) for name in held.index])
    below.set_xlabel("setting, those in which most claims hold first")
    below.set_xticks([])
    for ax, rows in ((above, len(levels)), (below, len(held))):
        ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        ax.set_xticks(np.arange(len(order) + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.2)
        ax.tick_params(which="minor", length=0)
    return figure


def _lead(one: Audited, found: pd.DataFrame) -> Figure:
    """Median NLL of each method at the settings of the first part, with the middle half of the runs."""
    kept = [k for k in settings_in(found) if not one.points[k]["best epoch"]]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(kept), sharex=True, sharey=True, squeeze=False)[0]
    for ax, k in zip(axes, kept, strict=True):
        scores = one.scores[k]
        nll = scores[scores["metric"] == "nll"]
        for place, method in enumerate(found.index):
            low, middle, high = nll[nll["method"] == method]["value"].quantile(
                [0.25, 0.5, 0.75], interpolation="nearest"
            )
            colour = style_of(str(method)).colour
            ax.plot([low, high], [place, place], color=colour, linewidth=2.5, alpha=0.45)
            ax.plot([middle], [place], "o", color=colour, markersize=6)
        ax.set_xscale("log")
        ax.set_yticks(range(len(found.index)), [str(name) for name in found.index])
        ax.set_title(
            "\n".join(other if one.points[k][name] else ours for name, ours, other in one.choices[:-1]), fontsize=9
        )
        ax.set_xlabel("NLL")
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    return figure
