"""The timings as one picture: time, memory and use of the core against each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.report import AXES, Row, along

__all__ = ["draw"]

# Colours that colour-blind readers can tell apart (Okabe and Ito), and markers besides.
STYLES = {
    "torch-loop": ("#999999", "s", 1.2),
    "torch-batched": ("#56B4E9", "^", 1.2),
    "torch-vmap": ("#CC79A7", "v", 1.2),
    "numpyro": ("#E69F00", "D", 1.2),
    "ours-eager": ("#009E73", "o", 1.2),
    "ours-compiled": ("#D55E00", "o", 2.4),
    "ours-captured": ("#D55E00", "o", 2.4),
}
NAMES = {"R": "R, models", "B": "B, rows of a minibatch", "K": "K, weights drawn a row", "S": "S, embeddings a weight"}


def draw(rows: Sequence[Row], peak_gflops: float, path: Path) -> None:
    """Draws rows of results.

    Args:
        rows: of all engines on one kind of device.
        peak_gflops: what a matrix product of the core or device reaches, in 10^9 operations a second.
        path: of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    quantities: list[tuple[str, Callable[[Row], float | None]]] = [
        ("ms a step", lambda row: row["ms_per_step"]),
        ("ms a model and step", lambda row: row["ms_per_step"] / row["R"]),
        ("peak memory, MiB", lambda row: row["peak_mib"]),
        ("share of the matrix-product peak", lambda row: _case(row).flops / 1e6 / row["ms_per_step"] / peak_gflops),
    ]
    figure = Figure(figsize=(13, 12), layout="constrained")
    panels: Any = figure.subplots(len(quantities), len(AXES), sharex="col", sharey="row")
    for column, axis in enumerate(AXES):
        engines = along(rows, axis)
        for line, (label, quantity) in enumerate(quantities):
            panel = panels[line, column]
            for engine, (colour, marker, width) in STYLES.items():
                points = [(row[axis], value) for row in engines.get(engine, []) if (value := quantity(row)) is not None]
                if points:
                    panel.plot(*zip(*points, strict=True), color=colour, marker=marker, lw=width, ms=4, label=engine)
            panel.set(xscale="log", yscale="log")
            panel.grid(True, which="major", alpha=0.3)
            if column == 0:
                panel.set_ylabel(label)
            if line == len(quantities) - 1:
                panel.set_xlabel(NAMES[axis])
                sizes = sorted({row[axis] for own in engines.values() for row in own})
                panel.set_xticks(sizes, [str(size) for size in sizes], rotation=45 if len(sizes) > 5 else 0)
                panel.xaxis.set_minor_formatter(NullFormatter())
            panel.minorticks_off()
            marks = (1, 2, 5) if line == len(quantities) - 1 else (1,)  # a share spans two decades at most
            panel.yaxis.set_major_locator(LogLocator(10, subs=marks, numticks=12))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    where = "one core" if rows[0]["device"] == "cpu" else "a CUDA device"
    title = f"A step of M-ProbMix on {where}, MLP 8-128-32; what is not varied is R = 20, B = 32, K = S = 1"
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)


def _case(row: Row) -> Case:
    return Case(row["method"], row["R"], row["B"], row["B"], row["K"], row["S"])
