"""Training curves: validation NLL and training loss of each method over the epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pyro_probmix.experiments.report.figures.panels import panels
from pyro_probmix.experiments.report.figures.style import BAND, style_of
from pyro_probmix.experiments.report.numbers.tidy import in_order
from pyro_probmix.names import in_figure

__all__ = ["training_curves"]


def training_curves(curves: pd.DataFrame) -> Figure:
    """A panel for each method: validation NLL, median over the splits and their middle half, and the training loss.

    Args:
        curves: columns method, split, epoch, train_loss, validation_nll, of one data set, network and setting.
    """
    methods = in_order(curves["method"])
    figure, axes = panels(len(methods))
    spread = []
    for place, (ax, name) in enumerate(zip(axes, methods, strict=True)):
        of_method = curves[curves["method"] == name].replace([np.inf, -np.inf], np.nan).groupby("epoch")
        low, middle, high = (of_method["validation_nll"].quantile(q) for q in (0.25, 0.5, 0.75))
        colour = style_of(name).colour
        ax.fill_between(middle.index, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(middle, color=colour, lw=1.4, label="validation NLL: median, middle half of the splits")
        ax.plot(of_method["train_loss"].median(), color=BAND, lw=1, ls="--", label="training loss: median")
        ax.set_title(in_figure(name), fontsize=10)
        ax.grid(alpha=0.3)
        spread.append(np.concatenate([low, high]))
        if place == 0:
            handles, labels = ax.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=10)
    finite = np.concatenate(spread)
    finite = finite[np.isfinite(finite)]
    if len(finite):
        low_end, high_end = finite.min(), np.quantile(finite, 0.98)  # the first epochs may lie far above
        margin = max(0.06 * (high_end - low_end), 0.05)
        axes[0].set_ylim(low_end - margin, high_end + margin)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("nats a row", fontsize=10)
    return figure
