"""Box plots of an ablation's cell: all methods, a panel for each metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from pyro_probmix.experiments.report.figures.style import style_of
from pyro_probmix.experiments.report.pages.page import number
from pyro_probmix.names import in_figure

__all__ = ["box_plots", "robust_limits"]


def box_plots(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Boxes of the scores over the runs, methods below each other.

    Args:
        panels: an axis' label -> scores, [split, method].
    """
    methods = list(dict.fromkeys(name for frame in panels.values() for name in frame.columns))
    figure = Figure(figsize=(11, 0.9 + 0.31 * len(methods)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (label, frame) in zip(axes, panels.items(), strict=True):
        _panel(ax, frame.reindex(columns=methods))
        ax.set_xlabel(label)
    axes[0].invert_yaxis()
    return figure


def robust_limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Limits that show the bulk: the range of the values within three interquartile ranges of the middle half.

    Args:
        values: all of a panel's numbers; those that are not finite do not count.

    Example:
        >>> robust_limits(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 500.0]))  # 0 to 4, and a margin
        (-0.2, 4.2)
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    first, third = np.quantile(finite, [0.25, 0.75])
    reach = 3 * (third - first)
    near = finite[(finite >= first - reach) & (finite <= third + reach)]
    low, high = near.min(), near.max()
    margin = 0.05 * (high - low) or 0.05 * (abs(high) or 1.0)
    return float(low - margin), float(high + margin)


def _panel(ax: Axes, frame: pd.DataFrame) -> None:
    values = [frame[name].to_numpy(dtype=float) for name in frame.columns]
    finite = [v[np.isfinite(v)] for v in values]
    low, high = robust_limits(np.concatenate(finite) if finite else np.empty(0))
    boxes: dict[str, Any] = ax.boxplot(
        finite, orientation="horizontal", patch_artist=True, widths=0.62, flierprops={"marker": ".", "markersize": 5}
    )
    for box, name in zip(boxes["boxes"], frame.columns, strict=True):
        style = style_of(name)
        pale = tuple(0.68 + 0.32 * int(style.colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        box.set(facecolor=pale, edgecolor=style.colour, hatch="////" if style.hatched else "")
    for median in boxes["medians"]:
        median.set(color="black", lw=1.8)
    ax.set_xlim(low, high)
    ax.set_yticks(range(1, len(values) + 1), [in_figure(name) for name in frame.columns])
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    beside = blended_transform_factory(ax.transAxes, ax.transData)
    for place, scores in enumerate(finite, start=1):
        note = _outside(scores, low, high)
        ax.text(1.01, place, note, transform=beside, va="center", fontsize=8)


def _outside(values: npt.NDArray[np.float64], low: float, high: float) -> str:
    """How many values are outside of the axis, and how far, for the margin."""
    below, above = values[values < low], values[values > high]
    if len(values) and max(len(below), len(above)) == len(values):
        return f"{'▸' if len(above) else '◂'} all, median {number(float(np.median(values)))}"
    notes = []
    if len(above):
        notes.append(f"▸ {len(above)}, to {number(above.max())}")
    if len(below):
        notes.append(f"◂ {len(below)}, to {number(below.min())}")
    return "\n".join(notes)
