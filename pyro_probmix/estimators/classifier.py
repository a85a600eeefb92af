"""Classification: calibrated class probabilities from a table."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyro.distributions as dist
import torch
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.estimators.base import Checked, ProbMixEstimator
from pyro_probmix.estimators.doubt.parts import Parts, entropy_parts
from pyro_probmix.estimators.ensemble.network import Likelihood, Recipe, named_likelihood
from pyro_probmix.estimators.ensemble.rows import Array, Rows
from pyro_probmix.estimators.parameters import check_entries, only_numbers, refuse_missing, without_graph
from pyro_probmix.estimators.saving.programs import export
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

__all__ = ["ProbMixClassifier"]


class ProbMixClassifier(ClassifierMixin, ProbMixEstimator):  # type: ignore[misc] # scikit-learn is not annotated
    r"""Class probabilities given features, by an ensemble of networks trained with a mixup method.

    What is not listed here is as for :class:`ProbMixRegressor`.

    Args:
        likelihood: ``"categorical"`` (the default), or ``"bernoulli"`` for two classes; or something that makes a head with
            such a density from (in_features, num_outputs, replicas).
        periodic: number of periodic features of each input, which all members have.
        neighbors_pool: has no part in probabilities of classes.
        beta: bias of the label kernels; 0.01 if left out. At 0 the expectation over the two labels is trained on.

    Attributes:
        classes_: the sorted classes, [K].
        n_features_in_, feature_names_in_, columns_, density_, n_iter_: see :class:`ProbMixRegressor`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from pyro_probmix import ProbMixClassifier
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = ProbMixClassifier(ensemble=2, epochs=20, random_state=0).fit(X, y)
        >>> model.predict_proba(X[:2]).shape
        (2, 3)
        >>> model.score(X, y) > 0.9
        True
    """

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One pass over some rows, from the weights as they are. The first call fixes the scalings.

        Args:
            X, y, sample_weight: see :meth:`fit`.
            classes: all classes that will come; needed in the first call unless ``y`` has all of them.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable class, [n]."""
        probabilities = self.predict_proba(X)
        chosen: npt.NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return chosen

    def predict_proba(self, X: Any) -> Array:
        """The probabilities of the classes, [n, K], in the order of ``classes_``."""
        state = self._fitted()
        mean = state.of_rows(self._numbers(X, reset=False), lambda part, _: part.probs.cpu().numpy())
        probabilities = mean if mean.shape[1] == len(self.classes_) else np.hstack([1 - mean, mean])
        normalised: Array = probabilities / probabilities.sum(1, keepdims=True)
        return normalised

    def predict_entropy(self, X: Any) -> Parts:
        """The entropy of the predicted class in two parts, each [n], in nats.

        ``between``, the mutual information of class and member, is the doubt that more data would take away. ``within``, the
        mean entropy of the members' own predictions, is that of classes that overlap. Their sum is the entropy of
        ``predict_proba``. Both are estimates: see :meth:`ProbMixRegressor.predict_variance`.

        Args:
            X: features, [n, d].
        """
        found = self._fitted().of_rows(self._numbers(X, reset=False), lambda part, _: entropy_parts(part))
        return Parts(found[:, 0], found[:, 1])

    def predict_log_proba(self, X: Any) -> Array:
        """The log probabilities of the classes, [n, K], in nats and in the order of ``classes_``.

        They are finite, and exact, also where a probability is too small for a number of its own.
        """
        state = self._fitted()
        device = next(state.density.parameters()).device

        def of_each(part: PredictiveMixture, rows: npt.NDArray[np.int64]) -> Array:
            codes = [np.full((len(rows), 1), float(k)) for k in range(len(self.classes_))]
            found = [part.log_prob(self._tensor(state.recipe, code).to(device)) for code in codes]
            stacked: Array = torch.stack(found, -1).cpu().numpy()
            return stacked

        log_probabilities = state.of_rows(self._numbers(X, reset=False), of_each)
        log_probabilities -= logsumexp(log_probabilities, axis=1, keepdims=True)
        return log_probabilities

    def predict_dist(self, X: Any) -> dist.Categorical:
        """The predictive distribution of the position in ``classes_``, as a Pyro distribution with batch shape [n]."""
        return dist.Categorical(probs=torch.as_tensor(self.predict_proba(X)))

    def sample(self, X: Any, num_samples: int = 100, random_state: Any = None) -> npt.NDArray[Any]:
        """Draws of the class, [num_samples, n].

        Args:
            X: features, [n, d].
            num_samples: number of draws.
            random_state: seed or ``numpy.random.RandomState``.
        """
        state = self._fitted()
        drawn = self._draws(state, self._numbers(X, reset=False), num_samples, random_state)
        positions = drawn.reshape(*drawn.shape[:2]).astype(np.int64)
        classes: npt.NDArray[Any] = self.classes_[positions]
        return classes

    def nll(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The mean negative log probability of the classes, in nats a row (the log loss).

        Args:
            X: features, [n, d].
            y: classes, [n].
            sample_weight: [n].
        """
        state = self._fitted()
        return self._mean_nll(state, *self._checked(X, y, sample_weight, reset=False))

    @checked()
    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes the probabilities as a program that runs with PyTorch alone; see :meth:`ProbMixRegressor.export`.

        It maps rows [n, d] in double precision to a dict of ``probabilities``, [n, K], in the order of the classes in
        ``metadata.json``.

        Args:
            path: ends in .pt2 or .onnx.

        Raises:
            ValueError: for another suffix, or a likelihood or encoder that is no function of tensors alone.
            OSError: if the file cannot be written; what was there before stays.
        """
        export(self._to_save(), path, None)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose class is predicted, see :func:`sklearn.metrics.accuracy_score`."""
        check_entries("score", X=X, y=y)
        y = without_graph(y)
        refuse_missing("y", y)
        weights = self._weights(sample_weight, X)
        with only_numbers("y"):
            return float(super().score(X, y, weights))

    def _is_classification(self) -> bool:
        return True

    def _checked_likelihood(self, of_method: str | None) -> Likelihood:
        likelihood: Likelihood = "categorical" if self.likelihood == "auto" else self.likelihood
        if isinstance(likelihood, str) and likelihood not in ("categorical", "bernoulli"):
            raise ValueError(
                f"ProbMixClassifier got likelihood={likelihood!r}, expected 'categorical' or 'bernoulli'. "
                "Try likelihood='categorical', or ProbMixRegressor."
            )
        if likelihood == "bernoulli" and len(self.classes_) > 2:
            raise ValueError(
                f"ProbMixClassifier got likelihood='bernoulli' for {len(self.classes_)} classes, expected two. "
                "Try likelihood='categorical'."
            )
        named_likelihood(likelihood)
        return likelihood

    def _num_outputs(self, rows: Rows) -> int:
        return 1 if self.likelihood == "bernoulli" else len(self.classes_)

    def _tensor(self, recipe: Recipe, y: Array) -> Tensor:
        if recipe.likelihood == "bernoulli":
            return torch.as_tensor(y, dtype=torch.float64)
        return torch.as_tensor(y[..., 0], dtype=torch.long)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None, y_upper: Any = None
    ) -> Checked:
        if y_upper is not None:
            raise ValueError(
                "ProbMixClassifier got upper ends of the targets, expected classes alone. Try ProbMixRegressor."
            )
        if y is None:
            raise ValueError("ProbMixClassifier requires y to be passed, but the target y is None. Try fit(X, y).")
        check_entries(type(self).__name__, y=y)
        X, y = self._numbers(X, reset=reset), without_graph(y)
        refuse_missing("y", y)
        dtype: Any = getattr(y, "dtype", None)
        own = pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_numeric_dtype(dtype)
        if own and not pd.isna(y).any():
            # Truth values and whole numbers of pandas stay such: NumPy would make floating-point numbers of them.
            y = np.asarray(y.tolist())
        with only_numbers("y"):
            labels = _check_y(y, multi_output=False, y_numeric=False, estimator=self)
        check_consistent_length(X, labels)
        with np.errstate(invalid="ignore"):  # it looks for whole numbers by converting them, however large
            check_classification_targets(labels)
        weights = self._weights(sample_weight, X)
        if reset:
            # Rows of weight 0 are as if they were not there, and so are their classes.
            counted = labels if weights is None else labels[weights > 0]
            self.classes_ = np.unique(counted if classes is None else np.asarray(classes))
        codes = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        unknown = self.classes_[codes] != labels
        if weights is not None:
            unknown &= weights > 0
        if unknown.any():
            raise ValueError(
                f"y holds the class {labels[unknown][:1].tolist()[0]!r}, expected one of {self.classes_[:10].tolist()}. "
                "Try fitting on rows of all classes."
            )
        return X, codes.astype(np.float64)[:, None], weights, None
