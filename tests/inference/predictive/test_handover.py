"""What the checks get of a predictive distribution is what the distribution itself says."""

import math
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest

from pyro_probmix import METHODS, predict
from pyro_probmix.calibration import check, fit_scale, loo, pit_curve, summarise, to_arviz
from pyro_probmix.inference import PredictiveMixture, rescale, to_predictions
from pyro_probmix.models import Bernoulli, Categorical, Gamma, Gaussian, Poisson, build_density

N, FEATURES = 7, 2
X = torch.linspace(-1, 1, N * FEATURES).reshape(N, FEATURES)


def handed_over(predictive, y, **options) -> Any:
    """What is optional is there, or the test fails."""
    return to_predictions(predictive, y, **options)


def model(likelihood=Gaussian, outputs=1, replicas=None, name="M-ProbMix"):
    return build_density(
        METHODS[name],
        num_features=FEATURES,
        likelihood=likelihood,
        num_outputs=outputs,
        widths=(8, 4),
        replicas=replicas,
    )


def mixture(components, loc=0.0, scale=1.0, num_mixed=2):
    return PredictiveMixture(components, num_mixed, loc, scale)


FAMILIES = {
    "normal": lambda shape: dist.Normal(torch.randn(shape), torch.rand(shape) + 0.3).to_event(1),
    "student": lambda shape: dist.StudentT(
        5.0 + torch.rand(shape), torch.randn(shape), torch.rand(shape) + 0.3
    ).to_event(1),
    "gamma": lambda shape: dist.Gamma(torch.rand(shape) + 1, torch.rand(shape) + 0.5).to_event(1),
    "lognormal": lambda shape: dist.LogNormal(torch.randn(shape), torch.rand(shape) + 0.3).to_event(1),
    "multivariate": lambda shape: dist.MultivariateNormal(
        torch.randn(shape), torch.diag_embed(torch.rand(shape) + 0.3)
    ),
}


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_densities_are_those_of_the_predictive(family, rescaled):
    """Two responses of three rows, mixed over four embeddings and five members: the product of marginals aside, the same."""
    components = FAMILIES[family]((4, 5, 3, 2))
    loc, scale = (torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.5])) if rescaled else (0.0, 1.0)
    predictive = mixture(components, loc, scale)
    y = predictive.sample()
    predictions = handed_over(predictive, y, num_draws=20_000)
    assert predictions.draws.shape == (5, 4000, 3, 2) and predictions.log_likelihood.shape == (5, 1, 3)
    np.testing.assert_allclose(predictions.log_score(), predictive.log_prob(y), rtol=1e-5)
    for t in range(2):
        density = predictions.densities[t]
        np.testing.assert_allclose(density.mean, predictive.mean[:, t], rtol=1e-4)
        np.testing.assert_allclose(density.std, predictive.variance.sqrt()[:, t], rtol=1e-4)
        if family in ("normal", "gamma", "lognormal"):
            np.testing.assert_allclose(density.cdf(y[:, t]), predictive.cdf(y)[:, t], atol=1e-5)
        uniform = density.cdf(predictions.pooled(t)[::20])  # [S, N]
        assert min(kstest(uniform[:, i], "uniform").pvalue for i in range(3)) > 1e-3


