"""The audit's figures: claims by setting, and methods by the choices that move them most."""

from __future__ import annotations

__all__ = ["draw"]

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from pyro_probmix.experiments.audit.effects import Audited, holding, medians, moved, settings_in
from pyro_probmix.experiments.report.figures.style import png, style_of
from pyro_probmix.unfinished import Save

#: Does not hold, holds.
_COLOURS = ListedColormap(["#F0E3D6", "#0072B2"])
#: So many settings can be told apart beside each other.
_COLUMNS = 64


def draw(found: Sequence[Audited]) -> dict[str, Save]:
    """The figures of an audit, by name."""
    figures: dict[str, Figure] = {}
    for one in found:
        if one.complete and len(held := holding(one)):
            figures[f"claims-{one.name}"] = (_claims if held.shape[1] <= _COLUMNS else _effects)(one, held)
        if one.complete and one.name == "lead":
            figures["lead"] = _lead(one, medians(one, "nll"))
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


def _effects(one: Audited, held: pd.DataFrame) -> Figure:
    """How often each claim holds, and how far each choice moves that, most often true first."""
    share = held.mean(axis=1).sort_values(ascending=False, kind="stable")
    means = moved(one, held.loc[share.index])
    gaps = np.stack([(means[name, other] - means[name, ours]).to_numpy() for name, ours, other in one.choices], axis=1)
    figure = Figure(figsize=(9, 0.3 * len(share) + 1.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, len(one.choices)])
    left.imshow(share.to_numpy()[:, None], cmap="Blues", aspect="auto", vmin=0, vmax=1.4)
    right.imshow(gaps, cmap="PuOr", aspect="auto", vmin=-1, vmax=1)
    for ax, numbers, form in ((left, share.to_numpy()[:, None], "{:.0%}"), (right, gaps, "{:+.0%}")):
        for (i, j), number in np.ndenumerate(numbers):
            ax.text(j, i, form.format(round(number, 2) + 0.0), ha="center", va="center", fontsize=8)
        ax.tick_params(length=0)
        ax.xaxis.tick_top()
    left.set_yticks(range(len(share)), [str(name) for name in share.index])
    left.set_xticks([0], ["all"])
    right.set_xticks(
        range(len(one.choices)),
        [f"{name}:\n{other}" for name, _, other in one.choices],
        rotation=45,
        ha="left",
        fontsize=8,
    )
    figure.suptitle(
        f"In what share of {held.shape[1]} settings a claim holds, and what the other level than ours adds to it",
        fontsize=10,
    )
    return figure


def _lead(one: Audited, found: pd.DataFrame) -> Figure:
    """Median NLL of each method at the settings of the first part, with the middle half of the runs.

    A method whose middle half ends in runs that diverged has an arrow at the end of the axis.
    """
    kept = [k for k in settings_in(found) if not one.points[k]["best epoch"]]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(kept), sharex=True, sharey=True, squeeze=False)[0]
    for ax, k in zip(axes, kept, strict=True):
        scores = one.scores[k]
        nll = scores[scores["metric"] == "nll"]
        for place, method in enumerate(found.index):
            middle_half = nll[nll["method"] == method]["value"].quantile([0.25, 0.5, 0.75], interpolation="nearest")
            there = middle_half[np.isfinite(middle_half)]
            colour = style_of(str(method)).colour
            ax.plot(there, [place] * len(there), color=colour, linewidth=2.5, alpha=0.45)
            ax.plot(there[there.index == 0.5], [place] * (0.5 in there.index), "o", color=colour, markersize=6)
            if len(there) < len(middle_half):
                ax.plot([1], [place], ">", color=colour, transform=ax.get_yaxis_transform(), clip_on=False)
        ax.set_xscale("log")
        ax.set_yticks(range(len(found.index)), [str(name) for name in found.index])
        ax.set_title(
            "\n".join(other if one.points[k][name] else ours for name, ours, other in one.choices[:-1]), fontsize=9
        )
        ax.set_xlabel("NLL")
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    return figure
