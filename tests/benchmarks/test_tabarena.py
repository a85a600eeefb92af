"""The estimators as a model of AutoGluon, by its own predictor; run by ``make test-autogluon``."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import r2_score

pytest.importorskip("autogluon.tabular", reason="needs autogluon.tabular, as in `make test-autogluon`")

from autogluon.tabular import TabularPredictor

from benchmarks.tabarena import ProbMixModel

SMALL = {"ensemble": 2, "widths": (16, 8), "epochs": 15}
pytestmark = pytest.mark.timeout(600)
LEVELS = [0.05, 0.5, 0.95]


def predictor(folder, label, frame, hyperparameters=SMALL, fit=(), **options):
    made = TabularPredictor(label, path=str(folder), verbosity=0, **options)
    return made.fit(
        frame, hyperparameters={ProbMixModel: dict(hyperparameters)}, fit_weighted_ensemble=False, **dict(fit)
    )


@pytest.fixture(scope="module")
def table():
    """A table with a category and missing values."""
    frame = load_diabetes(as_frame=True).frame.sample(frac=1, random_state=0, ignore_index=True)
    frame.loc[::7, "bmi"] = np.nan
    return frame.assign(sex=np.where(frame["sex"] > 0, "a", "b"))


def test_the_mean_and_the_quantiles_of_a_regression(table, tmp_path):
    train, test = table[:300], table[300:]
    mean = predictor(tmp_path / "mean", "target", train)
    assert r2_score(test["target"], mean.predict(test)) > 0.3  # boosted trees reach 0.4 here
    again = TabularPredictor.load(str(tmp_path / "mean"))
    assert np.array_equal(mean.predict(test), again.predict(test))
    quantiles = predictor(tmp_path / "q", "target", train, problem_type="quantile", quantile_levels=LEVELS)
    low, middle, high = quantiles.predict(test).to_numpy().T
    assert (low < middle).all() and (middle < high).all()
    share = np.mean((low <= test["target"]) & (test["target"] <= high))
    assert abs(share - 0.9) < 0.09  # four standard errors, of training and test rows


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probabilities_of_classes_with_bags(classes, tmp_path):
    frame = load_iris(as_frame=True).frame.query("target < @classes").sample(frac=1, random_state=0)
    found = predictor(
        tmp_path,
        "target",
        frame,
        fit={"num_bag_folds": 2, "ag_args_ensemble": {"fold_fitting_strategy": "sequential_local"}},
    )
    probabilities = found.predict_proba(frame)
    assert probabilities.shape == (len(frame), classes) and np.allclose(probabilities.sum(axis=1), 1)
    assert found.evaluate(frame)["accuracy"] > 0.9


def test_it_ends_in_time_and_the_seed_is_passed_on(table, tmp_path):
    found = predictor(
        tmp_path, "target", table[:300], {**SMALL, "epochs": 100_000, "random_state": 5}, fit={"time_limit": 15}
    )
    (name,) = found.model_names()
    model = found._trainer.load_model(name)
    assert model.fit_time < 15 and model.model.random_state == 5 and model.model.callbacks == ()
    assert np.isfinite(found.predict(table[300:])).all()
