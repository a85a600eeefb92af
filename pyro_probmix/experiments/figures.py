"""The figures of a run: predictions on the toy data, scores, training curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from pyro_probmix.experiments.data.problem import Problem
from pyro_probmix.experiments.run.jobs import Job, job_density
from pyro_probmix.experiments.run.results import RunFolder
from pyro_probmix.experiments.run.runner import method_density, select_replicas
from pyro_probmix.inference import PredictiveMixture, predict
from pyro_probmix.models import ConditionalDensity
from pyro_probmix.random_state import own_random_state
from pyro_probmix.unfinished import Save

__all__ = ["draw_figures"]

#: Okabe and Ito's colours, distinguishable with any colour vision.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B6B6B"
CLASS_COLOURS = (BLUE, ORANGE, GREEN)


def draw_figures(jobs: Sequence[Job], folder: RunFolder) -> list[Path]:
    """Draws the figures of a run into its folder, and returns their paths.

    Args:
        jobs: all of the run.
        folder: with their results; the figures are written there.
    """
    config = jobs[0].config
    results, curves = folder.results, folder.table("curves")
    drawn: dict[str, Save] = {}
    parts = list(results.groupby(["dataset", "network"], sort=False))
    for (dataset, network), part in parts:
        of_part = curves[(curves["dataset"] == dataset) & (curves["network"] == network)]
        prefix = f"{dataset}-{network}-" if len(parts) > 1 else ""
        for setting, numbers in part.groupby("setting", sort=False):
            name = prefix + ("" if setting in ("fixed", "paper", "chosen") else f"{setting} ".replace(" ", "-"))
            methods = list(numbers["method"].unique())
            drawn[f"{name}scores"] = _saved(_scores(numbers, methods))
        if config.setting != "grid":
            drawn[f"{prefix}training"] = _saved(_training(of_part))
    learnt = {
        "toy-regression": ("bands", _band, "x", "y"),
        "toy-classification": ("regions", _regions, "$x_1$", "$x_2$"),
    }
    if config.experiment in learnt:
        name, draw, x, y = learnt[config.experiment]
        densities = _densities(jobs, folder)
        if densities:
            drawn[name] = _saved(_panels(densities, draw, x, y))
    return folder.draw(drawn)


def _densities(jobs: Sequence[Job], folder: RunFolder) -> dict[str, tuple[ConditionalDensity, Problem]]:
    """Each method's density on its first split, one replica for each member of an ensemble, and that split's data.

    A method is left out if its file of weights is gone or its first split diverged.
    """
    densities: dict[str, tuple[ConditionalDensity, Problem]] = {}
    for job in jobs:
        weights = folder.weights(job)
        if weights is not None and job.config.methods[0] not in densities:
            density, members = job_density(job), job.method.members
            density.load_state_dict(weights)
            empty = method_density(job.method, job.config, job.problem, members)
            first = select_replicas(density, empty, range(members))
            if all(bool(tensor.isfinite().all()) for tensor in first.state_dict().values()):
                densities[job.config.methods[0]] = first, job.problem.replicas([0])
    return densities


def _predictive(density: ConditionalDensity, x: Tensor, **prediction: Any) -> PredictiveMixture:
    """The mixture over the members, at rows [1, N, d]; batch shape [N]."""
    return predict(density, x.expand(density.replicas or 1, -1, -1), ensemble=True, **prediction)


def _saved(figure: Figure) -> Save:
    def save(path: Path) -> None:
        FigureCanvasAgg(figure)  # becomes the figure's canvas, without a display
        figure.savefig(path, dpi=130, format="png")

    return save


def _panels(
    fitted: dict[str, tuple[ConditionalDensity, Problem]],
    draw: Callable[[Axes, ConditionalDensity, Problem], None],
    x: str,
    y: str,
) -> Figure:
    """One panel for each method, three in a row, on shared axes."""
    rows = -(-len(fitted) // 3)
    figure = Figure(figsize=(11, 3.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, min(3, len(fitted)), sharex=True, sharey=True, squeeze=False)
    for ax, (name, (density, problem)) in zip(axes.flat, fitted.items(), strict=False):
        draw(ax, density, problem)
        ax.set_title(name)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)
    for ax in _lowest(axes, len(fitted)):
        ax.set_xlabel(x)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _lowest(axes: np.ndarray, used: int) -> list[Axes]:
    """Takes away the panels past the used ones, and labels the ticks of the lowest that is left in each column."""
    for ax in axes.flat[used:]:
        ax.axis("off")
    columns = axes.shape[1]
    lowest = [axes[(used - 1 - column) // columns, column] for column in range(min(used, columns))]
    for ax in lowest:
        ax.tick_params(labelbottom=True)
    return lowest


@torch.no_grad()
def _band(ax: Axes, density: ConditionalDensity, problem: Problem) -> None:
    """Mean and 95 % band of the first seed's predictive over [-6, 6], with its points and the true curve."""
    grid = np.linspace(-6, 6, 241)
    x = torch.as_tensor(problem.x_scaler.transform(grid[:, None]), dtype=torch.float32, device=problem.loc.device)
    with own_random_state(x.device, 0):
        predictive = _predictive(density, x, num_samples=400, loc=problem.loc[0], scale=problem.scale[0])
        draws = predictive.sample((2000,))[..., 0]
    low, high = np.quantile(draws.cpu().numpy(), [0.025, 0.975], axis=0)
    ax.axvspan(4, 6, color=GREY, alpha=0.1, lw=0)
    ax.fill_between(grid, low, high, color=BLUE, alpha=0.25, lw=0, label="95 % band")
    ax.plot(grid, predictive.mean[:, 0].cpu(), color=BLUE, lw=2, label="mean")
    ax.plot(grid, grid**3, color="black", lw=1, ls="--", label="$x^3$")
    for part, colour, label in ((problem.train, ORANGE, "training points"), (problem.test, VERMILION, "test points")):
        points_x = problem.x_scaler.mean[0] + problem.x_scaler.scale[0] * part.x[0].cpu().numpy()
        points_y = (problem.loc + problem.scale * part.y)[0].cpu().numpy()
        shown = slice(None, 100)  # as many test points as training ones
        ax.plot(points_x[shown, 0], points_y[shown, 0], ".", ms=4, color=colour, label=label)
    ax.set(xlim=(-6, 6), ylim=(-250, 250))


