"""Figures of the checks, drawn by the functions of the installed ArviZ, with the axes named and the bands explained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_probmix.calibration.arviz.data import arviz_version, to_arviz
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.scores.arrays import Floats
from pyro_probmix.calibration.scores.band import CalibrationCurve
from pyro_probmix.calibration.scores.classes import Reliability
from pyro_probmix.names import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "arviz_for_figures",
    "draw_isotonic",
    "draw_levels",
    "draw_predictive",
    "draw_reliability",
    "draw_shifts",
    "draw_statistic",
]

#: Okabe and Ito's colours, distinguishable with any colour vision.
BLUE, GREY, LIGHT = "#0072B2", "#6B6B6B", "#D9D9D9"

#: Data sets drawn from the predictive that a figure shows.
NUM_DRAWN = 50


def draw_predictive(predictions: Predictions) -> Figure:
    """The observations of one response beside data sets drawn from its predictive."""
    name = predictions.targets[0]
    if predictions.kind == "class":
        return _draw_classes(predictions)
    some = _one_chain(predictions, NUM_DRAWN)
    count, rootogram = some.draws.shape[1], arviz_version() == 1 and some.kind == "count"
    # A density needs values that differ, in the observations and in every data set drawn.
    smooth = some.kind == "continuous" and bool(np.ptp(some.y) and np.ptp(some.draws, axis=2).all())
    with arviz_for_figures() as arviz:
        data = to_arviz(some)
        if rootogram:
            axes = _axes(arviz.plot_ppc_rootogram(data, visuals={"predictive_markers": {"color": BLUE}}))
        elif arviz_version() == 1:
            kind, visuals = "kde" if smooth else "ecdf", {"predictive_dist": {"color": BLUE}}
            axes = _axes(arviz.plot_ppc_dist(data, kind=kind, num_samples=count, visuals=visuals))
        else:
            kind, colours = "kde" if smooth else "cumulative", [BLUE, "black", BLUE]
            axes = _axes(arviz.plot_ppc(data, kind=kind, mean=False, legend=False, colors=colours))
    _legend(axes, {f"{count} data sets drawn from the predictive": BLUE, "observed": "black"}, points=rootogram)
    y = None if smooth else "rows (square root scale)" if rootogram else "share of rows up to there"
    return _labelled(axes, "Observations beside data sets drawn from the predictive", name, y)


def _draw_classes(predictions: Predictions) -> Figure:
    """The rows of each class, observed and in data sets drawn; ArviZ 0.x and 1.x have no figure in common for it."""
    from matplotlib.figure import Figure

    classes = range(len(predictions.classes))
    observed = [(predictions.y == k).sum() for k in classes]
    drawn = np.stack([(predictions.draws == k).sum((2, 3)).ravel() for k in classes])
    axes = Figure().subplots()
    axes.vlines(classes, *np.quantile(drawn, [0.025, 0.975], axis=1), color=BLUE, alpha=0.4, linewidth=8)
    axes.plot(classes, drawn.mean(1), "o", color=BLUE)
    axes.plot(classes, observed, "o", color="black", markersize=4)
    axes.set_xticks(classes, [in_figure(name) for name in predictions.classes], rotation=30 if len(classes) > 6 else 0)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    _legend(axes, {"data sets drawn from the predictive, 95 % and mean": BLUE, "observed": "black"}, points=True)
    return _labelled(axes, "Observations beside data sets drawn from the predictive", predictions.targets[0], "rows")


def draw_levels(values: Floats, curve: CalibrationCurve, *, title: str, x: str, y: str) -> Figure:
    """The distribution function of values that calibration makes uniform, less the diagonal, in its simultaneous band."""
    from xarray import DataArray, Dataset, DataTree

    with arviz_for_figures() as arviz:
        if arviz_version() == 0:
            grid = np.concatenate([[0], curve.nominal, [1]])
            line = {"color": BLUE}
            axes = _axes(arviz.plot_ecdf(values, cdf=_identity, difference=True, eval_points=grid, plot_kwargs=line))
        else:
            data = DataTree.from_dict({"pit": Dataset({"pit": DataArray(values, dims="row")})})
            without: dict[str, Any] = {"p_value_text": False, "suspicious_points": False}
            visuals = without | {"ecdf_lines": {"color": BLUE}}
            axes = _axes(arviz.plot_ecdf_pit(data, group="pit", sample_dims=["row"], visuals=visuals))
    band = (curve.lower - curve.nominal, curve.upper - curve.nominal)
    axes.fill_between(curve.nominal, *band, color=LIGHT, linewidth=0, zorder=0)
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1)
    furthest = 1.25 * max(np.abs(band).max(), np.abs(curve.observed - curve.nominal).max())
    axes.set(xlim=(0, 1), ylim=(-furthest, furthest))
    _legend(axes, {"observed": BLUE, f"{100 * curve.probability:.0f} % of calibrated forecasts stay inside": LIGHT})
    return _labelled(axes, f"{title} (p-value of calibration {curve.p_value:.2g})", x, y)


def draw_statistic(predictions: Predictions, statistic: str, p_value: float) -> Figure:
    """A statistic of the data sets drawn from the predictive of one response, and of the observations.

    Args:
        predictions: of one response.
        statistic: ``"mean"``, ``"median"`` or ``"std"``.
        p_value: the Bayesian p-value that the title names.
    """
    from matplotlib.figure import Figure

    drawn = getattr(np, statistic)(predictions.pooled(0), axis=1)
    with arviz_for_figures() as arviz:
        data = to_arviz(_one_chain(predictions))
        if not np.ptp(drawn):  # it has no density
            axes = Figure().subplots()
            axes.axvline(drawn[0], color=BLUE, linewidth=4)
        elif arviz_version() == 0:
            axes = _axes(arviz.plot_bpv(data, kind="t_stat", t_stat=statistic, bpv=False, plot_mean=False, color=BLUE))
        else:
            visuals = {"dist": {"color": BLUE}, "observed_tstat": False}
            axes = _axes(arviz.plot_ppc_tstat(data, t_stat=statistic, visuals=visuals))
    observed = float(getattr(np, statistic)(predictions.y))
    axes.axvline(observed, color="black", linewidth=1.5)
    _legend(axes, {"data sets drawn from the predictive": BLUE, "observed": "black"})
    words = {"std": "standard deviation"}.get(statistic, statistic)
    title = f"{words.capitalize()} over the rows (Bayesian p-value {p_value:.2g})"
    return _labelled(axes, title, f"{words} of {predictions.targets[0]}", None)


def draw_reliability(curve: Reliability, *, title: str, x: str, y: str) -> Figure:
    """The reliability diagram: frequency of an event against its predicted probability, with consistency bars.

    ArviZ's lines have no figure in common for class probabilities, so that this one is drawn here.
    """
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.vlines(curve.predicted, curve.lower, curve.upper, color=LIGHT, linewidth=6)
    axes.plot(curve.predicted, curve.observed, color=BLUE, marker="o")
    for predicted, count in zip(curve.predicted, curve.counts, strict=True):
        axes.annotate(f"{count}", (predicted, -0.08), ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.12, 1.02))
    _legend(axes, {"observed, with the number of rows": BLUE, "95 % of calibrated forecasts, bin by bin": LIGHT})
    return _labelled(axes, title, x, y)


def draw_isotonic(predictions: Predictions) -> Figure:
    """How often the second of two classes is observed, as an increasing function of its probability; by arviz 1.x alone."""
    name = in_figure(predictions.classes[1])
    with arviz_for_figures() as arviz:
        data = to_arviz(predictions, target=predictions.targets[0])
        visuals = {"lines": {"color": BLUE}, "credible_interval": {"color": LIGHT, "alpha": 1}}
        axes = _axes(arviz.plot_ppc_pava(data, ci_prob=0.95, visuals=visuals))
    _legend(axes, {"observed": BLUE, "95 % of calibrated forecasts, point by point": LIGHT})
    x, y = f"probability of class {name}", "share of rows of it"
    return _labelled(axes, f"How often class {name} is observed, by isotonic regression", x, y)


def draw_shifts(shifts: Floats, rows: Sequence[Any], target: str) -> Figure:
    """How far leaving a row out moves its predictive mean, [N], in predictive standard deviations; the furthest are named."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.vlines(np.arange(len(shifts)), 0, shifts, color=BLUE, linewidth=1)
    for row in np.argsort(-shifts)[:3]:
        axes.annotate(in_figure(str(rows[row])), (row, shifts[row]), ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-1, len(shifts)), ylim=(0, 1.15 * max(shifts.max(), 1e-12)))
    title = f"How far leaving a row out moves its prediction of {target}"
    return _labelled(axes, title, "row, in the order given", "shift of the mean, in standard deviations")


