"""A model that is worse than a density without features says so, and is repaired before its fit returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.estimators.targets.constant import constant_nll

TINY: dict[str, Any] = {"ensemble": 3, "widths": (16, 8), "epochs": 20, "random_state": 0}


def noise(n=120):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)), rng.normal(size=n)


@pytest.mark.parametrize(
    ("rate", "way"), [(0.3, "trained again with a smaller"), (3.0, "the features are left out|again")]
)
def test_a_rate_that_is_too_large_is_repaired(rate, way):
    X, y = noise(620)
    with pytest.warns(UserWarning, match=f"on the rows held out, the model's NLL is .*({way}).*Try"):
        model = ProbMixRegressor(likelihood="gaussian", learning_rate=rate, **TINY).fit(X[:120], y[:120])
    assert model.nll(X[120:], y[120:]) < stats.norm.entropy() + 0.15


def test_features_are_left_out_where_nothing_else_helps(monkeypatch):
    X, y = noise()
    for name, value in (("WORSE", -9.0), ("ENOUGH_STEPS", 0)):  # nothing is good enough
        monkeypatch.setattr(f"pyro_probmix.estimators.doubt.repair.{name}", value)
    with pytest.warns(UserWarning, match="the features are left out"):
        model = ProbMixClassifier(**TINY).fit(X, y > 0.5)
    probabilities = model.predict_proba(np.concatenate([X, 100 * X]))
    assert np.ptp(probabilities[:, 1]) < 1e-6 and probabilities[0, 1] == pytest.approx((y > 0.5).mean(), abs=0.08)


def test_constant_densities():
    rng = np.random.default_rng(1)
    y, other, ones = rng.gamma(2.0, size=(200, 1)), rng.gamma(2.0, size=(90, 1)), np.ones
    logs = np.log(y)
    expected = {
        "real": -stats.norm(y.mean(), y.std()).logpdf(other),
        "positive": -stats.lognorm(logs.std(), scale=np.exp(logs.mean())).logpdf(other),
    }
    for family, nll in expected.items():
        assert constant_nll(family, y, ones(200), other, ones(90)) == pytest.approx(nll.mean())
    counts, others = (
        rng.negative_binomial(3, 0.2, (200, 1)).astype(float),
        rng.negative_binomial(3, 0.2, (90, 1)).astype(float),
    )
    r = counts.mean() ** 2 / (counts.var() - counts.mean())
    nll = -stats.nbinom(r, r / (r + counts.mean())).logpmf(others).mean()
    assert constant_nll("count", counts, ones(200), others, ones(90)) == pytest.approx(nll)
    classes = np.array([0.0, 0.0, 1.0])
    assert constant_nll("class", classes, ones(3), np.array([1.0, 2.0]), ones(2)) == pytest.approx(
        -np.log(2 / 6 / 6) / 2
    )
    assert constant_nll("positive", -y, ones(200), other, ones(90)) is None
    assert constant_nll("", y, ones(200), other, ones(90)) is None
