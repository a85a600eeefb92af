"""The estimators as a model of AutoGluon, which is TabArena's interface; see docs/measured_by_others.md.

Needs ``autogluon.tabular`` beside the installed package, and TabArena for its tasks.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
import torch
from autogluon.core.constants import BINARY, MULTICLASS, QUANTILE, REGRESSION
from autogluon.core.models import AbstractModel

from pyro_probmix import ProbMixClassifier, ProbMixRegressor

__all__ = ["ProbMixModel"]


class ProbMixModel(AbstractModel):  # type: ignore[misc] # AutoGluon is not annotated
    """The mean of a regression, its quantiles at AutoGluon's levels, or the probabilities of classes.

    Categories and missing values stay as they are. The validation rows, if there are any, choose the epoch and the spread.
    Hyperparameters are those of the estimators.
    """

    ag_key = "PROBMIX"
    ag_name = "ProbMix"
    ag_priority = 40
    seed_name = "random_state"
    _default_auxiliary_params_extra: ClassVar[dict[str, Any]] = {"valid_raw_types": ["int", "float", "category"]}

    @classmethod
    def supported_problem_types(cls) -> list[str]:
        return [REGRESSION, QUANTILE, BINARY, MULTICLASS]

    @classmethod
    def config_generator(cls) -> Any:
        """For a bundle of TabArena's experiments: the default, and a space to search."""
        from autogluon.common.space import Categorical
        from tabarena.utils.config_utils import ConfigGenerator

        space = {"method": Categorical("M-ProbMix", "ERM", "ProbMix"), "alpha": Categorical(0.1, 0.3, 1.0)}
        return ConfigGenerator(model_cls=cls, manual_configs=[{}], search_space=space)

    def _fit(
        self,
        X: Any,
        y: Any,
        X_val: Any = None,
        y_val: Any = None,
        time_limit: float | None = None,
        num_cpus: int = 1,
        sample_weight: Any = None,
        sample_weight_val: Any = None,
        **_: Any,
    ) -> None:
        """Fits in at most the time, in seconds, if that is enough for some passes over the rows."""
        begin, given = time.monotonic(), self._get_model_params()
        if time_limit is not None:
            given["callbacks"] = [lambda epoch, nll: time.monotonic() - begin > 0.9 * time_limit]
        model = ProbMixRegressor if self.problem_type in (REGRESSION, QUANTILE) else ProbMixClassifier
        X = self.preprocess(X, is_train=True)
        validation: tuple[Any, ...] | None = None
        if X_val is not None:
            weights = () if sample_weight_val is None else (np.asarray(sample_weight_val),)
            validation = (self.preprocess(X_val), np.asarray(y_val), *weights)
        threads = torch.get_num_threads()
        torch.set_num_threads(num_cpus)
        try:
            self.model = model(**given)
            self.model.fit(X, np.asarray(y), sample_weight, validation=validation)
        finally:
            torch.set_num_threads(threads)
        self.model.callbacks = ()  # what is stored with the model has no use for it

    def _predict_proba(self, X: Any, **kwargs: Any) -> np.ndarray:
        if self.problem_type == QUANTILE:
            return np.asarray(self.model.predict_quantiles(self.preprocess(X, **kwargs), self.quantile_levels))
        return np.asarray(super()._predict_proba(X, **kwargs))
