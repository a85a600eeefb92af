"""Calibration figures: PIT histograms, coverage against nominal, reliability of classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_probmix.experiments.report.figures.panels import panels
from pyro_probmix.experiments.report.figures.style import BAND, family, style_of
from pyro_probmix.experiments.report.numbers.coverage import FloatArray, band, coverage, density
from pyro_probmix.experiments.report.numbers.tidy import in_order
from pyro_probmix.names import in_figure

__all__ = ["coverage_curves", "pit_histograms", "reliability_curves"]

BARS = 20


def pit_histograms(counts: dict[str, FloatArray]) -> Figure:
    """The PIT's density, a panel for each method, with the pointwise 95 % band of a calibrated density.

    Args:
        counts: method -> counts of the PIT's bins, [100].
    """
    methods = in_order(counts)
    figure, axes = panels(len(methods), height=1.8)
    tallest, usual = 1.0, 1.0
    for ax, name in zip(axes, methods, strict=True):
        heights = density(counts[name], BARS)
        low, high = (BARS * edge for edge in band(counts[name].sum(), 1 / BARS))
        ax.bar((np.arange(BARS) + 0.5) / BARS, heights, width=1 / BARS, color=style_of(name).colour, alpha=0.65, lw=0)
        ax.axhspan(float(low), float(high), color=BAND, alpha=0.35, lw=0)
        ax.axhline(1, color="black", lw=0.8)
        ax.set_title(in_figure(name), fontsize=10)
        tallest = max(tallest, float(heights.max()), float(high))
        usual = max(usual, float(np.quantile(heights, 0.9)), float(high))
    top = min(1.05 * tallest, max(3.0, 1.6 * usual))
    axes[0].set(xlim=(0, 1), ylim=(0, top), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    for ax, name in zip(axes, methods, strict=True):  # a bar that the limit cuts says how high it is
        for k, height in enumerate(density(counts[name], BARS)):
            if height > top:
                left = k < BARS / 2
                x, side = (k + 1.2, "left") if left else (k - 0.2, "right")
                ax.text(
                    x / BARS,
                    0.98 * top,
                    f"◂ {height:.1f}" if left else f"{height:.1f} ▸",
                    va="top",
                    ha=side,
                    fontsize=8,
                )
    figure.supxlabel("PIT of the test rows", fontsize=10)
    figure.supylabel("density", fontsize=10)
    return figure


def coverage_curves(counts: dict[str, FloatArray]) -> Figure:
    """Coverage minus nominal against nominal, a panel for each family of methods, ERM in all of them.

    Args:
        counts: method -> counts of the PIT's bins, [100].
    """
    groups = _groups(list(counts))
    figure, axes = panels(len(groups), columns=3, height=2.6)
    for ax, group in zip(axes, groups, strict=True):
        count = min(counts[name].sum() for name in group)
        levels = np.linspace(0, 1, 101)
        low, high = band(count, levels)
        ax.fill_between(levels, low - levels, high - levels, color=BAND, alpha=0.25, lw=0)
        ax.axhline(0, color="black", lw=0.8)
        for name in group:
            nominal, inside = coverage(counts[name])
            _line(ax, name, group, np.concatenate([[0], nominal, [1]]), np.concatenate([[0], inside - nominal, [0]]))
        _names_above(ax)
    axes[0].set(xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    figure.supxlabel("nominal level of the central interval", fontsize=10)
    figure.supylabel("coverage - nominal", fontsize=10)
    return figure


def reliability_curves(table: pd.DataFrame) -> Figure:
    """Accuracy against mean confidence, bin by bin, a panel for each family of methods, ERM in all of them.

    Args:
        table: columns method, bin, count, accuracy, confidence.
    """
    groups = _groups(list(dict.fromkeys(table["method"])))
    figure, axes = panels(len(groups), columns=3, height=2.6)
    for ax, group in zip(axes, groups, strict=True):
        ax.plot([0, 1], [0, 1], color="black", lw=0.8)
        for name in group:
            own = table[table["method"] == name].sort_values("bin")
            _line(ax, name, group, own["confidence"].to_numpy(), own["accuracy"].to_numpy(), marker="o")
        _names_above(ax)
    lowest = float(np.floor(10 * table["confidence"].min()) / 10)
    axes[0].set(xlim=(lowest - 0.02, 1.02), ylim=(-0.02, 1.02))
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def _groups(methods: list[str]) -> list[list[str]]:
    """The methods by family, ERM first in each; further ones at most four to a panel."""
    ordered = in_order(methods)
    reference = [name for name in ordered if name == "ERM"]
    groups: dict[str, list[str]] = {}
    for name in ordered:
        groups.setdefault(family(name), []).append(name)
    parts = [names[k : k + 4] for names in groups.values() for k in range(0, len(names), 4)]
    parts = [part for part in parts if part != ["ERM"]] or parts
    return [part if "ERM" in part else reference + part for part in parts]


def _names_above(ax: Axes) -> None:
    """The legend in place of a title, where it hides no line."""
    ax.grid(alpha=0.3)
    names = ax.get_legend_handles_labels()[1]
    legend = ax.legend(
        fontsize=8.5,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.03, 0.99),
        ncols=3 if len(names) <= 3 else 2,
        borderaxespad=0,
        columnspacing=1.2,
        labelspacing=0.3,
    )
    legend.set_in_layout(False)  # long names would narrow the panels
    ax.set_title("\n" * (0 if len(names) <= 3 else (len(names) - 1) // 2) + " ", fontsize=10)  # room for it


def _line(ax: Axes, name: str, group: list[str], x: FloatArray, y: FloatArray, marker: str = "") -> None:
    style = style_of(name, place=group.index(name))
    ax.plot(
        x,
        y,
        color=style.colour,
        ls=style.line,
        lw=1.6,
        marker=marker,
        ms=4,
        mfc="white" if style.hatched else None,
        label=in_figure(name),
    )