@torch.no_grad()
def _regions(ax: Axes, density: ConditionalDensity, problem: Problem) -> None:
    """Most probable class of the first seed's predictive, paler where less probable, with its training points."""
    ticks = np.linspace(-3.5, 3.5, 141)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    device = problem.loc.device
    scaled = torch.as_tensor(problem.x_scaler.transform(grid), dtype=torch.float32, device=device)
    with own_random_state(device, 0):
        probabilities = torch.cat([_predictive(density, part).probs for part in scaled.split(2000, 1)]).cpu().numpy()
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in CLASS_COLOURS])
    strength = np.clip((probabilities.max(-1, keepdims=True) - 1 / 3) * 1.5, 0.1, 1) * 0.6
    image = 1 - strength * (1 - rgb[probabilities.argmax(-1)])
    ax.imshow(image.reshape(len(ticks), len(ticks), 3), extent=(-3.5, 3.5, -3.5, 3.5), origin="lower")
    points = problem.x_scaler.mean[0] + problem.x_scaler.scale[0] * problem.train.x[0].cpu().numpy()
    for k, (name, colour) in enumerate(zip(problem.classes, CLASS_COLOURS, strict=True)):
        of_class = points[problem.train.y[0].cpu().numpy() == k]
        ax.plot(of_class[:, 0], of_class[:, 1], "o", ms=5, color=colour, mec="black", mew=0.6, label=name)
    ax.set_aspect("equal")


def _scores(results: pd.DataFrame, methods: list[str]) -> Figure:
    """Box plots over the splits, a panel for each metric."""
    metrics = [name for name in ("nll", "rmse", "accuracy") if name in set(results["metric"])]
    labels = {"nll": "NLL (nats)", "rmse": "RMSE (units of the target)", "accuracy": "accuracy"}
    figure = Figure(figsize=(11, 1.2 + 0.42 * len(methods)), layout="constrained")
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        chosen = results[results["metric"] == metric]
        values = [chosen.loc[chosen["method"] == name, "value"].to_numpy() for name in methods]
        boxes: dict[str, Any] = ax.boxplot(
            [v[np.isfinite(v)] for v in values], orientation="horizontal", patch_artist=True, widths=0.6
        )
        for box, name in zip(boxes["boxes"], methods, strict=True):
            box.set_facecolor("#9CC9E3" if "ProbMix" in name else "#DDDDDD")
        for median in boxes["medians"]:
            median.set(color="black", lw=1.5)
        if metric != "accuracy":
            _log_if_wide(ax, np.concatenate(values))
        ax.set_yticks(range(1, len(methods) + 1), methods)
        ax.set_xlabel(labels[metric])
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    return figure


def _log_if_wide(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where one bad split would squeeze the others together."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.max() - np.median(finite) > 20 * (
        np.subtract(*np.quantile(finite, [0.75, 0.25])) + 1e-12
    ):
        ax.set_xscale("symlog", linthresh=max(1e-3, float(np.abs(np.median(finite)))))


def _training(curves: pd.DataFrame) -> Figure:
    """Validation NLL against the epoch, median over the splits and their middle half."""
    columns = 4
    methods = list(curves["method"].unique())
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(12, 2.4 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    finite = curves[np.isfinite(curves["validation_nll"])]
    for ax, name in zip(axes.flat, methods, strict=False):
        nll = finite[finite["method"] == name].groupby("epoch")["validation_nll"]
        low, middle, high = (nll.quantile(level) for level in (0.25, 0.5, 0.75))
        ax.fill_between(middle.index, low, high, color=BLUE, alpha=0.25, lw=0)
        ax.plot(middle.index, middle, color=BLUE, lw=1)
        ax.set_title(name, fontsize=10)
        ax.grid(alpha=0.3)
    _lowest(axes, len(methods))
    if len(finite):
        lowest, highest = (
            finite["validation_nll"].min(),
            finite["validation_nll"].quantile(0.98),
        )  # the first may lie far above
        margin = max(0.05 * (highest - lowest), 0.05)
        axes[0, 0].set_ylim(lowest - margin, highest + margin)
    figure.supxlabel("epoch")
    figure.supylabel("validation NLL (standardised target)")
    return figure
