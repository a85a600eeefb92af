"""The figures of a run: what the methods learnt on the toy data, their scores, their training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.problem import Problem
from pyro_probmix.experiments.results import RunFolder
from pyro_probmix.experiments.runner import FittedMethod
from pyro_probmix.inference import predict

__all__ = ["draw_figures"]

#: Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B6B6B"
CLASS_COLOURS = (BLUE, ORANGE, GREEN)


def draw_figures(config: Config, problem: Problem, fitted: dict[str, FittedMethod], folder: RunFolder) -> list[Path]:
    """Draws the figures of one data set into the run's folder, and returns their paths.

    Args:
        config: of the data set.
        problem: its data.
        fitted: the trained densities by method; those of a resumed run whose files are gone may be missing.
        folder: where the run's results are, and the figures go.
    """
    results = folder.results
    several = results["dataset"].nunique() > 1
    results = results[results["dataset"] == config.dataset]
    drawn: dict[str, Callable[[], Figure]] = {"scores": lambda: _scores(results, list(config.methods))}
    if fitted:
        drawn["training"] = lambda: _training(fitted)
    if config.experiment == "toy-regression" and fitted:
        drawn["bands"] = lambda: _panels(fitted, lambda ax, method: _band(ax, method, problem), "x", "y")
    if config.experiment == "toy-classification" and fitted:
        drawn["regions"] = lambda: _panels(fitted, lambda ax, method: _regions(ax, method, problem), "$x_1$", "$x_2$")
    prefix = f"{config.dataset}-" if several else ""
    return [folder.figure(prefix + name, _saved(make())) for name, make in drawn.items()]


def _saved(figure: Figure) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        FigureCanvasAgg(figure)  # becomes the figure's canvas, without a display
        figure.savefig(path, dpi=130, format="png")

    return save


def _panels(fitted: dict[str, FittedMethod], draw: Callable[[Axes, FittedMethod], None], x: str, y: str) -> Figure:
    """One panel for each method, three in a row, on shared axes."""
    rows = -(-len(fitted) // 3)
    figure = Figure(figsize=(11, 3.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, min(3, len(fitted)), sharex=True, sharey=True, squeeze=False)
    for ax, (name, method) in zip(axes.flat, fitted.items(), strict=False):
        draw(ax, method)
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
def _band(ax: Axes, method: FittedMethod, problem: Problem) -> None:
    """Mean and 95 % band of the first seed's predictive over [-6, 6], with its points and the true curve."""
    grid = np.linspace(-6, 6, 241)
    x = torch.as_tensor(problem.x_scaler.transform(grid[:, None]), dtype=torch.float32, device=problem.loc.device)
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(0)
        predictive = predict(method.density, x, num_samples=400, loc=problem.loc, scale=problem.scale)
        draws = predictive.sample((2000,))[:, 0, :, 0]
    low, high = np.quantile(draws.cpu().numpy(), [0.025, 0.975], axis=0)
    ax.axvspan(4, 6, color=GREY, alpha=0.1, lw=0)
    ax.fill_between(grid, low, high, color=BLUE, alpha=0.25, lw=0, label="95 % band")
    ax.plot(grid, predictive.mean[0, :, 0].cpu(), color=BLUE, lw=2, label="mean")
    ax.plot(grid, grid**3, color="black", lw=1, ls="--", label="$x^3$")
    for part, colour, label in ((problem.train, ORANGE, "training points"), (problem.test, VERMILION, "test points")):
        points_x = problem.x_scaler.mean[0] + problem.x_scaler.scale[0] * part.x[0].cpu().numpy()
        points_y = (problem.loc + problem.scale * part.y)[0].cpu().numpy()
        shown = slice(None, 100)  # as many test points as training ones
        ax.plot(points_x[shown, 0], points_y[shown, 0], ".", ms=4, color=colour, label=label)
    ax.set(xlim=(-6, 6), ylim=(-250, 250))


@torch.no_grad()
def _regions(ax: Axes, method: FittedMethod, problem: Problem) -> None:
    """Most probable class of the first seed's predictive, paler where less probable, with its training points."""
    ticks = np.linspace(-3.5, 3.5, 141)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    device = problem.loc.device
    scaled = torch.as_tensor(problem.x_scaler.transform(grid), dtype=torch.float32, device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        probabilities = (
            torch.cat([predict(method.density, part).probs[0] for part in scaled.split(2000, 1)]).cpu().numpy()
        )
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in CLASS_COLOURS])
    strength = np.clip((probabilities.max(-1, keepdims=True) - 1 / 3) * 1.5, 0.1, 1) * 0.6
    image = 1 - strength * (1 - rgb[probabilities.argmax(-1)])
    ax.imshow(image.reshape(len(ticks), len(ticks), 3), extent=(-3.5, 3.5, -3.5, 3.5), origin="lower")
    points = problem.x_scaler.mean[0] + problem.x_scaler.scale[0] * problem.train.x[0].cpu().numpy()
    for k, (name, colour) in enumerate(zip(problem.classes, CLASS_COLOURS, strict=True)):
        own = points[problem.train.y[0].cpu().numpy() == k]
        ax.plot(own[:, 0], own[:, 1], "o", ms=5, color=colour, mec="black", mew=0.6, label=name)
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


def _training(fitted: dict[str, FittedMethod]) -> Figure:
    """Validation NLL against the epoch, median over the splits and their middle half."""
    columns = 4
    rows = -(-len(fitted) // columns)
    figure = Figure(figsize=(12, 2.4 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    curves = {name: method.fit.validation_nll.numpy() for name, method in fitted.items()}
    everything = np.concatenate([c.ravel() for c in curves.values()])
    finite = everything[np.isfinite(everything)]
    for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        low, middle, high = np.nanquantile(np.where(np.isfinite(curve), curve, np.nan), [0.25, 0.5, 0.75], axis=1)
        epochs = np.arange(1, len(curve) + 1)
        ax.fill_between(epochs, low, high, color=BLUE, alpha=0.25, lw=0)
        ax.plot(epochs, middle, color=BLUE, lw=1)
        ax.set_title(name, fontsize=10)
        ax.grid(alpha=0.3)
    _lowest(axes, len(fitted))
    if len(finite):
        low, high = finite.min(), np.quantile(finite, 0.98)  # the first epochs may lie far above
        margin = max(0.05 * (high - low), 0.05)
        axes[0, 0].set_ylim(low - margin, high + margin)
    figure.supxlabel("epoch")
    figure.supylabel("validation NLL (standardised target)")
    return figure
