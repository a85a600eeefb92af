"""A grid of small panels on shared axes, one for each method."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["panels"]


def panels(count: int, columns: int = 4, height: float = 2.0) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, at most so many in a row, and their axes; the lowest of each column has its ticks."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(11, height * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[count:]:
        ax.axis("off")
    for column in range(columns):
        axes[(count - 1 - column) // columns, column].tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])
