"""The parts of a prediction's variance and entropy: their sum is the whole, and each is what its name says."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.estimators.doubt.parts import entropy_parts, variance_parts
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

TINY: dict[str, Any] = {"ensemble": 3, "widths": (8, 8), "periodic": 2, "epochs": 5, "random_state": 0}
X = np.random.default_rng(0).uniform(size=(60, 2))


@pytest.mark.parametrize("method", ["ERM", "M-ProbMix"])
@pytest.mark.parametrize("likelihood, targets", [("gaussian", 1), ("student-t", 2), ("poisson", 1), ("gamma", 2)])
def test_parts_of_a_variance_sum_to_it(method, likelihood, targets):
    y = np.round(1 + 5 * X[:, :targets])
    model = ProbMixRegressor(method, likelihood, **TINY).fit(X, y[:, 0] if targets == 1 else y)
    if method == "M-ProbMix":  # as many draws as are never needed here
        model.state_.noise = model.state_.many_draws(6)
    between, within = model.predict_variance(X)
    _, std = model.predict(X, return_std=True)
    assert between.shape == std.shape == (y[:, 0] if targets == 1 else y).shape
    np.testing.assert_allclose(between + within, std**2, rtol=1e-6)
    assert (between > 0).all() and (within > 0).all()


def test_the_spread_of_a_members_draws_is_its_own():
    """Draws of one member that differ, and members that agree: nothing is between them."""
    loc = torch.tensor([-3.0, 3.0]).double()[:, None, None, None].expand(2, 4, 1, 1)
    between, within = variance_parts(PredictiveMixture(dist.Normal(loc, 1.0).to_event(1), 2))[0, :, 0]
    assert (between, within) == (0.0, 10.0)
    loc = torch.tensor([-3.0, 3.0]).double()[None, :, None, None].expand(4, 2, 1, 1)
    between, within = variance_parts(PredictiveMixture(dist.Normal(loc, 1.0).to_event(1), 2))[0, :, 0]
    assert (between, within) == (9.0, 1.0)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_parts_of_an_entropy_sum_to_it(likelihood):
    labels = np.digitize(X[:, 0], [0.5] if likelihood == "bernoulli" else [0.3, 0.7])
    model = ProbMixClassifier(likelihood=likelihood, **TINY).fit(X, labels)
    between, within = model.predict_entropy(X)
    p = model.predict_proba(X)
    np.testing.assert_allclose(between + within, -(p * np.log(p)).sum(1), rtol=1e-5)
    assert between.shape == (60,) and (between >= 0).all() and (within > 0).all()


def test_members_that_are_sure_of_other_classes_share_one_bit():
    probs = torch.eye(2).double()[None, :, None]  # two members, each sure of a class
    between, within = entropy_parts(PredictiveMixture(dist.Categorical(probs), 2))[0]
    assert within == 0 and between == pytest.approx(np.log(2))
