"""Draws ProbMix in one picture, docs/picture.png.

python docs/picture.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import torch
from matplotlib.axes import Axes

from pyro_probmix import linear_pool, log_linear_pool

INK, BLUE, ORANGE, GREEN, PURPLE = "#333333", "#0072B2", "#C75000", "#00805E", "#7B3294"
INPUTS, WEIGHT = (1.2, 4.3), 0.5
BOTTOM, TOP = -1.0, 6.7
y = torch.linspace(BOTTOM, TOP, 800)


def density(x: Any) -> dist.Normal:
    """A model that has learnt a hump: p(y|x), a Gaussian whose mean and scale depend on x."""
    x = torch.as_tensor(x, dtype=torch.float32)
    return dist.Normal(0.2 + 0.72 * x + 2.9 * torch.exp(-((x - 2.75) ** 2) / 0.5), 0.3 + 0.06 * x)


def draw(path: Path) -> None:
    plt.rcParams.update({"font.size": 14, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK})
    figure, (rows, mixed, fused) = plt.subplots(
        1, 3, figsize=(12, 5.6), sharey=True, width_ratios=(1.9, 1.15, 1.15), layout="constrained"
    )
    (first, second), between = INPUTS, WEIGHT * INPUTS[0] + (1 - WEIGHT) * INPUTS[1]
    p, q = density(first), density(second)
    labels = (float(p.mean) + 0.25, float(q.mean) - 0.15)
    label = WEIGHT * labels[0] + (1 - WEIGHT) * labels[1]

    _draw_model(rows)
    for x, value, color, name in (
        (first, labels[0], BLUE, "$x_i$"),
        (second, labels[1], ORANGE, "$x_j$"),
        (between, label, GREEN, r"$\tilde{x}$"),
    ):
        _draw_row(rows, x, value, color, name)
    rows.plot(INPUTS, labels, color=INK, linestyle=":", linewidth=1.5, zorder=2)
    rows.annotate(r"$\tilde{y}$", (between, label), (-26, 8), textcoords="offset points", color=GREEN, fontsize=19)
    rows.set_title("A model gives every input $x$\na density $p(y \\mid x)$ of the response", fontsize=15)

    _draw_density(mixed, density(between), GREEN)
    mixed.set_title("Mixup: $\\tilde{y}$ under the density\nof the mixed input", fontsize=15)
    mixed.set_xlabel(r"$\tilde{x} = \lambda x_i + (1 - \lambda)\, x_j$", fontsize=16, labelpad=12)
    _write(mixed, 0.62, 6.05, GREEN, r"$p(y \mid \tilde{x})$")

    _draw_density(fused, p, BLUE, fill=False, width=1.5)
    _draw_density(fused, q, ORANGE, fill=False, width=1.5)
    _draw_density(fused, log_linear_pool(p, q, WEIGHT), PURPLE)
    _draw_density(fused, linear_pool(p, q, WEIGHT), PURPLE, fill=False, style=(0, (4, 2)))
    fused.set_title("ProbMix: $\\tilde{y}$ under the densities\nof the two inputs, fused", fontsize=15)
    fused.set_xlabel(r"$\propto\; p(y \mid x_i)^{\lambda}\; p(y \mid x_j)^{1 - \lambda}$", fontsize=16, labelpad=12)
    _write(fused, 0.66, 0.25, BLUE, r"$p(y \mid x_i)$")
    _write(fused, 0.77, 3.72, ORANGE, r"$p(y \mid x_j)$")
    _write(fused, 1.05, 1.72, PURPLE, "log-linear\npool")
    _write(fused, 0.22, 4.75, PURPLE, "linear pool")
    fused.plot([0.36, 0.27], [4.55, 3.95], color=PURPLE, linewidth=1)
    for axes in (mixed, fused):
        axes.axhline(label, color=INK, linestyle=":", linewidth=1.5)
        axes.set(xlim=(0, 1.6), xticks=[])
        axes.spines["bottom"].set_visible(False)
    _write(mixed, 0.04, label - 0.4, INK, r"the mixed label $\tilde{y}$")
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def _draw_model(axes: Axes) -> None:
    """Training rows, and the mean that the model has learnt of them."""
    generator = torch.Generator().manual_seed(3)
    x = 5.4 * torch.rand(110, generator=generator)
    seen = density(x)
    axes.scatter(x, seen.mean + seen.scale * torch.randn(110, generator=generator), s=14, color="#C4C4C4", zorder=1)
    grid = np.linspace(0, 5.4, 300)
    axes.plot(grid, density(grid).mean, color=INK, linewidth=1.5)
    axes.set(xlim=(0, 5.4), ylim=(BOTTOM, TOP), xticks=[], yticks=[])
    axes.set_xlabel("input $x$", labelpad=12)
    axes.set_ylabel("response $y$")


def _draw_row(axes: Axes, x: float, value: float, color: str, name: str) -> None:
    """An input, its density turned on its side, and its label; the label of a mixed input is a star."""
    p = density(x)
    height = 0.3 * p.log_prob(y).exp()
    shown = height > 0.003
    axes.fill_betweenx(y[shown], x, x + height[shown], color=color, alpha=0.35, linewidth=0)
    axes.plot(x + height[shown], y[shown], color=color, linewidth=2)
    axes.plot([x, x], [BOTTOM, TOP], color=color, linewidth=1, linestyle=":", zorder=0)
    mixed = color == GREEN
    axes.plot([x], [value], marker="*" if mixed else "o", color=color, markersize=18 if mixed else 9, zorder=3)
    axes.annotate(name, (x, BOTTOM), (6, 6), textcoords="offset points", color=color, fontsize=19)


def _draw_density(axes: Axes, p: Any, color: str, *, fill: bool = True, style: Any = "-", width: float = 2.5) -> None:
    height = p.log_prob(y).exp()
    if fill:
        axes.fill_betweenx(y, 0, height, color=color, alpha=0.35, linewidth=0)
    axes.plot(height, y, color=color, linewidth=width, linestyle=style)


def _write(axes: Axes, x: float, height: float, color: str, text: str) -> None:
    axes.text(x, height, text, color=color, va="center", fontsize=15)


if __name__ == "__main__":
    draw(Path(__file__).with_name("picture.png"))
