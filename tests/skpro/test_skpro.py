"""The regressor for skpro and its distribution: skpro's own checks, formats, several targets, parts of it, metrics."""

from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold

pytest.importorskip("skpro", reason="skpro is not installed; make test-skpro has it")

from skpro.metrics import CRPS, LogLoss
from skpro.utils import check_estimator

from pyro_probmix import ProbMixRegressor
from pyro_probmix.inference import PredictiveMixture
from pyro_probmix.skpro import PredictiveDistribution, ProbMixProbaRegressor

TINY: dict[str, Any] = {
    "ensemble": 2,
    "widths": (8, 4),
    "periodic": 0,
    "epochs": 4,
    "num_samples": 3,
    "random_state": 0,
}
X, y = load_diabetes(return_X_y=True, as_frame=True)
X, y = X[:80], y[:80].to_frame()
TWO = pd.concat([y, 2 * y.rename(columns={"target": "twice"})], axis=1)


@pytest.mark.filterwarnings("ignore")  # skpro's own
@pytest.mark.parametrize("cls", [ProbMixProbaRegressor, PredictiveDistribution])
def test_skpros_own_checks(cls):
    results = check_estimator(cls, verbose=False)
    assert len(results) > 50
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}


def test_the_energy_is_of_all_targets_and_gives_the_crps():
    like = torch.linspace(0.5, 2.0, 12, dtype=torch.float64).reshape(2, 3, 2)
    p = PredictiveDistribution(
        PredictiveMixture(dist.Gamma(like, 1.0).to_event(1), 1), index=[0, 1, 2], columns=["a", "b"]
    )
    assert p.energy().columns.tolist() == ["energy"]
    observed = p.mean() + 0.3
    marginals = [p.iloc[:, [j]] for j in range(2)]
    np.testing.assert_allclose(p.energy(), sum(one.energy() for one in marginals), rtol=1e-9)
    np.testing.assert_allclose(
        p.energy(observed), sum(one.energy(observed[one.columns]) for one in marginals), rtol=1e-9
    )
    one = PredictiveDistribution(PredictiveMixture(dist.Normal(torch.zeros(1, 1), 1.0), 1), index=[0], columns=["a"])
    crps = one.energy(pd.DataFrame({"a": [1.0]})) - 0.5 * one.energy()
    assert crps["energy"][0] == pytest.approx(0.6024414, abs=1e-6)  # of a standard Gaussian at 1


def test_counts_have_a_mass_and_no_density():
    p = PredictiveDistribution(PredictiveMixture(dist.Poisson(torch.full((1, 1), 2.0)), 1), index=[0], columns=["a"])
    assert p.pmf(1.0).iat[0, 0] == pytest.approx(2 * np.exp(-2)) and p.log_pmf(1.0).iat[0, 0] == pytest.approx(
        np.log(2) - 2
    )
    assert p.pdf(1.0).iat[0, 0] == 0 == p.pdfnorm().iat[0, 0] and p.pmf(1.5).iat[0, 0] == 0


def test_it_is_the_estimators_distribution():
    model = ProbMixProbaRegressor(**TINY).fit(X, TWO)
    plain = ProbMixRegressor(**TINY).fit(X, TWO.to_numpy())
    p = model.predict_proba(X)
    assert p.shape == (80, 2) and p.columns.tolist() == ["target", "twice"]
    np.testing.assert_allclose(model.predict(X), plain.predict(X), rtol=1e-10)
    np.testing.assert_allclose(p.mean(), plain.predict(X), rtol=1e-10)
    np.testing.assert_allclose(p.var(), plain.predict(X, return_std=True)[1] ** 2, rtol=1e-9)
    np.testing.assert_allclose(model.predict_var(X), p.var(), rtol=1e-9)
    np.testing.assert_allclose(p.cdf(TWO), plain.cdf(X, TWO.to_numpy()), rtol=1e-10)
    np.testing.assert_allclose(p.ppf(0.3), plain.ppf(X, 0.3), rtol=1e-10)
    marginal = ProbMixRegressor(**TINY).fit(X, TWO.to_numpy()).predict_dist(X).components.base_dist
    assert p.pdf(TWO).shape == (80, 2) and marginal.batch_shape[-1] == 2
    quantiles = model.predict_quantiles(X, [0.1, 0.5])
    assert quantiles.columns.tolist() == [("target", 0.1), ("target", 0.5), ("twice", 0.1), ("twice", 0.5)]
    np.testing.assert_allclose(quantiles[("twice", 0.5)], plain.ppf(X, 0.5)[:, 1], rtol=1e-12)
    interval = model.predict_interval(X, coverage=[0.5, 0.9])
    np.testing.assert_allclose(interval[("target", 0.9, "upper")], plain.ppf(X, 0.95)[:, 0], rtol=1e-9)