@contextmanager
def arviz_for_figures() -> Iterator[Any]:
    """ArviZ without the warnings about its own use; leaves no window open and the random state as it was."""
    import arviz
    from matplotlib import pyplot

    before, random_state = set(pyplot.get_fignums()), np.random.get_state()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # arviz 0.23 beside matplotlib 3.11
            warnings.filterwarnings("ignore", "Passing a dict or None as alias_mapping")
            # arviz 1.x has other functions for whole numbers, and advises them; the choice is made here
            warnings.filterwarnings("ignore", r"(?s)Variables .* look (discrete|binary)")
            # its own intermediate results
            warnings.filterwarnings("ignore", "Found chain dimension to be longer than draw dimension")
            yield arviz
    finally:
        np.random.set_state(random_state)  # arviz 0.23 draws from the user's stream
        for number in set(pyplot.get_fignums()) - before:
            pyplot.close(number)


def _axes(drawn: Any) -> Axes:
    """The single axes of a figure that a function of ArviZ returned."""
    axes: Axes = np.ravel(drawn)[0] if arviz_version() == 0 else drawn.viz["figure"].item().axes[0]
    return axes


def _identity(values: Floats) -> Floats:
    return values


def _one_chain(predictions: Predictions, at_most: int | None = None) -> Predictions:
    """The draws of all members as one chain, since ArviZ takes few draws in many chains for a mistake; thinned evenly."""
    flat = predictions.draws.reshape(1, -1, *predictions.draws.shape[2:])
    chosen = np.unique(np.linspace(0, flat.shape[1] - 1, at_most or flat.shape[1]).round().astype(int))
    return Predictions(y=predictions.y, draws=flat[:, chosen], kind=predictions.kind, targets=predictions.targets)


def _legend(axes: Axes, entries: dict[str, str], *, points: bool = False) -> None:
    """A legend below the axes, where it hides nothing."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": "", "marker": "o"} if points else {"linewidth": 4}
    handles = [Line2D([], [], color=colour, label=label, **style) for label, colour in entries.items()]
    _figure(axes).legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10)


def _labelled(axes: Axes, title: str, x: str, y: str | None) -> Figure:
    """The figure, with names on its axes; without a y they need none."""
    figure = _figure(axes)
    figure.set_size_inches(7, 4.2)
    axes.set_title(in_figure(title), fontsize=12)
    axes.set_xlabel(in_figure(x), fontsize=11)
    axes.set_ylabel(in_figure(y or ""), fontsize=11)
    if y is None:
        axes.set_yticks([])
    axes.tick_params(labelsize=10)
    return figure


def _figure(axes: Axes) -> Figure:
    figure: Figure = axes.figure  # type: ignore[assignment] # no subfigures here, nor in ArviZ
    figure.set_layout_engine("constrained")
    return figure
