"""The regressor in the interface of ScoringBench, a benchmark of predictive distributions; see docs/measured_by_others.md.

Copied into its folder ``scoringbench/univariate/wrappers``, it needs nothing else but the installed package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scoringbench.univariate.wrappers.base import DistributionPrediction, ProbabilisticWrapper

from pyro_probmix import ProbMixRegressor

__all__ = ["ProbMixWrapper"]

#: Both tails reach as far as a density is of use to a score.
LEVELS = np.concatenate([[0.0005, 0.002, 0.005], np.arange(1, 100) / 100, [0.995, 0.998, 0.9995]])


class ProbMixWrapper(ProbabilisticWrapper):
    """A regressor whose predictive distributions are handed over as quantiles.

    Args:
        **parameters: of :class:`~pyro_probmix.ProbMixRegressor`; the seed is 0 unless another ``random_state`` is given.
    """

    def __init__(self, **parameters: Any) -> None:
        self._model = ProbMixRegressor(**{"random_state": 0, **parameters})

    def fit(self, X: Any, y: Any) -> ProbMixWrapper:
        """Fits the rows whose target is a finite number; columns of texts and missing values stay as they are."""
        targets = np.asarray(y, dtype=float).reshape(-1)
        finite = np.isfinite(targets)
        self._set_train_range(targets)
        self._model.fit(X[finite], targets[finite])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The means, [n]."""
        return np.asarray(self._model.predict(X), dtype=float)

    def predict_distribution(self, X: Any) -> DistributionPrediction:
        """The quantiles at :data:`LEVELS`, and the means."""
        quantiles = self._model.predict_quantiles(X, LEVELS)
        return DistributionPrediction.from_multi_quantile(
            quantiles, LEVELS, mean=self.predict(X), train_range=self._y_train_range
        )
