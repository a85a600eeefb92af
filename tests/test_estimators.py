"""The estimators: scikit-learn's own checks, and what they promise beside."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from pyro_probmix import ProbMixClassifier, ProbMixRegressor

TINY: dict[str, Any] = {
    "ensemble": 2,
    "widths": (16, 8),
    "periodic": 2,
    "epochs": 12,
    "num_samples": 4,
    "learning_rate": 0.03,
}


@parametrize_with_checks([ProbMixRegressor(**TINY), ProbMixClassifier(**TINY)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
