"""Scores of a regressor: the negative log density, the CRPS, the NLL of rounded targets."""

from __future__ import annotations

__all__ = ["Scores"]

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.estimators.array_densities import ArrayDensities
from pyro_probmix.estimators.ensemble.censoring import check_ends
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.ensemble.support import at_points
from pyro_probmix.inference.predictive.crps import crps_at
from pyro_probmix.inference.predictive.intervals import log_probability_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

#: The interval around a continuous target beside rounded ones, in standard units.
FINE = 1e-4


class Scores(ArrayDensities):
    """How a fitted regressor's density scores some rows with their targets."""

    _checked: Callable[..., tuple[Array, Array, Array | None, Array | None]]
    _mean_nll: Callable[..., float]

    def nll(self, X: Any, y: Any, sample_weight: Any = None, *, y_upper: Any = None) -> float:
        """The mean negative log predictive density of the targets, jointly, in nats a row, in the targets' units.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y]; with ``y_upper`` their lower ends.
            sample_weight: [n].
            y_upper: of targets that are known up to an interval the upper ends, see :meth:`ProbMixRegressor.fit`: of these it
                is the negative log probability of what lies between.
        """
        return self._nll(*self._checked(X, y, sample_weight, reset=False, y_upper=y_upper))

    def _nll(self, X: Array, y: Array, weights: Array | None, ends: Array | None = None) -> float:
        state = self._fitted()
        log_units = np.log(state.y_scaler.scale) + np.log(state.y_scaler.unit)
        density = ~at_points(state.recipe.support(), state.y_scaler.transform(y))  # a probability has no unit
        if ends is not None:
            density &= ends[:, : y.shape[1]] == ends[:, y.shape[1] :]
        return self._mean_nll(state, X, y, weights, ends) + float(np.average(density @ log_units, weights=weights))

    def crps(self, X: Any, y: Any, sample_weight: Any = None) -> float | Array:
        r"""The mean continuous ranked probability score :math:`\int (F(v) - 1[y \le v])^2 dv`, in the targets' units.

        Lower is better. It is a proper score, of a prediction without a spread the absolute error, and no spike of a density
        gains by it. The scores of :class:`ProbMixRegressor` are exact to six digits and more. F is :meth:`cdf`, so that of a
        target of few values it is that of the values which can be.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y].
            sample_weight: [n].

        Returns:
            a number; of several targets one for each, [d_y].

        References:
            Gneiting and Raftery, 2007, "Strictly proper scoring rules, prediction, and estimation", section 4.2.

        Example:
            >>> import numpy as np
            >>> from pyro_probmix import ProbMixRegressor
            >>> X = np.linspace(-1, 1, 60)[:, None]
            >>> y = X[:, 0] ** 2 + 0.1 * np.random.default_rng(0).normal(size=60)
            >>> model = ProbMixRegressor(ensemble=2, epochs=20, random_state=0).fit(X, y)
            >>> bool(model.crps(X, y) < np.abs(y - model.predict(X)).mean())
            True
        """
        X, y, weights, _ = self._checked(X, y, sample_weight, reset=False)
        state, scaler = self._fitted(), self._fitted().y_scaler
        standard, low, high = (scaler.transform(values) for values in (y, *state.recipe.bounds()))
        marks, units = state.recipe.values(), np.stack([scaler.offset, scaler.step])

        def of_block(part: PredictiveMixture, rows: npt.NDArray[np.int64]) -> Array:
            return marks.crps(part, y[rows], units, lambda: crps_at(part, standard[rows], low, high) * scaler.step)

        scores = state.of_rows(X, of_block)
        mean = np.average(scores, axis=0, weights=weights)
        return float(mean[0]) if self._single else np.asarray(mean)

    def interval_nll(self, X: Any, y: Any, sample_weight: Any = None, *, y_upper: Any = None) -> float:
        r"""The mean NLL of targets that are known up to rounding, in nats a row, in the targets' units.

        .. math:: -\log \frac{F(y + h / 2) - F(y - h / 2)}{h}

        Here h is the grid of the training targets, ``grid_``. Where targets are rounded, the density's NLL has no lower bound:
        a density of spikes on the grid takes it to minus infinity. This one has the bound :math:`\log h`, and
        can be compared between densities and probabilities of counts. Where there is no grid it is ``nll``. Of several targets
        it is the sum over them.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y]; with ``y_upper`` their lower ends.
            sample_weight: [n].
            y_upper: upper ends of targets that are known up to an interval, see :meth:`ProbMixRegressor.fit`.

        References:
            Uria, Murray and Larochelle, 2013, "RNADE", section 5, on densities of rounded data.
        """
        return self._interval_nll(*self._checked(X, y, sample_weight, reset=False, y_upper=y_upper))

    def _interval_nll(self, X: Array, y: Array, weights: Array | None, ends: Array | None = None) -> float:
        state = self._fitted()
        if self.n_outputs_ == 1 and not state.recipe.grid[0]:
            return self._nll(X, y, weights, ends)
        if weights is not None:
            some = weights > 0
            X, y, weights, ends = X[some], y[some], weights[some], None if ends is None else ends[some]
        check_ends(state.recipe, Rows(X, y, np.ones(len(X)), ends))
        scaler, grid = state.y_scaler, np.array(state.recipe.grid)
        width = np.where(grid > 0, grid, FINE * scaler.step)
        lower, upper = (y, y) if ends is None else np.split(ends, 2, axis=1)
        low, high = scaler.transform(lower - width / 2), scaler.transform(upper + width / 2)
        low, high = self._open_at_bounds(lower, upper, low, high)
        found = state.of_rows(X, lambda part, rows: log_probability_at(part, low[rows], high[rows]))
        found -= np.where(lower == upper, np.log(width), 0.0)
        return -float(np.average(found.sum(1), weights=weights))

    def _open_at_bounds(self, lower: Array, upper: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Ends of intervals around what is known of targets, infinite at the least and the most that a target can be.

        The mass beyond is put there.
        """
        values = self._fitted().recipe.values()
        return np.where(lower <= values.low, -np.inf, low), np.where(upper >= values.high, np.inf, high)
