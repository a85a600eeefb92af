"""Saved estimators: bit-equal predictions, no code in the file, and a sentence for what is damaged or newer."""

from __future__ import annotations

import copy
import os
import pickle
import resource
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, load

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
TARGETS = {
    "regression": X[:, 0],
    "two targets": X[:, :2],
    "classes": np.where(X[:, 0] > 0, "yes", "no"),
    "counts": rng.poisson(np.exp(X[:, 0])).astype(float),
}


def made(name, **more):
    options: dict[str, Any] = {"ensemble": 2, "widths": (8,), "epochs": 3, "num_samples": 4, "random_state": 0} | more
    if name == "counts":
        options["likelihood"] = "poisson"
    estimator = (ProbMixClassifier if name == "classes" else ProbMixRegressor)(**options)
    return estimator.fit(X, TARGETS[name])


def predictions(model):
    if isinstance(model, ProbMixClassifier):
        return [model.predict_proba(X), model.predict(X), model.sample(X, 3, random_state=0)]
    return [*model.predict(X, return_std=True), model.predict_quantiles(X), model.sample(X, 3, random_state=0)]


def assert_same(first, second):
    for one, two in zip(predictions(first), predictions(second), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", TARGETS)
def test_predictions_are_equal_bit_for_bit(name, tmp_path):
    model = made(name)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert_same(model, again)
    assert again.get_params() == model.get_params() and list(tmp_path.iterdir()) == [tmp_path / "model"]
    assert_same(model, pickle.loads(pickle.dumps(model)))
    joblib.dump(model, tmp_path / "joblib")
    assert_same(model, joblib.load(tmp_path / "joblib"))


@pytest.mark.parametrize("method", ["ERM", "M-ProbMix*", "LocMix"])
def test_methods(method, tmp_path):
    model = made("regression", method=method)
    model.save(tmp_path / "model")
    assert_same(model, load(tmp_path / "model"))


def test_a_loaded_model_goes_on_training(tmp_path):
    model = made("regression", warm_start=True)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert_same(copy.deepcopy(model).fit(X, TARGETS["regression"]), again.fit(X, TARGETS["regression"]))


def test_code_of_ones_own_is_given_again(tmp_path):
    model = made("regression", encoder=torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh()))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"its own encoder, whose code is not in the file.*Try load\(path, encoder="):
        load(tmp_path / "model")
    assert_same(model, load(tmp_path / "model", encoder=torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh())))
    made("regression").save(tmp_path / "plain")
    with pytest.raises(ValueError, match="was made with no encoder"):
        load(tmp_path / "plain", encoder=torch.nn.Linear(3, 5))


def test_damaged_newer_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "model"
    made("regression").save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 4
    renamed = whole.replace(b"ProbMixRegressor", b"ProbMixRegressos")
    assert renamed != whole
    for damaged in (whole[:-7], whole[:30], b"", os.urandom(200), bytes(flipped), renamed, pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Try "):
            load(path)
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 2'))
    with pytest.raises(ValueError, match=r"newer|format 2"):
        load(path)
    with pytest.raises(ValueError, match="there is no file"):
        load(tmp_path / "none")


def test_a_full_disk_keeps_what_was_there(tmp_path):
    path, model = tmp_path / "model", made("regression")
    model.save(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match="could not be written"):
            made("two targets").save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_unfitted_estimator_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        ProbMixRegressor().save(tmp_path / "model")
