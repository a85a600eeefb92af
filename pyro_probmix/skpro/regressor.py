"""A probabilistic regressor of skpro around :class:`~pyro_probmix.ProbMixRegressor`."""

from __future__ import annotations

__all__ = ["ProbMixProbaRegressor"]

import inspect
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from skpro.regression.base import BaseProbaRegressor

from pyro_probmix.estimators.regressor import ProbMixRegressor
from pyro_probmix.skpro.distribution import PredictiveDistribution

_SIGNATURE = inspect.signature(ProbMixRegressor.__init__)


class ProbMixProbaRegressor(BaseProbaRegressor):  # type: ignore[misc] # skpro is not annotated
    """The density of numeric targets given features, by skpro's interface.

    It takes the parameters of :class:`~pyro_probmix.ProbMixRegressor`, which does the work. ``predict_proba`` gives a
    :class:`PredictiveDistribution`; ``predict``, ``predict_interval``, ``predict_quantiles`` and ``predict_var`` are of that
    distribution, also of targets of few values, such as grades, before they are rounded to these; ``estimator_`` rounds them.
    Several targets are fitted together. ``update`` is one pass over further rows.

    Args:
        method, likelihood, ensemble, ...: see :class:`~pyro_probmix.ProbMixRegressor`.

    Attributes:
        estimator_: the fitted :class:`~pyro_probmix.ProbMixRegressor`.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from pyro_probmix.skpro import ProbMixProbaRegressor
        >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
        >>> model = ProbMixProbaRegressor(ensemble=2, epochs=10, random_state=0).fit(X[:400], y[:400].to_frame())
        >>> model.predict_proba(X[400:]).shape
        (42, 1)
        >>> model.predict_interval(X[400:], coverage=0.9).columns.tolist()
        [('target', 0.9, 'lower'), ('target', 0.9, 'upper')]
    """

    _tags: ClassVar[dict[str, Any]] = {
        "capability:multioutput": True,
        "capability:missing": False,
        "capability:update": True,
        "capability:survival": False,
        "X_inner_mtype": "pd_DataFrame_Table",
        "y_inner_mtype": "pd_DataFrame_Table",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _SIGNATURE.bind(self, *args, **kwargs)
        given.apply_defaults()
        for name, value in list(given.arguments.items())[1:]:
            setattr(self, name, value)
        super().__init__()

    # skpro, as scikit-learn, reads the parameters from here: those of the estimator, with their defaults.
    __init__.__signature__ = _SIGNATURE  # type: ignore[attr-defined]

    def _fit(self, X: pd.DataFrame, y: pd.DataFrame, C: Any = None) -> Self:
        self._targets = y.columns
        self.estimator_ = ProbMixRegressor(**self.get_params(deep=False)).fit(_features(X), _numbers(y))
        return self

    def _update(self, X: pd.DataFrame, y: pd.DataFrame, C: Any = None) -> Self:
        self.estimator_.partial_fit(_features(X), _numbers(y))
        return self

    def _predict(self, X: pd.DataFrame) -> pd.DataFrame:
        return self._frame(X, self.estimator_.predict(_features(X)))

    def _predict_var(self, X: pd.DataFrame) -> pd.DataFrame:
        return self._frame(X, self.estimator_.predict(_features(X), return_std=True)[1] ** 2)

    def _predict_quantiles(self, X: pd.DataFrame, alpha: list[float]) -> pd.DataFrame:
        values = self.estimator_._quantiles(_features(X), alpha, recorded=False)  # [n, (d_y,) Q]
        columns = pd.MultiIndex.from_product([self._targets, alpha])
        return pd.DataFrame(values.reshape(len(X), -1), index=X.index, columns=columns)

    def _predict_proba(self, X: pd.DataFrame) -> PredictiveDistribution:
        mixture = self.estimator_.predict_dist(_features(X))
        return PredictiveDistribution(mixture, index=X.index, columns=self._targets)

    def _frame(self, X: pd.DataFrame, values: Any) -> pd.DataFrame:
        return pd.DataFrame(np.asarray(values).reshape(len(X), -1), index=X.index, columns=self._targets)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters of instances that skpro's checks are run on.

        Args:
            parameter_set: is not looked at.

        Returns:
            arguments of two instances, small ones.
        """
        tiny: dict[str, Any] = {"ensemble": 2, "widths": (8, 4), "periodic": 0, "epochs": 4, "num_samples": 3}
        return [{**tiny, "random_state": 0}, {**tiny, "method": "ERM", "likelihood": "student-t"}]


def _features(X: pd.DataFrame) -> pd.DataFrame:
    """The features under names that are texts, as the estimator keeps them."""
    return X.set_axis([str(name) for name in X.columns], axis=1)


def _numbers(y: pd.DataFrame) -> Any:
    """The targets, [n] or [n, d_y]."""
    return y.iloc[:, 0].to_numpy() if y.shape[1] == 1 else y.to_numpy()
