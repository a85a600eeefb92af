"""Figures of one response: observed values in their predicted intervals, sorted, and a fan of quantiles along a feature."""

from __future__ import annotations

__all__ = ["BANDS", "draw_fan", "draw_sorted"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

#: Quantiles of a fan: the outer ones of each band, and the median.
BANDS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
#: Two of Okabe and Ito's colours: of predictions, and of observations outside.
BLUE, OUTSIDE = "#0072B2", "#D55E00"
#: How much of the blue each band has, the widest first; the rest is the background, so that bands suit dark styles too.
BANDS_BLUE = (0.19, 0.44, 0.69)
#: More rows than these are thinned evenly along the sorted ones.
MOST_ROWS = 400
#: The most characters of a category's name in a picture.
LONGEST_NAME = 24


def draw_sorted(observed: Array, low: Array, middle: Array, high: Array, *, level: float, name: str) -> Figure:
    """Observed values beside predicted ones with their intervals, rows in the order of the predicted median.

    Args:
        observed, low, middle, high: observations, ends of the central interval, and medians, [n].
        level: of the interval, for the legend.
        name: of the response.
    """
    order = np.argsort(middle, kind="stable")
    if len(order) > MOST_ROWS:
        order = order[np.unique(np.linspace(0, len(order) - 1, MOST_ROWS).round().astype(int))]
    axes = _new_axes()
    ink, line, shade = _ink(), _mixed(BLUE, _ink(), 0.35), _shades()[1]
    inside = (low <= observed) & (observed <= high)
    place = np.arange(len(order))
    axes.margins(x=0.02)
    axes.vlines(place, low[order], high[order], color=shade, linewidth=max(0.6, min(4.0, 220 / len(order))))
    axes.plot(place, middle[order], color=line, linewidth=1.5, label="predicted median")
    for which, colour, marker, words in (
        (inside, ink, "o", "observed, inside"),
        (~inside, OUTSIDE, "^", "outside"),
    ):
        here = which[order]
        axes.plot(place[here], observed[order][here], marker, color=colour, markersize=3.5, label=words)
    axes.plot([], [], color=shade, linewidth=4, label=f"{100 * level:g} % interval")
    share = f"{100 * inside.mean():.0f} % of {len(observed)} rows inside"
    return _labelled(axes, f"Observed and predicted: {share}", "rows, by the predicted median", name)


def draw_fan(
    along: Sequence[Any],
    quantiles: Array,
    *,
    points: tuple[Sequence[Any], Array],
    feature: str,
    name: str,
) -> Figure:
    """Bands of predicted quantiles along a feature, with the observed rows.

    Args:
        along: G values of the feature: numbers, or categories, which are drawn apart.
        quantiles: at the levels of :data:`BANDS`, [G, 7].
        points: the feature and the response of observed rows.
        feature, name: of the feature and the response.
    """
    axes = _new_axes()
    at, values = points
    try:
        place, seen = np.asarray(along, dtype=np.float64), np.asarray(at, dtype=np.float64)
        apart = False
    except (TypeError, ValueError):
        names = [str(value) for value in along]
        place, apart = np.arange(len(names), dtype=np.float64), True
        seen = np.array([names.index(str(value)) if str(value) in names else np.nan for value in at])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(place, [_plain(_short(text)) for text in names], rotation=30 if len(names) > 5 else 0)
    axes.plot(seen, values, "o", color=_ink(), markersize=2.5, alpha=0.5, label="observed", zorder=3)
    for k, shade in enumerate(_shades()):
        low, high, covered = quantiles[:, k], quantiles[:, -1 - k], 100 * (BANDS[-1 - k] - BANDS[k])
        if apart:
            axes.vlines(place, low, high, color=shade, linewidth=14, label=f"{covered:.0f} %", zorder=k / 10)
        else:
            axes.fill_between(place, low, high, color=shade, linewidth=0, label=f"{covered:.0f} %", zorder=k / 10)
    axes.plot(
        place,
        quantiles[:, 3],
        "_" if apart else "-",
        color=_mixed(BLUE, _ink(), 0.35),
        linewidth=1.5,
        label="median",
        zorder=2,
        markersize=14,
    )
    return _labelled(axes, "The density along a feature, the others as in a typical row", feature, name)


def _new_axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure(layout="constrained").subplots()


def _ink() -> str:
    """The colour of text in the style in use."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def _shades() -> list[str]:
    """The colours of the bands, on the background of the style in use."""
    from matplotlib import rcParams

    return [_mixed(rcParams["axes.facecolor"], BLUE, share) for share in BANDS_BLUE]


def _mixed(first: str, second: str, share: float) -> str:
    """A colour between two, with a share of the second."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (1 - share) * np.array(to_rgb(first)) + share * np.array(to_rgb(second))
    return to_hex((red, green, blue))


def _labelled(axes: Axes, title: str, x: str, y: str) -> Figure:
    figure: Any = axes.figure
    figure.set_size_inches(7, 4.4)
    axes.set_title(_plain(title), fontsize=12)
    axes.set_xlabel(_plain(x), fontsize=11)
    axes.set_ylabel(_plain(y), fontsize=11)
    axes.tick_params(labelsize=10)
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
    result: Figure = figure
    return result


def _short(text: str) -> str:
    """A category's name that leaves room for the others."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _plain(text: str) -> str:
    """A user's name in one line, with its dollar signs escaped, since a dollar starts a formula."""
    return printable(text).replace("$", r"\$")
