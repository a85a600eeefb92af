"""Fitted rows as a fit without each of them would predict them: their PIT, CRPS and influence, by ArviZ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pyro_probmix.calibration.arviz.data import arviz_version, to_arviz
from pyro_probmix.calibration.arviz.figures import arviz_for_figures, draw_levels, draw_shifts
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows
from pyro_probmix.calibration.scores.pit import pit_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["left_out_crps", "left_out_figures"]


def left_out_crps(fitted: Predictions) -> dict[str, Estimate]:
    """The CRPS of left-out rows, in each target's unit, by ``arviz.loo_score``, which arviz 1.x has.

    Args:
        fitted: predictions of numbers, of the rows that the model was fitted to, with a log-likelihood for each draw.

    Returns:
        target -> mean over the rows, with its standard error; none of classes, nor with arviz 0.x.
    """
    if arviz_version() == 0 or fitted.kind == "class":
        return {}
    with arviz_for_figures() as arviz:
        scores = {
            target: arviz.loo_score(to_arviz(fitted, target=target, paired=True), kind="crps", pointwise=True)
            for target in fitted.targets
        }
    return {target: mean_over_rows(-np.asarray(score.pointwise)) for target, score in scores.items()}


def left_out_figures(fitted: Predictions, target: str) -> Iterator[tuple[str, Figure]]:
    """Name and figure of the left-out rows' PIT, and with arviz 1.x of how far each row moves its own predictive mean.

    Args:
        fitted: as above.
        target: one of its targets.
    """
    data = to_arviz(fitted, target=target, paired=True)
    with arviz_for_figures() as arviz:
        if arviz_version() == 0:
            pit, shifts = arviz.loo_pit(data, y="y", y_hat="y"), None
        else:
            pit, shifts = arviz.loo_pit(data)["y"].values, arviz.loo_influence(data)[0]["y"].values
    pit = np.clip(np.asarray(pit, dtype=np.float64), 0, 1)
    title, x, y = (
        "Left-out rows below their predicted quantiles",
        "level of the predicted quantile",
        "share of rows, minus it",
    )
    yield "loo-pit", draw_levels(pit, pit_curve(pit), title=title, x=x, y=y)
    if shifts is not None:
        yield "loo-influence", draw_shifts(np.asarray(shifts), fitted.rows, target)
