"""Predictions of numbers: means, quantiles, intervals, the parts of a variance, draws."""

from __future__ import annotations

__all__ = ["Predictions"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch

from pyro_probmix.arguments import checked
from pyro_probmix.estimators.array_densities import ArrayDensities
from pyro_probmix.estimators.doubt.parts import Parts, variance_parts
from pyro_probmix.estimators.ensemble.rows import Array
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.quantile import quantiles as mixture_quantiles
from pyro_probmix.pooling.rows.rebuilding import join_batches, take_batch


class Predictions(ArrayDensities):
    """What a fitted regressor predicts of some rows, in the targets' units."""

    _draws: Callable[..., Array]

    @checked()
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the predictive density, [n] or [n, d_y], in the targets' units.

        Args:
            X: features, [n, d].
            return_std: whether to return its standard deviation, too.
        """
        mean, std = self._moments(X)
        mean = self._within_bounds(mean)
        return (self._shaped(mean), self._shaped(std)) if return_std else self._shaped(mean)

    def predict_dist(self, X: Any) -> PredictiveMixture:
        """The predictive density as a Pyro distribution with batch shape [n], in the targets' units.

        That of a target of few values is the density before it is rounded to them.

        A single target given as [n] has event shape (), others (d_y,). It holds all components of all rows: 10 members
        with 16 draws each, which are the most, are 2.5 KiB a row.
        """
        state, X = self._fitted(), self._numbers(X, reset=False)
        parts = [part.components for _, part in state.mixtures(X)]
        components: Any = take_batch(join_batches(parts), slice(len(X)))
        device = next(state.density.parameters()).device
        loc, scale = (torch.as_tensor(v, device=device) for v in (state.y_scaler.offset, state.y_scaler.step))
        if self._single and isinstance(components, dist.Independent):
            components, loc, scale = take_batch(components.base_dist, 0), loc[0], scale[0]
        if state.y_scaler.is_identity:
            return PredictiveMixture(components, 2)
        return PredictiveMixture(components, 2, loc, scale)

    @checked()
    def predict_quantiles(self, X: Any, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> Array:
        """Quantiles of each target, [n, Q] or [n, d_y, Q], to the last digit also far in the tails.

        Those of a target of few values are such values, see ``docs/likelihoods.md``.

        Args:
            X: features, [n, d].
            quantiles: Q levels in [0, 1].

        Raises:
            ValueError: for a level outside.
        """
        return self._quantiles(X, quantiles, recorded=True)

    def _quantiles(self, X: Any, levels: Sequence[float], *, recorded: bool) -> Array:
        """Quantiles of each target, of those of few values as they are recorded or before they are rounded."""
        state = self._fitted()
        found = state.of_rows(self._numbers(X, reset=False), lambda part, _: mixture_quantiles(part, levels))
        values = found.swapaxes(1, 2) * state.y_scaler.step + state.y_scaler.offset
        values = (state.recipe.values().rounded(values) if recorded else self._within_bounds(values)).swapaxes(1, 2)
        return values[:, 0] if self._single else values

    @checked()
    def predict_interval(self, X: Any, coverage: float = 0.9, conformal: bool = False) -> Array:
        r"""Lower and upper end of the central interval of each target, [n, 2] or [n, d_y, 2].

        The ends of a target of few values are no such values, since rounded ones would hold more of them than asked for.

        A conformal interval is a central one of another level, such that the rows that the members held out would have been
        inside as often as asked for. It needs no assumption about the distribution of the targets: if a new row and those of
        the fit are exchangeable, each target is inside with probability at least :math:`1 - 2\alpha - \sqrt{2/n}`,
        :math:`\alpha = 1 -` coverage, of n held-out rows, and typically with :math:`1 - \alpha` or a little more; with rows
        given to ``fit(validation=...)`` at least :math:`1 - \alpha`. This is on average over fits and rows, and not for each
        row by itself. What it does not count are the few numbers that all rows had a part in: the epoch, the spread and the
        scalings. It keeps to the support, and each row has a width of its own. Too few held-out rows for the coverage, of
        equal weights fewer than coverage / :math:`\alpha`, give the ends of the support, and a warning.

        Args:
            X: features, [n, d].
            coverage: probability inside, in (0, 1).
            conformal: whether held-out rows set the level of the interval.

        Raises:
            ValueError: for another coverage, or a conformal interval where no row was held out.

        References:
            Barber, Candès, Ramdas and Tibshirani, 2021, "Predictive inference with the jackknife+", theorem 4, in the form for
            nested sets of Gupta, Kuchibhotla and Ramdas, 2022; Vovk, Gammerman and Shafer, 2005, for one set of held-out rows.
        """
        if not isinstance(coverage, int | float | np.floating) or not 0 < coverage < 1 or (1 + coverage) / 2 == 1:
            raise ValueError(f"got coverage={coverage!r}, expected a probability between 0 and 1. Try coverage=0.9.")
        if not conformal:
            return self._quantiles(X, ((1 - coverage) / 2, (1 + coverage) / 2), recorded=False)
        state = self._fitted()
        scores = state.scores
        if scores is None:
            raise ValueError(
                "predict_interval got conformal=True, but no row of the last fit is new to any member: none was held out, a "
                "fit before had trained on them, the targets are known up to intervals, or the likelihood has no known "
                "quantiles. Try fit(X, y, validation=(X_new, y_new)), or fit(X, y) with at least 20 rows and a "
                "validation_fraction."
            )
        scores.warn_of_few(coverage)
        found = state.of_rows(self._numbers(X, reset=False), lambda part, _: scores.interval(part, float(coverage)))
        ends = found * state.y_scaler.step[:, None] + state.y_scaler.offset[:, None]
        ends = self._within_bounds(ends.swapaxes(1, 2)).swapaxes(1, 2)
        return ends[:, 0] if self._single else ends

    def predict_variance(self, X: Any) -> Parts:
        """The variance of each target in two parts, each [n] or [n, d_y], in squared units of the targets.

        ``between``, the variance of the members' means, is the doubt that more data would take away. ``within``, the mean
        of the members' variances, draws of the embedding included, is the noise that would stay. Their sum is the square of
        the standard deviation of ``predict(X, return_std=True)``.

        Both are estimates: of few members the first scatters, by about 47 % of itself for ten, and is too low by a tenth of
        itself on average; members that were trained alike agree on what none of them can represent. And where the network
        cannot fit the mean, its error counts as noise. The regression in the place of networks below 20 rows is one member, so
        that all of its variance counts within.

        Args:
            X: features, [n, d].

        Example:
            >>> import numpy as np
            >>> from pyro_probmix import ProbMixRegressor
            >>> X = np.linspace(-1, 1, 60)[:, None]
            >>> model = ProbMixRegressor(ensemble=3, epochs=20, random_state=0).fit(X, X[:, 0] ** 2)
            >>> between, within = model.predict_variance([[0.0], [3.0]])
            >>> bool(between[1] > between[0])  # far outside of all rows the members disagree
            True
        """
        state = self._fitted()
        found = state.of_rows(self._numbers(X, reset=False), lambda part, _: variance_parts(part))
        between, within = (self._shaped(found[:, k] * state.y_scaler.step**2) for k in (0, 1))
        return Parts(between, within)

    def sample(self, X: Any, num_samples: int = 100, random_state: Any = None) -> Array:
        """Draws of the targets, [num_samples, n] or [num_samples, n, d_y], in their units; of few values such values.

        Args:
            X: features, [n, d].
            num_samples: number of draws.
            random_state: seed or ``numpy.random.RandomState``.
        """
        state = self._fitted()
        drawn = self._draws(state, self._numbers(X, reset=False), num_samples, random_state)
        values = state.recipe.values().rounded(drawn * state.y_scaler.step + state.y_scaler.offset)
        return values[..., 0] if self._single else values

    def _moments(self, X: Any) -> tuple[Array, Array]:
        state = self._fitted()

        def moments(part: PredictiveMixture, _: object) -> Array:
            found: Array = torch.stack([part.mean, part.variance.sqrt()], 1).cpu().numpy()
            return found

        found = state.of_rows(self._numbers(X, reset=False), moments)
        return found[:, 0] * state.y_scaler.step + state.y_scaler.offset, found[:, 1] * state.y_scaler.step

    def _shaped(self, values: Array) -> Array:
        return values[:, 0] if self._single else values
