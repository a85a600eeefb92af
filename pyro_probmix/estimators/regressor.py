"""Regression: a calibrated density of one or several targets from a table."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Self

import numpy as np
import pyro.distributions as dist
import torch
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.estimators.array_densities import ArrayDensities
from pyro_probmix.estimators.base import ProbMixEstimator
from pyro_probmix.estimators.doubt.parts import Parts, variance_parts
from pyro_probmix.estimators.ensemble.network import LINEAR, Likelihood, Recipe, check_targets, named_likelihood
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.ensemble.support import at_points
from pyro_probmix.estimators.parameters import check_entries, only_numbers, refuse_dates, without_graph
from pyro_probmix.estimators.saving.programs import export
from pyro_probmix.estimators.targets.choice import KEPT_ASIDE, MEMBERS, choose, describe, pilot_epochs
from pyro_probmix.estimators.targets.kinds import FEWEST_ROWS
from pyro_probmix.inference.predictive.crps import crps_at
from pyro_probmix.inference.predictive.intervals import log_probability_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture
from pyro_probmix.inference.predictive.quantile import quantiles as mixture_quantiles
from pyro_probmix.models import METHODS
from pyro_probmix.pooling.rows.rebuilding import join_batches, take_batch

__all__ = ["ProbMixRegressor"]

#: The squares of larger targets overflow.
LARGEST_TARGET = 1e150
#: The interval around a continuous target beside rounded ones, in standard units.
FINE = 1e-4


class ProbMixRegressor(ArrayDensities, RegressorMixin, ProbMixEstimator):  # type: ignore[misc] # scikit-learn is not annotated
    r"""The density of numeric targets given features, by an ensemble of networks trained with a mixup method.

    Columns are taken as they are. A category becomes an indicator of each level, those of few rows together; one of many
    levels also the mean of the target among the rows of a level, drawn to the mean of all and never by a row's own target.
    Ordered categories are their positions. A level that no row of the fit had is as the others of few rows. Of a date the
    days, and its phases in the year and the week, are used. Missing values have an indicator. Numbers are standardised, those
    of a skewed distribution by its quantiles. Columns without a value, with one value, or that name the rows are left out,
    with a warning.

    Args:
        method: a name in ``METHODS`` or ``BEYOND`` (``probmix list`` shows them), or a :class:`~pyro_probmix.Method`.
        likelihood: ``"auto"``, which looks at the targets (see ``docs/likelihoods.md``) unless the method has its own; a name
            in ``LIKELIHOODS``, such as ``"gaussian"``, ``"negative-binomial"`` (counts) or ``"log-normal"`` (positive
            targets); or something that makes a head from (in_features, num_outputs, replicas).
        ensemble: number of members, which train together.
        widths: of the hidden layers; the first one's activations are the embedding.
        activation: a name in ``ACTIVATIONS``.
        periodic: number of periodic features of each input, see :class:`~pyro_probmix.models.PeriodicFeatures`; 0 for none.
        encoder: in the place of periodic features and the first layer: a module from [B, d] to [B, width], of which each
            member gets a copy, or something that makes one for all members from (d, members).
        alpha: both shapes of the Beta distribution of the weight with which two rows are fused, all shapes of the Dirichlet
            distribution of more; by default the method's own, which is 0.1 for most.
        beta: spread of the label kernels, on the standardised target; 0 if left out.
        neighbors: K of the methods that fuse with near rows.
        epochs: passes over the rows; by default as many as make about one step a row, or 2500 to 7500 steps, in 20 to
            500 passes. Where the held-out rows show much noise in the middle of 1400 steps, 1400 are the fewest.
        batch_size: rows of a step, even; by default a 64th of the rows, as a power of two, 32 to 256.
        learning_rate: of Adam, at first; it falls to zero along half a cosine.
        validation_fraction: share of the rows that each member holds out, the nearest of 1/2, 1/3, 1/4, ..., another share
            for each as far as they go. The held-out rows choose the epoch and the spread of the density. 0 trains on all
            rows to the end, and so do fewer than 20 rows, or than make a share.
        patience: epochs without a better held-out NLL after which training stops; by default it goes on to the end.
        num_samples: the most draws of the embedding in a prediction, of methods that draw one. The held-out rows, or else the
            training rows, choose as few as cost no more than 0.001 nats a row: none, and the embedding's mean is passed on, or
            2, 4, 8, ...
        warm_start: whether ``fit`` goes on from the weights and scalings of the fit before.
        callbacks: each called after every epoch with its number and the best held-out NLL so far, in nats a row of the
            standardised target; training stops if one returns True.
        verbose: 1 shows a bar.
        random_state: seed or ``numpy.random.RandomState`` of initial weights, shares and training noise.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.

    Attributes:
        n_features_in_, feature_names_in_: as in scikit-learn.
        columns_: the kind of each column of X, and the levels of categories.
        n_outputs_: number of targets d_y.
        density_: the trained density of standardised features and targets.
        likelihood_: the likelihood of the fit, by its name; the one that was given if it has none.
        grid_: the distance of the values that each target can take, as the training targets show it, 0 for a continuous
            one, [d_y].
        n_iter_: number of epochs run.

    Example:
        >>> import numpy as np
        >>> from pyro_probmix import ProbMixRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.uniform(-1, 1, (200, 1))
        >>> y = 2 * X[:, 0] + 0.1 * rng.standard_normal(200)
        >>> model = ProbMixRegressor(ensemble=2, epochs=20, random_state=0).fit(X, y)
        >>> model.predict_interval([[0.0]], 0.9).shape
        (1, 2)
        >>> model.score(X, y) > 0.9
        True
    """

    @property
    def likelihood_(self) -> Likelihood:
        """The likelihood of the last fit."""
        return self._fitted().recipe.likelihood

    @property
    def grid_(self) -> Array:
        """The distance of the values that each target can take, 0 for a continuous one, [d_y]."""
        return np.array(self._fitted().recipe.grid)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One pass over some rows, from the weights as they are. The first call fixes the scalings."""
        return self._partial_fit(X, y, sample_weight)

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

        Args:
            X: features, [n, d].
            quantiles: Q levels in [0, 1].

        Raises:
            ValueError: for a level outside.
        """
        state = self._fitted()
        found = state.of_rows(self._numbers(X, reset=False), lambda part, _: mixture_quantiles(part, quantiles))
        values = found * state.y_scaler.step[:, None] + state.y_scaler.offset[:, None]
        values = self._within_bounds(values.swapaxes(1, 2)).swapaxes(1, 2)
        return values[:, 0] if self._single else values

    @checked()
    def predict_interval(self, X: Any, coverage: float = 0.9, conformal: bool = False) -> Array:
        r"""Lower and upper end of the central interval of each target, [n, 2] or [n, d_y, 2].

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
            return self.predict_quantiles(X, ((1 - coverage) / 2, (1 + coverage) / 2))
        state = self._fitted()
        scores = state.scores
        if scores is None:
            raise ValueError(
                "predict_interval got conformal=True, but no row of the last fit is new to any member: none was held out, a "
                "fit before had trained on them, or the likelihood has no known quantiles. Try fit(X, y, validation=(X_new, "
                "y_new)), or fit(X, y) with at least 20 rows and a validation_fraction."
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
        """Draws from the predictive density, [num_samples, n] or [num_samples, n, d_y], in the targets' units.

        Args:
            X: features, [n, d].
            num_samples: number of draws.
            random_state: seed or ``numpy.random.RandomState``.
        """
        state = self._fitted()
        drawn = self._draws(state, self._numbers(X, reset=False), num_samples, random_state)
        values = self._within_bounds(drawn * state.y_scaler.step + state.y_scaler.offset)
        return values[..., 0] if self._single else values

    def nll(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The mean negative log predictive density of the targets, jointly, in nats a row, in the targets' units.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y].
            sample_weight: [n].
        """
        return self._nll(*self._checked(X, y, sample_weight, reset=False))

    def _nll(self, X: Array, y: Array, weights: Array | None) -> float:
        state = self._fitted()
        log_units = np.log(state.y_scaler.scale) + np.log(state.y_scaler.unit)
        density = ~at_points(state.recipe.support(), state.y_scaler.transform(y))  # a probability has no unit
        return self._mean_nll(state, X, y, weights) + float(np.average(density @ log_units, weights=weights))

    def crps(self, X: Any, y: Any, sample_weight: Any = None) -> float | Array:
        r"""The mean continuous ranked probability score :math:`\int (F(v) - 1[y \le v])^2 dv`, in the targets' units.

        Lower is better. It is a proper score, of a prediction without a spread the absolute error, and no spike of a density
        gains by it. The scores of :class:`ProbMixRegressor` are exact to six digits and more.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y].
            sample_weight: [n].

        Returns:
            a number; of several targets one for each, [d_y].

        References:
            Gneiting and Raftery, 2007, "Strictly proper scoring rules, prediction, and estimation", section 4.2.

        Example:
            >>> X = np.linspace(-1, 1, 60)[:, None]
            >>> model = ProbMixRegressor(ensemble=2, epochs=20, random_state=0).fit(X, X[:, 0] ** 2)
            >>> model.crps(X, X[:, 0] ** 2) < np.abs(X[:, 0] ** 2 - model.predict(X)).mean()
            True
        """
        X, y, weights = self._checked(X, y, sample_weight, reset=False)
        state, scaler = self._fitted(), self._fitted().y_scaler
        standard, low, high = (scaler.transform(values) for values in (y, *self._bounds()))
        scores = state.of_rows(X, lambda part, rows: crps_at(part, standard[rows], low, high)) * scaler.step
        mean = np.average(scores, axis=0, weights=weights)
        return float(mean[0]) if self._single else np.asarray(mean)

    def interval_nll(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        r"""The mean NLL of targets that are known up to rounding, in nats a row, in the targets' units.

        .. math:: -\log \frac{F(y + h / 2) - F(y - h / 2)}{h}

        Here h is the grid of the training targets, ``grid_``. Where targets are rounded, the density's NLL has no lower bound:
        a density of spikes on the grid takes it to minus infinity. This one has the bound :math:`\log h`, and
        can be compared between densities and probabilities of counts. Where there is no grid it is ``nll``. Of several targets
        it is the sum over them.

        Args:
            X: features, [n, d].
            y: targets, [n] or [n, d_y].
            sample_weight: [n].

        References:
            Uria, Murray and Larochelle, 2013, "RNADE", section 5, on densities of rounded data.
        """
        return self._interval_nll(*self._checked(X, y, sample_weight, reset=False))

    def _interval_nll(self, X: Array, y: Array, weights: Array | None) -> float:
        state = self._fitted()
        if self.n_outputs_ == 1 and not state.recipe.grid[0]:
            return self._nll(X, y, weights)
        if weights is not None:
            X, y, weights = (v[weights > 0] for v in (X, y, weights))
        check_targets(state.recipe, y)
        scaler, grid = state.y_scaler, np.array(state.recipe.grid)
        width = np.where(grid > 0, grid, FINE * scaler.step)
        low, high = (scaler.transform(y + sign * width / 2) for sign in (-1, 1))
        low, high = self._open_at_bounds(y, low, high)
        found = state.of_rows(X, lambda part, rows: log_probability_at(part, low[rows], high[rows])) - np.log(width)
        return -float(np.average(found.sum(1), weights=weights))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the targets' variance that the predictions explain, see :func:`sklearn.metrics.r2_score`."""
        check_entries("score", X=X, y=y)
        refuse_dates("score", "y", y)
        y = without_graph(y)
        weights = self._weights(sample_weight, X)
        with only_numbers("y"):
            return float(super().score(X, y, weights))

    @checked()
    def export(self, path: str | os.PathLike[str], quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> None:
        """Writes what it predicts as a program that runs with PyTorch alone, in any number of rows at once.

        The program maps rows [n, d] in double precision to a dict of ``mean`` and ``std``, [n] or [n, d_y], and ``quantiles``,
        [n, Q] or [n, d_y, Q], in the targets' units. Columns of texts and dates stand as numbers, see
        ``columns_``; NaN is a missing value, and a row with an infinite number gives NaN. The file holds names of columns and
        levels as JSON in its extra file ``metadata.json``.

        Args:
            path: ends in .pt2 (``torch.export``), or in .onnx (which needs the packages of the extra ``[onnx]``).
            quantiles: Q levels in [0, 1].

        Raises:
            ValueError: for a level outside, another suffix, or a likelihood or encoder that is no function of tensors alone.
            OSError: if the file cannot be written; what was there before stays.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from pyro_probmix import ProbMixRegressor
            >>> X = np.linspace(-1, 1, 50)[:, None]
            >>> model = ProbMixRegressor(ensemble=2, epochs=2, random_state=0).fit(X, X[:, 0])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.export(f"{folder}/model.pt2")
            ...     program = torch.export.load(f"{folder}/model.pt2").module()
            >>> sorted(program(torch.tensor(X)))
            ['mean', 'quantiles', 'std']
            >>> bool(np.allclose(program(torch.tensor(X))["mean"], model.predict(X), rtol=1e-6))
            True
        """
        levels = [float(level) for level in quantiles]
        if not levels or not all(0 <= level <= 1 for level in levels):
            raise ValueError(f"export got the levels {levels}, expected some in [0, 1]. Try (0.05, 0.5, 0.95).")
        export(self._to_save(), path, levels)

    def _moments(self, X: Any) -> tuple[Array, Array]:
        state = self._fitted()

        def moments(part: PredictiveMixture, _: object) -> Array:
            found: Array = torch.stack([part.mean, part.variance.sqrt()], 1).cpu().numpy()
            return found

        found = state.of_rows(self._numbers(X, reset=False), moments)
        return found[:, 0] * state.y_scaler.step + state.y_scaler.offset, found[:, 1] * state.y_scaler.step

    def _within_bounds(self, values: Array) -> Array:
        """Values [..., d_y] of targets, none beyond their bounds, on which the mass of a density beyond them is put."""
        low, high = self._bounds()
        return np.clip(values, low, high)

    def _open_at_bounds(self, y: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Ends of intervals around targets, infinite at bounds: the mass beyond is put there."""
        lower, upper = self._bounds()
        return np.where(y <= lower, -np.inf, low), np.where(y >= upper, np.inf, high)

    def _shaped(self, values: Array) -> Array:
        return values[:, 0] if self._single else values

    def _is_classification(self) -> bool:
        return False

    def _checked_likelihood(self, of_method: str | None) -> Likelihood:
        if of_method is not None and self.likelihood not in ("auto", of_method):
            raise ValueError(
                f"got likelihood={self.likelihood!r} and method={self.method!r}, whose likelihood is {of_method!r}, expected "
                "one of the two. Try likelihood='auto'."
            )
        likelihood: Likelihood = self.likelihood if of_method is None else of_method
        if likelihood == "categorical":
            raise ValueError(
                "ProbMixRegressor got likelihood='categorical', which is for classes, expected one for numbers. "
                "Try ProbMixClassifier."
            )
        if likelihood != "auto":
            named_likelihood(likelihood)
        return likelihood

    def _choice(self, likelihood: Likelihood, rows: Rows, seed: int, *, once: bool) -> dict[str, Any]:
        if likelihood != "auto":
            choice = describe(rows.y, likelihood)
            return {"likelihood": likelihood, "unit": choice.unit, "grid": choice.grid}
        if not once and len(rows) < FEWEST_ROWS and self.encoder is None and rows.x.ndim == 2:
            return self._linear(rows)
        # The next rows of partial fits may be of any kind.
        choice = describe(rows.y, "student-t") if once else choose(rows.y, partial(self._trial, rows, seed))
        return {"likelihood": choice.likelihood, "grid": choice.grid} if once else asdict(choice)

    def _linear(self, rows: Rows) -> dict[str, Any]:
        """The recipe of a Bayesian linear regression, in the place of networks that so few rows cannot be held against."""
        warnings.warn(
            f"fit got {len(rows)} distinct rows, expected at least {FEWEST_ROWS} for networks whose density is checked by rows "
            "that they do not train on. The density is that of a Bayesian linear regression. Try more rows, or a likelihood by "
            "its name, which trains networks on so few.",
            UserWarning,
            stacklevel=2,
        )
        choice = asdict(describe(rows.y, LINEAR))
        return {**choice, "method": METHODS["ERM"], "members": 1, "widths": (1,), "periodic": 0}

    def _trial(self, rows: Rows, seed: int, likelihood: str) -> float:
        """The interval NLL of some rows, kept aside, under a short fit of a few members to the others."""
        order = np.random.default_rng(seed).permutation(len(rows))
        aside, used = (rows.take(part) for part in np.split(order, [len(rows) // KEPT_ASIDE]))
        size = None if self.batch_size is None else int(self.batch_size)
        epochs = pilot_epochs(len(used), size)
        settings = {
            "likelihood": likelihood,
            "ensemble": min(MEMBERS, int(self.ensemble)),
            "epochs": epochs if self.epochs is None else min(epochs, int(self.epochs)),
            "patience": None, "callbacks": (), "verbose": 0,
        }  # fmt: skip
        try:
            return self._alike(settings, used, seed)._interval_nll(aside.x, aside.y, aside.weights)
        except ValueError:  # not a head for these targets
            return math.inf

    def _num_outputs(self, rows: Rows) -> int:
        return int(rows.y.shape[1])

    def _tensor(self, recipe: Recipe, y: Array) -> Tensor:
        return torch.as_tensor(y, dtype=torch.float64)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Array, Array, Array | None]:
        if y is None:
            raise ValueError("ProbMixRegressor requires y to be passed, but the target y is None. Try fit(X, y).")
        check_entries(type(self).__name__, y=y)
        refuse_dates(type(self).__name__, "y", y)
        X, y = self._numbers(X, reset=reset), without_graph(y)
        with only_numbers("y"):
            targets = np.asarray(_check_y(y, multi_output=True, y_numeric=True, estimator=self), dtype=np.float64)
        check_consistent_length(X, targets)
        single = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        if np.abs(targets).max() > LARGEST_TARGET:
            raise ValueError(
                f"y has values up to {np.abs(targets).max():.3g}, expected at most {LARGEST_TARGET:g} in magnitude. "
                "Try other units."
            )
        if reset:
            self._single, self.n_outputs_ = single, targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {targets.shape[1]} targets, expected the {self.n_outputs_} of the fit. Try y of that shape."
            )
        return X, targets, self._weights(sample_weight, X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
