"""The checks of a model on held-out rows: numbers, figures and the data for ArviZ, written to a folder."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.arviz.data import arviz_version, loo, netcdf_of, to_arviz
from pyro_probmix.calibration.arviz.figures import (
    draw_isotonic,
    draw_levels,
    draw_predictive,
    draw_reliability,
    draw_statistic,
)
from pyro_probmix.calibration.arviz.left_out import left_out_crps, left_out_figures
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.figures.style import default_style
from pyro_probmix.calibration.scores.classes import reliability
from pyro_probmix.calibration.scores.estimate import Estimate
from pyro_probmix.calibration.scores.pit import coverage_curve, pit_curve
from pyro_probmix.calibration.summary import summarise
from pyro_probmix.files import write_files
from pyro_probmix.unfinished import Save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CheckReport", "bayesian_p_values", "check", "suffix_of"]

#: Statistics of all rows that Bayesian p-values are given for; the figures are of the first and the last.
STATISTICS = ("mean", "median", "std")

#: With more classes only the most probable one's reliability is drawn.
MOST_CLASSES = 10


@dataclass(frozen=True)
class CheckReport:
    """The results of :func:`check`, and the files that it wrote.

    Attributes:
        checks: for each target, and for all of several together, metric to number, as :func:`summarise` gives them.
        bayesian_p_values: for each target, statistic to p-value; near 0 or 1 the data sets drawn from the predictive do not
            look like the observations.
        netcdf: the file with the data of :func:`to_arviz`.
        figures: name to file.
        loo: ArviZ's estimate, if it was asked for.
        loo_crps: with it, target to the CRPS of left-out rows, where arviz 1.x is installed and the targets are numbers.
    """

    checks: dict[str, dict[str, Estimate]]
    bayesian_p_values: dict[str, dict[str, float]]
    netcdf: Path
    figures: dict[str, Path] = field(default_factory=dict)
    loo: Any = None
    loo_crps: dict[str, Estimate] = field(default_factory=dict)

    def __str__(self) -> str:
        """The numbers as aligned text."""
        lines = []
        for target, checks in self.checks.items():
            lines += [target] + [f"  {metric:<28}{number}" for metric, number in checks.items()]
            for statistic, p_value in self.bayesian_p_values.get(target, {}).items():
                lines.append(f"  {f'Bayesian p-value, {statistic}':<28}{p_value:.2g}")
            if target in self.loo_crps:
                lines.append(f"  {'crps of left-out rows':<28}{self.loo_crps[target]}")
        return "\n".join(lines)


@checked()
def check(
    predictions: Predictions, folder: str | os.PathLike[str], *, level: float = 0.9, fitted: Predictions | None = None
) -> CheckReport:
    """Checks predictions on held-out rows; writes figures (``*.png``) and ``predictions.nc`` to a folder.

    Args:
        predictions: of rows that the model was not fitted to.
        folder: is made if it is not there; files of the same names are replaced.
        level: of the central interval whose coverage, width and score are measured.
        fitted: predictions, with a log-likelihood for each draw of the parameters, of the rows that the model *was* fitted
            to: gives leave-one-out cross-validation too, and of numbers the PIT of left-out rows; with arviz 1.x also their
            CRPS, and how far each row moves its own prediction.

    Returns:
        the numbers, and where the files are.

    Raises:
        ValueError: if there is one row only, the folder cannot be written to, or leave-one-out is asked for without draws
            of the parameters, or for targets of other names.

    Example:
        >>> import tempfile
        >>> rng = np.random.default_rng(0)
        >>> predictions = Predictions(y=rng.normal(size=100), draws=rng.normal(size=(2, 100, 100)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = check(predictions, folder)
        >>> list(report.figures)
        ['predictive', 'pit', 'coverage', 'mean', 'std']
        >>> print(report)
        y0
          crps                        0.553 ± 0.034
          ...
          Bayesian p-value, std       0.37
    """
    if len(predictions.y) < 2:
        raise ValueError("check got one row, expected at least two. Try more held-out rows.")
    if fitted is not None and (fitted.targets, fitted.kind) != (predictions.targets, predictions.kind):
        raise ValueError(
            f"fitted has the targets {', '.join(map(repr, fitted.targets))} ({fitted.kind}), expected those of predictions, "
            f"{', '.join(map(repr, predictions.targets))} ({predictions.kind}). Try predictions of the same model for both."
        )
    estimate = None if fitted is None else loo(to_arviz(fitted))
    folder = Path(folder)
    checks = summarise(predictions, level=level)
    p_values = {name: bayesian_p_values(predictions.only(t)) for t, name in enumerate(predictions.targets)}
    figures: dict[str, Save] = {}
    with default_style():
        for t, target in enumerate(predictions.targets):
            suffix = suffix_of(predictions.targets, t)
            for name, figure in _figures(predictions.only(t), p_values[target]):
                figures[name + suffix] = _saving(figure)
            if fitted is not None and fitted.kind != "class":
                figures |= {name + suffix: _saving(figure) for name, figure in left_out_figures(fitted, target)}
        named = {f"{name}.png": save for name, save in figures.items()}
        write_files(folder, {"predictions.nc": netcdf_of(to_arviz(predictions)), **named})
    paths = {name: folder / f"{name}.png" for name in figures}
    crps = {} if fitted is None else left_out_crps(fitted)
    return CheckReport(checks, p_values, folder / "predictions.nc", paths, estimate, crps)


def suffix_of(targets: Sequence[str], t: int) -> str:
    """The ending of the names of a target's figures: its number and name where there are several targets, else nothing."""
    return f"-{t}-{re.sub(r'[^0-9A-Za-z]+', '_', targets[t])[:40]}" if len(targets) > 1 else ""


@checked()
def bayesian_p_values(predictions: Predictions) -> dict[str, float]:
    r"""Bayesian p-values of one response: the share of data sets drawn from the predictive whose statistic is below that of
    the observations.

    :math:`P(T(y^{rep}) < T(y)) + \tfrac12 P(T(y^{rep}) = T(y))`, near 0 or 1 where the observations are extreme.

    Args:
        predictions: of one response.

    Returns:
        for numbers the mean, median and standard deviation over the rows, for classes the share of each one.

    Reference:
        Gelman, Meng, Stern (1996). *Posterior predictive assessment of model fitness via realized discrepancies*. Statistica
        Sinica 6.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wide = Predictions(y=rng.normal(size=100), draws=2 * rng.normal(size=(1, 200, 100)))
        >>> bayesian_p_values(wide)["std"]
        0.0
    """
    y, draws = predictions.y[:, 0], predictions.pooled(0)
    if predictions.kind == "class":
        statistics = {
            f"share of {name}": ((draws == k).mean(1), (y == k).mean()) for k, name in enumerate(predictions.classes)
        }
    else:
        statistics = {name: (getattr(np, name)(draws, axis=1), getattr(np, name)(y)) for name in STATISTICS}
    return {
        name: float((drawn < observed).mean() + (drawn == observed).mean() / 2)
        for name, (drawn, observed) in statistics.items()
    }


def _figures(predictions: Predictions, p_values: dict[str, float]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of each check of one response."""
    yield "predictive", draw_predictive(predictions)
    if predictions.probabilities is not None:
        yield from _class_figures(predictions, predictions.probabilities[:, 0])
        return
    pit = predictions.pit(0)
    x, y = "level of the predicted quantile", "share of rows below, minus the level"
    yield "pit", draw_levels(pit, pit_curve(pit), title="Rows below their predicted quantiles", x=x, y=y)
    curve, x, y = coverage_curve(pit), "nominal coverage", "observed coverage, minus nominal"
    yield "coverage", draw_levels(np.abs(2 * pit - 1), curve, title="Rows inside of central intervals", x=x, y=y)
    for statistic in (STATISTICS[0], STATISTICS[-1]):
        yield statistic, draw_statistic(predictions, statistic, p_values[statistic])


def _class_figures(predictions: Predictions, probabilities: np.ndarray) -> Iterator[tuple[str, Figure]]:
    """Reliability of the most probable class, and of each class if they are not too many; of two classes the second one."""
    y, classes = predictions.y[:, 0], predictions.classes
    if len(classes) > 2:
        curve = reliability(probabilities.max(-1), probabilities.argmax(-1) == y)
        title = "How often the most probable class is right"
        yield (
            "reliability",
            draw_reliability(curve, title=title, x="its probability", y="share of rows that it is right for"),
        )
    if len(classes) <= MOST_CLASSES:
        for k in range(1 if len(classes) == 2 else 0, len(classes)):
            curve, what = reliability(probabilities[:, k], y == k), f"class {classes[k]}"
            x, y_label = f"probability of {what}", f"share of rows of {what}"
            yield f"reliability-{k}", draw_reliability(curve, title=f"How often {what} is observed", x=x, y=y_label)
    if len(classes) == 2 and arviz_version() == 1:
        yield "isotonic", draw_isotonic(predictions)


def _saving(figure: Figure) -> Save:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    def save(path: Path) -> None:
        FigureCanvasAgg(figure)  # becomes the figure's canvas, without a display
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Glyph .* missing from font"
            )  # a user's name may have any characters; those without a glyph show as a box
            figure.savefig(path, dpi=130, format="png")

    return save
