"""Regression: a calibrated density of one or several targets from a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.estimators.base import Checked, ProbMixEstimator
from pyro_probmix.estimators.ensemble.censoring import ends_of
from pyro_probmix.estimators.ensemble.network import Likelihood, Recipe
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.likelihood_choice import LikelihoodChoice
from pyro_probmix.estimators.parameters import check_entries, only_numbers, refuse_dates, without_graph
from pyro_probmix.estimators.predictions import Predictions
from pyro_probmix.estimators.saving.programs import export
from pyro_probmix.estimators.scores import Scores

__all__ = ["ProbMixRegressor"]

#: The squares of larger targets overflow.
LARGEST_TARGET = 1e150


class ProbMixRegressor(Predictions, Scores, LikelihoodChoice, RegressorMixin, ProbMixEstimator):  # type: ignore[misc] # scikit-learn is not annotated
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
        periodic: number of periodic features of each input, see :class:`~pyro_probmix.models.PeriodicFeatures`, of one half of
            the members, and of piecewise linear ones, between quantiles of the input, of the other half; 0 for none. A single
            member has periodic ones. By default 8, and none for fewer than 600 rows of a table with categories, where they
            follow noise.
        encoder: in the place of periodic features and the first layer: a module from [B, d] to [B, width], of which each
            member gets a copy, or something that makes one for all members from (d, members).
        alpha: both shapes of the Beta distribution of the weight with which two rows are fused, all shapes of the Dirichlet
            distribution of more; by default the method's own, which is 0.1 for most.
        beta: spread of the label kernels, on the standardised target; 0 if left out.
        neighbors: K of the methods that fuse with near rows.
        epochs: passes over the rows; by default as many as make about one step a row, or 2500 to 7500 steps, in 20 to
            500 passes. Where the held-out rows show much noise in the middle of 1150 steps, 1150 are the fewest.
        batch_size: rows of a step, even; by default a 64th of the rows, as a power of two, 32 to 256.
        learning_rate: of Adam, at first; it falls to zero along half a cosine. By default 0.005, and for more than 1500 rows
            less by the root of their number, down to 0.002.
        validation_fraction: share of the rows that each member holds out, the nearest of 1/2, 1/3, 1/4, ..., another share
            for each as far as they go. The held-out rows choose the epoch and the spread of the density. 0 trains on all
            rows to the end, and so do fewer than 20 rows, or than make a share.
        patience: epochs without a better held-out NLL after which training stops; by default it goes on to the end.
        num_samples: the most draws of the embedding in a prediction, of methods that draw one. The held-out rows, or else the
            training rows, choose as few as cost no more than 0.001 nats a row: none, and the embedding's mean is passed on, or
            2, 4, 8, ...
        neighbors_pool: the most of the nearest training rows whose kernels are pooled with the density of one real target,
            where that is better on the held-out rows, by which half as many may be chosen; and those that may be copied, see
            ``docs/likelihoods.md``; 0 for none.
        warm_start: whether ``fit`` goes on from the weights and scalings of the fit before.
        callbacks: each called after every epoch with its number and the best held-out NLL so far, in nats a row of the
            standardised target (infinite before the first score; of a target of few values the NLL of what is rounded to
            them); training stops if one returns True, once it has a score.
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

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        y_upper: Any = None,
        validation: tuple[Any, ...] | None = None,
    ) -> Self:
        """Fits all members.

        Args:
            X: features, [n, d]: an array of numbers, or a table of pandas, polars or Arrow with numbers, truth values, texts,
                categories, dates, times and durations as they are. NaN and None are missing values. With an encoder finite
                numbers alone, also [n, ..., d].
            y: targets, [n] or [n, d_y]; with ``y_upper`` the lower end of each, minus infinity where none is known.
            sample_weight: [n], at least 0. A row of weight k is a row given k times; only their ratios matter, but below 20
                distinct rows, where whole weights are numbers of rows.
            y_upper: of targets that are known up to an interval the upper end of each, in the shape and the units of ``y``:
                y itself where a target is known, infinity where it is known from below alone (right-censored). Training and
                held-out rows are then scored by the likelihood of what is known, the density of a known target and the
                probability of what lies between its ends. What is known has to be independent of the target, given the
                features and that the target lies there.
            validation: rows (X, y), (X, y, sample_weight) or (X, y, sample_weight, y_upper) that choose the epoch and the
                spread. By default each member holds out a share of the training rows.

        Raises:
            ValueError: for data or parameters that do not fit; the sentence says which.

        References:
            Tobin, 1958, "Estimation of relationships for limited dependent variables"; Kalbfleisch and Prentice, 2002, "The
            statistical analysis of failure time data", section 3.2, on what censoring has to be independent of.

        Example:
            >>> import numpy as np
            >>> from pyro_probmix import ProbMixRegressor
            >>> rng = np.random.default_rng(0)
            >>> X = rng.uniform(0, 1, (300, 1))
            >>> life = np.exp(X[:, 0] + 0.2 * rng.standard_normal(300))
            >>> seen = np.minimum(life, 2.0)  # who lives on at 2 is known to live longer
            >>> model = ProbMixRegressor(ensemble=2, epochs=30, random_state=0)
            >>> model = model.fit(X, seen, y_upper=np.where(life > 2.0, np.inf, seen))
            >>> bool(model.predict([[1.0]])[0] > 2.0)
            True
        """
        return self._fit(X, y, sample_weight, validation, y_upper=y_upper)

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
            >>> import numpy as np, torch
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

    def _is_classification(self) -> bool:
        return False

    def _num_outputs(self, rows: Rows) -> int:
        return int(rows.y.shape[1])

    def _tensor(self, recipe: Recipe, y: Array) -> Tensor:
        return torch.as_tensor(y, dtype=torch.float64)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None, y_upper: Any = None
    ) -> Checked:
        if y is None:
            raise ValueError("ProbMixRegressor requires y to be passed, but the target y is None. Try fit(X, y).")
        for name, given in (("y", y), ("y_upper", y_upper)):
            if given is not None:
                check_entries(type(self).__name__, **{name: given})
                refuse_dates(type(self).__name__, name, given)
        X, y, ends = self._numbers(X, reset=reset), without_graph(y), None
        if y_upper is not None:
            with only_numbers("y or y_upper"):
                y, ends = ends_of(y, without_graph(y_upper))
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
        return X, targets, self._weights(sample_weight, X), ends

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