def test_one_response_is_scored_the_same_by_its_density_and_by_the_predictive():
    predictive = predict(model(replicas=3), X, num_samples=6, ensemble=True, loc=10.0, scale=4.0)
    y = predictive.sample()
    predictions = handed_over(predictive, y)
    np.testing.assert_allclose(predictions.densities[0].log_prob(y[:, 0]), predictive.log_prob(y).detach(), rtol=1e-4)
    checks = summarise(predictions)
    assert list(checks) == ["y0"]
    assert checks["y0"]["nll"].value == pytest.approx(-predictions.log_score().mean(), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("replicas", [None, 3])
@pytest.mark.parametrize(
    ("likelihood", "outputs", "kind"),
    [
        (Gaussian, 2, "continuous"),
        (Gamma, 1, "continuous"),
        (Poisson, 2, "count"),
        (Categorical, 3, "class"),
        (Bernoulli, 2, "class"),
    ],
)
def test_every_likelihood_is_checked(likelihood, outputs, kind, replicas):
    predictive = predict(model(likelihood, outputs, replicas), X, num_samples=6, ensemble=replicas is not None)
    y = predictive.sample()
    predictions = handed_over(predictive, y, num_draws=30, x=X, targets=None)
    members = replicas or 1
    targets = 1 if likelihood is Categorical else outputs
    assert predictions.kind == kind and predictions.draws.shape == (members, 30 // members, N, targets)
    np.testing.assert_array_equal(predictions.y, y.reshape(N, targets))
    np.testing.assert_allclose(predictions.log_score(), predictive.log_prob(y), rtol=1e-4)
    if kind == "class":
        assert predictions.probabilities.shape == (N, targets, outputs if likelihood is Categorical else 2)
        if likelihood is Categorical:
            np.testing.assert_allclose(predictions.probabilities[:, 0], predictive.probs, rtol=1e-5)
            nll = summarise(predictions)["y0"]["nll"].value
            assert nll == pytest.approx(float(-predictive.log_prob(y).mean()), rel=1e-4)
    checks = summarise(predictions)
    assert set(checks) == {*predictions.targets, *(["all targets"] if targets > 1 else [])}
    joint = checks["all targets" if targets > 1 else "y0"]["nll"].value
    assert joint == pytest.approx(-float(predictive.log_prob(y).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("event_dim", "y", "sentence"),
    [
        (0, torch.zeros(N, 1), r"y of shape \(7, 1\), expected \(7,\). Try y\[..., 0\]"),
        (1, torch.zeros(N), r"y of shape \(7,\), expected \(7, 1\). Try y\[..., None\]"),
        (1, torch.zeros(N - 1, 1), r"y of shape \(6, 1\), expected \(7, 1\). Try the responses of these rows"),
        (1, torch.zeros(2, N, 1), r"y of shape \(2, 7, 1\), expected \(7, 1\). Try"),
        (1, np.full((N, 1), "a"), r"y of type ndarray, expected a tensor or an array of numbers. Try"),
    ],
)
def test_responses_of_another_shape_are_refused(event_dim, y, sentence):
    components = dist.Normal(torch.zeros(5, *(N, 1)[: 1 + event_dim]), 1.0).to_event(event_dim)
    with pytest.raises(ValueError, match=sentence):
        to_predictions(mixture(components, num_mixed=1), y)


def test_counts_are_calibrated_where_the_model_is_true():
    """20,000 rows from a mixture of Poissons: the randomised transform of its own draws is uniform."""
    predictive = mixture(dist.Poisson(torch.rand(3, 20_000, 1) * 3).to_event(1), num_mixed=1)
    predictions = handed_over(predictive, predictive.sample(), num_draws=60)
    # One draw of each component in turn is less spread than independent ones; with 20 of each it does not show.
    assert pit_curve(predictions.pit(0)).p_value > 0.01


def test_a_factor_stretches_the_predictive_as_it_does_the_arrays():
    predictive = mixture(FAMILIES["normal"]((4, 5, 30, 1)), 2.0, 3.0)
    y = predictive.mean + 2.5 * (predictive.sample() - predictive.mean)
    density = handed_over(predictive, y).densities[0]
    scale = fit_scale(density, y[:, 0].numpy())
    stretched = rescale(predictive, scale.factor)
    np.testing.assert_allclose(stretched.log_prob(y), scale(density).log_prob(y[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(stretched.cdf(y)[:, 0], scale(density).cdf(y[:, 0]), atol=1e-5)
    np.testing.assert_allclose(stretched.variance.sqrt(), scale.factor * predictive.variance.sqrt(), rtol=1e-4)
    assert stretched.log_prob(y).mean() > predictive.log_prob(y).mean()


@torch.no_grad()
def test_from_an_ensemble_to_the_checks_and_arviz(tmp_path):
    """An ensemble of 30 networks with drawn embeddings: named, checked, in a file, and with leave-one-out of what it fits."""
    predictive = predict(model(replicas=30), X, num_samples=5, ensemble=True)
    y = predictive.sample()
    names = {"targets": ["speed"], "features": ["a", "b"], "rows": list("abcdefg")}
    predictions = handed_over(predictive, y, num_draws=300, x=X, **names)
    report = check(predictions, tmp_path / "check")
    assert report.netcdf.exists() and all(path.exists() for path in report.figures.values())
    assert math.isfinite(report.checks["speed"]["crps"].value)
    with pytest.warns(UserWarning, match="Pareto"):  # networks that were not trained differ too much
        assert loo(to_arviz(predictions)).n_samples == 30


@torch.no_grad()
def test_leave_one_out_is_refused_for_a_point_fit():
    predictive = predict(model(), X, num_samples=200)  # draws of the embedding are no draws of the parameters
    with pytest.raises(ValueError, match=r"LOO got 1 draws of the parameters, expected at least 30.*Try"):
        loo(to_arviz(handed_over(predictive, predictive.sample(), num_draws=200)))


def test_errors():
    predictive = predict(model(replicas=3), X)
    with pytest.raises(ValueError, match=r"batch shape \(3, 7\).*Try predict\(..., ensemble=True\)"):
        handed_over(predictive, torch.zeros(3, N, 1))
    predictive = predict(model(), X)
    with pytest.raises(ValueError, match=r"y of shape \(7,\), expected \(7, 1\).*Try"):
        handed_over(predictive, torch.zeros(N))
    with pytest.raises(ValueError, match=r"num_draws=0.*Try"):
        handed_over(predictive, torch.zeros(N, 1), num_draws=0)
    with pytest.raises(ValueError, match=r"y with values that the predictive's support, .* does not have.*Try"):
        handed_over(predictive, torch.full((N, 1), torch.nan))
