"""The predictive density of a regressor as NumPy arrays: its density, distribution function and quantiles."""

from __future__ import annotations

__all__ = ["ArrayDensities"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.estimators.ensemble.state import State
from pyro_probmix.estimators.ensemble.support import at_points
from pyro_probmix.estimators.parameters import without_graph
from pyro_probmix.inference.data.arrays import TensorLike, as_array
from pyro_probmix.inference.predictive.at_values import cdf_at, log_density_at, quantile_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Values of a feature along which its density is drawn, and categories.
NUM_VALUES, MOST_CATEGORIES = 100, 12


class ArrayDensities:
    """``pdf``, ``logpdf``, ``cdf`` and ``ppf`` of an estimator of numbers; rows come first, as in the features.

    Of one target given as [n], values ``y`` (and levels ``q``) broadcast with the rows in front:

    ========================  =====================================  ========
    shape of ``y`` or ``q``   what it is                             result
    ========================  =====================================  ========
    a number                  the same for each row                  [n]
    [n]                       one for each row                       [n]
    [n, K]                    K for each row                         [n, K]
    [1, K]                    the same K for each row                [n, K]
    ========================  =====================================  ========

    Of several targets, the last axis is the targets': [n, d_y], [n, K, d_y] or [1, K, d_y]. ``cdf`` and ``ppf`` are of each
    target by itself and keep that axis, ``pdf`` and ``logpdf`` are of all of them together and do not.
    """

    _single: bool
    n_outputs_: int
    _fitted: Callable[[], State]
    _numbers: Callable[..., Array]

    def pdf(self, X: Any, y: TensorLike) -> Array:
        """The predictive density at values of the targets; of counts and of 0 and 1 the probability. 0 outside of the support.

        Of a target of few values it is the density before it is rounded, as that of :meth:`predict_dist`.

        Args:
            X: features, [n, d].
            y: values, which broadcast with the rows, see :class:`ArrayDensities`.

        Returns:
            [n] or [n, K], in one over the targets' units.

        Raises:
            ValueError: for NaN, or a shape that does not fit.
        """
        return np.asarray(np.exp(self._log_density("pdf", X, y)))

    def logpdf(self, X: Any, y: TensorLike) -> Array:
        """The log predictive density at values of the targets, in nats; minus infinity outside of the support.

        Args:
            X: features, [n, d].
            y: values, which broadcast with the rows, see :class:`ArrayDensities`.

        Returns:
            [n] or [n, K]; the mean over rows of minus this is ``nll``.

        Raises:
            ValueError: for NaN, or a shape that does not fit.
        """
        return self._log_density("logpdf", X, y)

    def cdf(self, X: Any, y: TensorLike) -> Array:
        """The probability of at most y, of each target by itself.

        A target of few values, such as grades, is rounded to them: at most y is then all that is recorded so, see
        ``docs/likelihoods.md``.

        Args:
            X: features, [n, d].
            y: values, which broadcast with the rows, see :class:`ArrayDensities`.

        Returns:
            [n] or [n, K]; of several targets [n, d_y] or [n, K, d_y].

        Raises:
            ValueError: for NaN, or a shape that does not fit.
        """
        X = self._numbers(X, reset=False)
        values = self._values("cdf", "y", y, len(X), units=False)
        return self._each(X, self._standard(self._fitted().recipe.values().upper(values)), cdf_at)

    def ppf(self, X: Any, q: TensorLike) -> Array:
        """Quantiles of each target, the inverse of :meth:`cdf`; of counts and few values the smallest that reaches it.

        Args:
            X: features, [n, d].
            q: levels in [0, 1], which broadcast with the rows, see :class:`ArrayDensities`.

        Returns:
            [n] or [n, K]; of several targets [n, d_y] or [n, K, d_y]; in the targets' units.

        Raises:
            ValueError: for a level outside of [0, 1], or a shape that does not fit.
        """
        return self._fitted().recipe.values().rounded(self._unrounded(X, q))

    def _unrounded(self, X: Any, q: TensorLike) -> Array:
        """Quantiles before they are rounded, as those of :meth:`ppf`."""
        X, scaler = self._numbers(X, reset=False), self._fitted().y_scaler
        levels = self._values("ppf", "q", q, len(X), units=False)
        if not ((levels >= 0) & (levels <= 1)).all():
            wrong = levels[~((levels >= 0) & (levels <= 1))][0]
            raise ValueError(f"ppf got a level of {wrong:g}, expected levels from 0 to 1. Try q=0.5.")
        step, offset = (v[0] if self._single else v for v in (scaler.step, scaler.offset))
        return self._within_bounds(self._each(X, levels, quantile_at) * step + offset)

    def _within_bounds(self, values: Array) -> Array:
        """Values [..., d_y] of targets, none beyond their bounds, on which the mass of a density beyond them is put."""
        low, high = self._fitted().recipe.bounds()
        return np.clip(values, low, high)

    def plot(
        self, X: Any, y: TensorLike, *, feature: Any = None, coverage: float = 0.9, target: int = 0
    ) -> tuple[Figure, Figure]:
        """Two figures of held-out rows: observed values in their intervals, sorted; and the density along a feature.

        In the second the other features are as in the row whose predicted median is the middle one. Those of a target of few
        values are of the density before it is rounded, as :meth:`predict_interval`.

        Args:
            X: features, [n, d].
            y: observed targets, [n] or [n, d_y].
            feature: name or position of the column; by default the one whose shuffling costs most log density.
            coverage: of the intervals in the first figure, in (0, 1).
            target: which of several targets.

        Returns:
            two figures of Matplotlib, which is imported here, in the colours of its style in use, dark ones too;
            ``figure.savefig(path)`` writes one.

        Raises:
            ValueError: for a feature or target that is not there, or y of another shape.
        """
        from pyro_probmix.calibration.figures.predicted import BANDS, draw_fan, draw_sorted

        frame = X if hasattr(X, "columns") else pd.DataFrame(np.asarray(without_graph(X)))

        def given(rows: Any) -> Any:
            return rows if hasattr(X, "columns") else rows.to_numpy()

        observed = self._observed(y, len(frame))[
            :, target if 0 <= target < self.n_outputs_ else self._no_target(target)
        ]
        of_y = (
            getattr(y, "name", None)
            if self._single
            else (list(getattr(y, "columns", ())) or [None] * (target + 1))[target]
        )
        name = "y" if of_y is None else str(of_y)

        def quantiles(rows: Any, levels: Any) -> Array:
            levels = np.reshape(levels, (1, -1, *(1,) * (not self._single)))
            found = self._unrounded(given(rows), levels)
            return found if self._single else found[..., target]

        tails = quantiles(frame, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2])
        first = draw_sorted(observed, *tails.T, level=coverage, name=name)
        place = self._column(frame, feature, given, y)
        column: Any = frame.iloc[:, place]
        typical = int(np.argsort(tails[:, 1])[len(frame) // 2])
        along = _values_along(column)
        rows: Any = frame.iloc[[typical] * len(along)].reset_index(drop=True)
        rows.isetitem(place, pd.Series(along).astype(column.dtype) if column.dtype.kind not in "iub" else along)
        label = str(frame.columns[place]) if hasattr(X, "columns") else f"feature {place}"
        fan = draw_fan(along, quantiles(rows, BANDS), points=(column.tolist(), observed), feature=label, name=name)
        return first, fan

    def _no_target(self, target: Any) -> int:
        raise ValueError(
            f"plot got target={target!r}, expected one of {self.n_outputs_}, counted from 0. Try target=0."
        )

    def _observed(self, y: TensorLike, n: int) -> Array:
        values = as_array("plot", "y", y).astype(np.float64)
        if len(values) != n or values.reshape(n, -1).shape[1] != self.n_outputs_:
            expected = (n,) if self._single else (n, self.n_outputs_)
            raise ValueError(
                f"plot got y of shape {values.shape}, expected {expected}. Try the targets of the rows of X."
            )
        return values.reshape(n, -1)

    def _column(self, frame: pd.DataFrame, feature: Any, given: Callable[[Any], Any], y: TensorLike) -> int:
        """The position of a feature, by default of the one whose shuffling costs most log density."""
        names = list(frame.columns)
        if feature is not None:
            if feature in names:
                return names.index(feature)
            raise ValueError(f"plot got feature={feature!r}, expected one of {names[:10]}. Try feature=None.")
        some = np.linspace(0, len(frame) - 1, min(len(frame), 200)).round().astype(int)
        rows, values = frame.iloc[some].reset_index(drop=True), self._observed(y, len(frame))[some]
        values = values[:, 0] if self._single else values
        order, scores = np.random.default_rng(0).permutation(len(some)), []
        for place in range(len(names)):
            shuffled: Any = rows.copy()
            shuffled.isetitem(place, rows.iloc[order, place].reset_index(drop=True))
            scores.append(np.clip(self.logpdf(given(shuffled), values), -1e6, None).mean())
        return int(np.argmin(scores))

    def _log_density(self, asked: str, X: Any, y: TensorLike) -> Array:
        X, state = self._numbers(X, reset=False), self._fitted()
        values = self._values(asked, "y", y, len(X))
        log_units = ~at_points(state.recipe.support(), values) * np.log(
            state.y_scaler.step
        )  # a probability has no unit
        log_units = log_units if self._single else log_units.sum(-1)
        return self._each(X, values, log_density_at) - log_units

    def _values(self, asked: str, name: str, given: TensorLike, n: int, units: bool = True) -> Array:
        """The values of each row, [n, (K,) (d_y,)], by default in standard units."""
        values = as_array(asked, name, given).astype(np.float64)
        if np.isnan(values).any():
            raise ValueError(f"{asked} got {name} with NaN, expected numbers. Try leaving out the rows without one.")
        targets: tuple[int, ...] = () if self._single else (self.n_outputs_,)
        shape = values.shape
        if not shape:
            values = values.reshape((1,) * (1 + len(targets)))
        elif targets == (1,) and len(shape) == 1:
            values = values[:, None]
        lead = values.ndim - len(targets)
        rows, last = values.shape[:lead], values.shape[lead:]
        if len(rows) not in (1, 2) or rows[0] not in (1, n) or last not in (targets, (1,) * len(targets)):
            raise ValueError(_misfit(asked, name, shape, n, targets))
        values = np.broadcast_to(values, (n, *rows[1:], *targets))
        return self._standard(values) if units else values

    def _standard(self, values: Array) -> Array:
        """Values [n, (K,) (d_y,)] in standard units."""
        scaler = self._fitted().y_scaler
        standard: Array = scaler.transform(values[..., None])[..., 0] if self._single else scaler.transform(values)
        return standard

    def _each(self, X: Array, values: Array, function: Callable[[PredictiveMixture, Array], Array]) -> Array:
        """A function of a mixture and values [K, n, d_y] at values [n, (K,) (d_y,)]."""
        many = values.ndim > 1 + (not self._single)
        grid = values if many else values[:, None]
        grid = grid[..., None] if self._single else grid  # [n, K, d_y]
        result = self._fitted().of_rows(
            X, lambda part, rows: function(part, np.moveaxis(grid[rows], 1, 0)).swapaxes(0, 1)
        )
        if result.ndim == 3 and self._single:
            result = result[..., 0]
        return result if many else result[:, 0]


def _values_along(column: Any) -> Any:
    """Values of a column, from its 1st to its 99th percentile if it has numbers, else each of them, the frequent ones first."""
    if column.dtype.kind in "fiu" and column.nunique() > 1:
        low, high = np.nanquantile(column.to_numpy(dtype=np.float64), [0.01, 0.99])
        return np.linspace(low, high, NUM_VALUES)
    return column.dropna().value_counts().index[:MOST_CATEGORIES].to_list()


def _misfit(asked: str, name: str, shape: tuple[int, ...], n: int, targets: tuple[int, ...]) -> str:
    ends = "".join(f", {size}" for size in targets)
    expected = f"a number, ({n}{ends or ','}), ({n}, K{ends}) or (1, K{ends})"
    if len(shape) == 1:
        advice = f"{name}[None, :{', None' if targets else ''}] for the same ones in each row"
    else:
        advice = f"{name}.T" if shape[-1:] == (n,) else f"as many rows as X has, {n}"
    return f"{asked} got {name} of shape {shape} for {n} rows, expected {expected}. Try {advice}."