def test_intervals_and_quantiles_of_grades_are_of_the_distribution():
    grades = (TWO[["target"]] / 50).round()
    model = ProbMixProbaRegressor(**TINY).fit(X, grades)
    assert (model.estimator_.ppf(X, 0.95) % 1 == 0).all()
    expected = model.predict_proba(X).ppf(0.95)["target"]
    np.testing.assert_allclose(model.predict_quantiles(X, [0.95])[("target", 0.95)], expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict_interval(X, coverage=[0.9])[("target", 0.9, "upper")], expected, rtol=1e-9)


def test_a_part_of_it_is_the_distribution_of_that_part():
    p = ProbMixProbaRegressor(**TINY).fit(X, TWO).predict_proba(X)
    whole = p.cdf(TWO)
    part = p.loc[[X.index[7], X.index[3]], ["twice"]]
    assert part.shape == (2, 1) and part.index.tolist() == [7, 3]
    np.testing.assert_allclose(part.cdf(TWO.loc[[7, 3], ["twice"]]), whole.loc[[7, 3], ["twice"]], rtol=1e-12)
    with pytest.raises(KeyError, match="a label is not in"):
        part.cdf(TWO)
    np.testing.assert_allclose(p.iloc[4:6].mean(), p.mean()[4:6], rtol=1e-12)
    one = p.iat[3, 1]
    assert one.ndim == 0 and one.cdf(TWO.iat[3, 1]) == pytest.approx(whole.iat[3, 1], rel=1e-12)
    assert isinstance(one.mean(), float) and isinstance(one.sample(), float) and one.energy() > 0
    # A permutation of rows goes with its labels.
    np.testing.assert_allclose(p.cdf(TWO[::-1]), whole[::-1], rtol=1e-12)


def test_draws_follow_the_distribution_and_numpys_seed():
    p = ProbMixProbaRegressor(**TINY).fit(X, TWO).predict_proba(X[:5])
    np.random.seed(3)
    drawn = p.sample(4000)
    np.random.seed(3)
    assert drawn.equals(p.sample(4000)) and not drawn.equals(p.sample(4000))
    far = (drawn.groupby(level=1, sort=False).mean() - p.mean()).abs() / (p.var() / 4000) ** 0.5
    assert (far < 4.5).all().all()


@pytest.mark.parametrize("given", ["frame", "series", "array"])
def test_kinds_of_input(given):
    target = {"frame": y, "series": y["target"], "array": y["target"].to_numpy()}[given]
    model = ProbMixProbaRegressor(**TINY).fit(X, target)
    predicted = model.predict(X)
    assert type(predicted) is type(target) and len(predicted) == 80
    numbered = X.set_axis([*range(9), "last"], axis=1)
    assert ProbMixProbaRegressor(**TINY).fit(numbered, target).predict_proba(numbered).shape == (80, 1)


def test_parameters_are_those_of_the_estimator():
    ours, theirs = ProbMixProbaRegressor(ensemble=7), ProbMixRegressor(ensemble=7)
    assert ours.get_params() == theirs.get_params()
    assert ours.clone().set_params(epochs=3).epochs == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'members'"):
        ProbMixProbaRegressor(members=3)


def test_skpros_metrics_and_benchmark():
    from skpro.benchmarking.evaluate import evaluate

    scores = evaluate(ProbMixProbaRegressor(**TINY), KFold(2), X, y, scoring=[CRPS(), LogLoss()])
    fitted = ProbMixRegressor(**TINY).fit(X[40:], y["target"][40:])
    assert scores["test_LogLoss"].iloc[0] == pytest.approx(fitted.nll(X[:40], y["target"][:40]), rel=1e-6)
    assert (scores["test_CRPS"] > 0).all()


def test_what_does_not_fit():
    mixture = PredictiveMixture(dist.Normal(torch.zeros(2, 3), 1.0), 1)
    with pytest.raises(ValueError, match=r"PredictiveDistribution got neither index nor columns for 3 rows .*Try "):
        PredictiveDistribution(mixture)
    with pytest.raises(ValueError, match=r"got index of 2 and columns of 1 for 3 rows and 1 targets.*Try "):
        PredictiveDistribution(mixture, index=[0, 1], columns=["y"])
