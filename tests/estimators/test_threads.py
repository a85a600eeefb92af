"""Estimators and densities that several threads use at once: the numbers of one thread, and no handler in a prediction."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from joblib import parallel_backend
from pyro import primitives
from sklearn.model_selection import GridSearchCV

from pyro_probmix import METHODS, ProbMixClassifier, ProbMixRegressor, build_density, predict, to_predictions
from pyro_probmix.inference.predictive.draws import from_noise
from pyro_probmix.inference.predictive.plain import is_plain, plain_density
from pyro_probmix.inference.predictive.prediction import response_density
from pyro_probmix.models import LIKELIHOODS, Gaussian

TINY: dict[str, Any] = {"ensemble": 2, "widths": (8,), "epochs": 3, "periodic": 2, "num_samples": 4}
X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] + 0.1 * X[:, 1]


@cache
def regressor() -> ProbMixRegressor:
    return ProbMixRegressor(**TINY, random_state=0).fit(X, Y)


@cache
def classifier() -> ProbMixClassifier:
    return ProbMixClassifier(**TINY, random_state=0).fit(X, (Y > 0).astype(int))


QUESTIONS: dict[str, Callable[[], Any]] = {
    "mean": lambda: regressor().predict(X, return_std=True)[1],
    "quantiles": lambda: regressor().predict_quantiles(X),
    "sample": lambda: regressor().sample(X, 3, random_state=1),
    "nll": lambda: np.array(regressor().nll(X, Y)),
    "probabilities": lambda: classifier().predict_proba(X),
}


def fitted(seed: int) -> np.ndarray:
    found: np.ndarray = ProbMixRegressor(**TINY, random_state=seed).fit(X, Y).predict(X)
    return found


def test_eight_threads_get_the_answers_of_one() -> None:
    alone = {name: ask() for name, ask in QUESTIONS.items()}
    names = [name for name in QUESTIONS for _ in range(320)]  # 200 for each thread
    np.random.default_rng(0).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: QUESTIONS[name](), names))
    for name, answer in zip(names, answers, strict=True):
        np.testing.assert_array_equal(answer, alone[name], err_msg=name)


def test_fits_and_predictions_at_once_give_the_numbers_of_one_after_the_other() -> None:
    alone = [fitted(seed) for seed in range(4)]
    asked = {name: ask() for name, ask in QUESTIONS.items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        fits = [pool.submit(fitted, seed) for seed in range(4)]
        answers = [(name, pool.submit(QUESTIONS[name])) for _ in range(25) for name in QUESTIONS]
        for one, expected in zip(fits, alone, strict=True):
            np.testing.assert_array_equal(one.result(), expected)
        for name, answer in answers:
            np.testing.assert_array_equal(answer.result(), asked[name])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_search_in_threads_finds_what_a_search_without_finds() -> None:
    def search(backend: str, jobs: int) -> Any:
        with parallel_backend(backend, n_jobs=jobs):
            found = GridSearchCV(ProbMixRegressor(**TINY, random_state=0), {"alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
        return found.cv_results_["mean_test_score"]

    np.testing.assert_array_equal(search("threading", 4), search("sequential", 1))


def test_a_prediction_of_an_estimator_meets_no_handler_of_pyro(monkeypatch: pytest.MonkeyPatch) -> None:
    regressor(), classifier()

    def refuses(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a handler ran")

    monkeypatch.setattr(primitives, "am_i_wrapped", refuses)
    for ask in QUESTIONS.values():
        ask()
    to_predictions(regressor().predict_dist(X), torch.as_tensor(Y))
    with pytest.raises(AssertionError, match="a handler ran"):
        predict(build_density(METHODS["M-ProbMix"], num_features=3, likelihood=Gaussian), torch.as_tensor(X).float())


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
@pytest.mark.parametrize("method", ["ERM", "M-ProbMix", "M-ProbMix*"])
def test_by_tensors_alone_and_by_handlers_the_density_is_the_same(likelihood: str, method: str) -> None:
    make: Any = LIKELIHOODS[likelihood]
    density = build_density(METHODS[method], num_features=3, likelihood=make, num_outputs=2, widths=(8, 4), replicas=2)
    density.eval()
    x = torch.as_tensor(X).float()
    width: Any = density.encoder.out_features
    noise = torch.randn(5, 2, 1, width)

    assert is_plain(density)
    plain, handled = plain_density(density, x, noise), response_density(density, x, from_noise(noise))
    assert plain.batch_shape == handled.batch_shape
    y = handled.sample()
    torch.testing.assert_close(plain.log_prob(y), handled.log_prob(y), rtol=0, atol=0)


def test_a_model_of_pyro_is_asked_by_one_thread_at_a_time() -> None:
    def density(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0))

    x = torch.linspace(-1, 1, 20)
    assert not is_plain(density)
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(lambda _: tuple(predict(density, x, num_samples=3).components.batch_shape), range(200)))
    assert set(shapes) == {(3, 20)}
