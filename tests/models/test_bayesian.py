"""The Bayesian linear head against the multivariate t distribution, and on tables of a handful of rows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_probmix import ProbMixRegressor, load
from pyro_probmix.models.likelihoods import bayesian
from pyro_probmix.models.likelihoods.bayesian import BayesianLinear


def test_the_predictive_is_the_ratio_of_two_evidences(monkeypatch: pytest.MonkeyPatch) -> None:
    """p(y* | y) as a function of y* is p(y, y*), a multivariate t distribution, with a very wide prior of the intercept."""
    rng = np.random.default_rng(0)
    n, precision = 7, 0.4
    monkeypatch.setattr(bayesian, "PRECISIONS", (precision / n,))
    x, new = rng.normal(size=(n, 2)), rng.normal(size=2)
    y = x @ [1.0, -0.5] + 0.3 * rng.normal(size=n)
    head = BayesianLinear(2).double()
    head.learn(torch.tensor(x), torch.tensor(y)[:, None], torch.ones(n))
    grid = np.linspace(-4, 4, 9)
    found = head(torch.tensor(new)[None]).log_prob(torch.tensor(grid)[:, None, None])[:, 0].numpy()
    both = np.vstack([x, new]) - x.mean(0)
    shape = bayesian.SHAPE - 0.5  # a proper prior of the intercept brings half a degree more than a flat one
    scale = bayesian.RATE / n / shape * (np.eye(n + 1) + both @ both.T / precision + 1e7)
    joint = stats.multivariate_t(np.zeros(n + 1), scale, df=round(2 * shape))
    wanted = np.array([joint.logpdf(np.append(y, value)) for value in grid])
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], atol=1e-4)


def few(X: Any, y: Any) -> Any:
    with pytest.warns(UserWarning, match=r"distinct rows, expected at least 20 .*Bayesian linear .*Try more rows"):
        return ProbMixRegressor(random_state=0).fit(X, y)


@pytest.mark.parametrize("rows", [2, 3, 8, 19])
@pytest.mark.parametrize(("columns", "signal"), [(1, 0.0), (4, 1.0), (30, 1.0)])
def test_few_rows_are_never_much_worse_than_the_targets_alone(rows: int, columns: int, signal: float) -> None:
    rng = np.random.default_rng(rows + 100 * columns)
    found, alone, covered = [], [], []
    for _ in range(8):
        X, noise = rng.normal(size=(rows + 400, columns)), rng.normal(size=rows + 400)
        y = 50 + 10 * (signal * X[:, 0] + 0.3 * noise)
        model = few(X[:rows], y[:rows])
        low, high = model.predict_interval(X[rows:], 0.9).T
        found.append(model.nll(X[rows:], y[rows:]))
        spread = y[:rows].std(ddof=1) * np.sqrt(1 + 1 / rows)
        alone.append(-stats.t.logpdf(y[rows:], rows - 1, y[:rows].mean(), spread).mean())
        covered.append(np.mean((low <= y[rows:]) & (y[rows:] <= high)))
    error = np.std(np.subtract(found, alone)) / np.sqrt(8)
    assert np.mean(found) <= np.mean(alone) + (0.6 if rows < 4 else 0.15) + 3 * error
    assert np.mean(covered) > (0.75 if rows > 3 else 0.5)


def test_few_rows_with_texts_weights_and_several_targets_are_saved(tmp_path: Path) -> None:
    import pandas as pd

    X = pd.DataFrame({"size": np.arange(12.0), "kind": list("abc" * 4)})
    y = np.stack([3 * X["size"], X["kind"].map({"a": 0.0, "b": 5.0, "c": 9.0})], 1) + np.sin(np.arange(24)).reshape(
        12, 2
    )
    with pytest.warns(UserWarning, match="12 distinct rows"):
        model = ProbMixRegressor(random_state=0).fit(X, y, sample_weight=np.arange(1.0, 13.0))
    assert model.likelihood_ == "bayesian-linear" and model.n_iter_ == 0
    assert model.score(X, y) > 0.8
    model.save(tmp_path / "model")
    again: Any = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_quantiles(X), model.predict_quantiles(X))


@pytest.mark.parametrize("given", ["repeated", "weights"])
def test_rows_that_recur_count_as_often(given: str) -> None:
    X, y, often = np.array([[0.0], [1.0]]), np.array([1.0, 2.0]), np.array([20, 20])
    rows = (X.repeat(often, 0), y.repeat(often), None) if given == "repeated" else (X, y, often)
    with pytest.warns(UserWarning, match="2 distinct rows"):
        model = ProbMixRegressor(random_state=0).fit(*rows)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, y, atol=0.01)
    assert (std < 0.1).all()
    # Shares of a whole say nothing of how many rows there were.
    once, shares = few(X, y), ProbMixRegressor(random_state=0)
    with pytest.warns(UserWarning, match="2 distinct rows"):
        shares.fit(X, y, [0.5, 0.5])
    np.testing.assert_allclose(shares.predict(X), once.predict(X), rtol=1e-12)
    assert (once.predict(X, return_std=True)[1] > 0.5).all()


def test_a_fit_of_more_rows_or_a_likelihood_by_its_name_trains_networks() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    tiny: dict[str, Any] = {"ensemble": 2, "epochs": 2, "widths": (8, 8), "random_state": 0}
    model = ProbMixRegressor(**tiny, warm_start=True)
    with pytest.warns(UserWarning, match="12 distinct rows"):
        model.fit(X[:12], X[:12, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(X, X[:, 0]).likelihood_ == "student-t"
        assert ProbMixRegressor(**tiny, likelihood="gaussian").fit(X[:12], X[:12, 0]).n_iter_ == 2
