"""The wrapper for ScoringBench, which is not installed here: beside stand-ins of the two classes that it takes from there."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scoringbench.py"


@dataclass
class DistributionPrediction:
    """As in ScoringBench: quantiles q [n, K] at the levels [K], and means [n]."""

    q: np.ndarray
    alphas: np.ndarray
    mean: np.ndarray
    train_range: tuple[float, float]

    @classmethod
    def from_multi_quantile(cls, q: Any, alphas: Any, mean: Any = None, *, train_range: Any) -> DistributionPrediction:
        return cls(q, alphas, mean, train_range)


class ProbabilisticWrapper:
    """As in ScoringBench: it remembers the range of the finite training targets."""

    _y_train_range: tuple[float, float] | None = None

    def _set_train_range(self, y: Any) -> None:
        values = np.asarray(y, dtype=float)
        self._y_train_range = (float(np.nanmin(values)), float(np.nanmax(values)))


@pytest.fixture
def wrapper(monkeypatch) -> Any:
    name = "scoringbench.univariate.wrappers.base"
    parts = name.split(".")
    for k in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:k]), ModuleType(".".join(parts[:k])))
    vars(sys.modules[name]).update(
        DistributionPrediction=DistributionPrediction, ProbabilisticWrapper=ProbabilisticWrapper
    )
    spec = importlib.util.spec_from_file_location("wrapper_of_scoringbench", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ProbMixWrapper


def test_a_fold_is_fitted_and_its_quantiles_have_the_scores_of_the_density(wrapper):
    """A table with texts, missing values and rows of any index, and a target that is missing in one row."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X = X.assign(kind=np.where(X["sex"] > 0, "a", "b"))
    X.iloc[::7, 2] = np.nan
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:200], order[200:]
    y_train = y.iloc[train].copy()
    y_train.iloc[3] = np.nan
    model = wrapper(likelihood="gaussian", ensemble=2, widths=(16, 8), epochs=15)
    assert model.fit(X.iloc[train], y_train) is model
    found = model.predict_distribution(X.iloc[test])
    assert found.train_range == (y_train.min(), y_train.max())
    assert found.q.shape == (len(test), len(found.alphas)) and np.isfinite(found.q).all()
    assert (np.diff(found.alphas) > 0).all() and (np.diff(found.q, axis=1) > 0).all()
    assert found.mean == pytest.approx(model.predict(X.iloc[test]))
    observed = y.iloc[test].to_numpy(float)
    # The CRPS is twice the integral of the quantile losses over the levels, by trapezoids.
    losses = np.where(observed[:, None] < found.q, 1 - found.alphas, found.alphas) * abs(observed[:, None] - found.q)
    crps = 2 * np.trapezoid(losses.mean(0), found.alphas)
    assert crps == pytest.approx(model._model.crps(X.iloc[test], observed), rel=0.003)
    levels = [np.argmin(abs(found.alphas - level)) for level in (0.05, 0.95)]
    low, high = found.q[:, levels].T
    share = np.mean((low <= observed) & (observed <= high))
    assert abs(share - 0.9) < 0.09  # four standard errors, of training and test rows


def test_the_seed_is_fixed_unless_another_is_given(wrapper):
    assert wrapper()._model.random_state == 0
    assert wrapper(random_state=3, ensemble=2)._model.get_params()["random_state"] == 3
