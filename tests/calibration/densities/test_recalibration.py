"""Recalibrated densities are densities, and calibrated on rows that they were not fitted to."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import gamma, norm, t

from pyro_probmix.calibration import (
    GaussianMixture,
    RescaledDensity,
    ScipyMixture,
    Temperature,
    before_and_after,
    check_density,
    class_log_score,
    fit_isotonic,
    fit_scale,
    fit_temperature,
    mean_over_rows,
)

RNG = np.random.default_rng(0)


def mixture(n=3, m=4):
    return GaussianMixture(RNG.normal(size=(m, n)), RNG.uniform(0.2, 1.0, size=(m, n)), RNG.uniform(0.5, 1.0, size=m))


def densities():
    y = RNG.normal(size=200)
    base = mixture(200)
    return {
        "gaussian": mixture(),
        "gamma": ScipyMixture(gamma(RNG.uniform(1.5, 4, size=(2, 3)), scale=0.4)),
        "student": ScipyMixture(t(np.full((2, 3), 4.0), loc=RNG.normal(size=(2, 3)), scale=0.7)),
        "rescaled": RescaledDensity(mixture(), 1.7),
        "remapped": fit_isotonic(base, y)(mixture()),
        "both": fit_isotonic(base, y)(RescaledDensity(mixture(), 0.6)),
    }


@pytest.mark.parametrize("name", list(densities()))
def test_every_density_integrates_to_one_and_its_functions_agree(name):
    """cdf and quantile are inverse, log_prob is the cdf's derivative and integrates to one, moments are those of it."""
    density = densities()[name]
    levels = np.linspace(0.001, 0.999, 999)[:, None]
    quantiles = density.quantile(levels)
    assert quantiles.shape == (999, 3) and (np.diff(quantiles, axis=0) > 0).all()
    np.testing.assert_allclose(density.cdf(quantiles), np.broadcast_to(levels, (999, 3)), atol=1e-9)
    middle = (quantiles[1:] + quantiles[:-1]) / 2
    slices = np.diff(quantiles, axis=0) * np.exp(density.log_prob(middle))
    np.testing.assert_allclose(slices.sum(0), 0.998, rtol=4e-3)
    step = 1e-5
    slope = (density.cdf(middle + step) - density.cdf(middle - step)) / (2 * step)
    away = np.abs(slope / np.exp(density.log_prob(middle)) - 1) > 1e-4
    assert away.mean() < (0.02 if name in ("remapped", "both") else 1e-9)  # a step at each knot of the map
    assert density.quantile(0.5).shape == density.mean.shape == density.std.shape == (3,)
    wide = np.linspace(-40, 40, 60_001)[:, None]
    weight = np.exp(density.log_prob(wide)) * (wide[1] - wide[0])
    mean = (weight * wide).sum(0)
    np.testing.assert_allclose(density.mean, mean, rtol=5e-3, atol=2e-3)
    np.testing.assert_allclose(density.std, np.sqrt((weight * (wide - mean) ** 2).sum(0)), rtol=1e-2)


def test_infinite_ends():
    np.testing.assert_array_equal(mixture().quantile([[0.0], [1.0]]), [[-np.inf] * 3, [np.inf] * 3])


def test_mixture_weights_and_moments():
    density = GaussianMixture([[0.0], [4.0]], [[1.0], [2.0]], [3.0, 1.0])
    assert density.mean.item() == pytest.approx(1.0)
    assert density.std.item() == pytest.approx(math.sqrt(0.75 * (1 + 1) + 0.25 * (4 + 9)))
    expected = np.log(0.75 * norm.pdf(0.5) + 0.25 * norm.pdf(0.5, 4, 2))
    assert density.log_prob([0.5]).item() == pytest.approx(expected)


def test_scale_of_gaussians_in_closed_form_is_the_optimum():
    mean, std = RNG.normal(size=300), RNG.uniform(0.5, 1.5, size=300)
    y = mean + 2.2 * std * RNG.normal(size=300)
    closed = fit_scale(GaussianMixture(mean[None], std), y).factor
    twice = fit_scale(GaussianMixture(np.tile(mean, (2, 1)), std), y).factor  # two equal components: by search
    assert closed == pytest.approx(math.sqrt(np.mean(((y - mean) / std) ** 2)))
    assert twice == pytest.approx(closed, rel=1e-5)


@pytest.mark.parametrize("factor", [0.01, 0.4, 3.0, 40.0])
def test_scale_of_a_mixture_is_found(factor):
    """Observations from the stretched mixture: the factor within 3 standard errors, from the curvature of the NLL."""
    density, n = mixture(2000), 2000
    y = RescaledDensity(density, factor).quantile(RNG.uniform(size=n))
    found = fit_scale(density, y).factor

    def nll(c):
        return -RescaledDensity(density, c).log_prob(y).mean()

    h = 1e-3 * found
    curvature = (nll(found + h) - 2 * nll(found) + nll(found - h)) / h**2
    assert curvature > 0
    assert abs(found - factor) < 3 / math.sqrt(n * curvature)


def test_recalibration_on_other_rows():
    """Too narrow by a factor and skewed: the scale mends the width, isotonic the shape too; on rows not fitted to."""
    n = 4000
    mean, std = RNG.normal(size=n), RNG.uniform(0.5, 1.5, size=n)
    skewed = gamma.rvs(2.0, size=n, random_state=1) / math.sqrt(2) - math.sqrt(2)  # mean 0, variance 1
    y = mean + 1.8 * std * skewed

    def half(rows):
        return GaussianMixture(mean[None, rows], std[None, rows])

    fitted, held_out = slice(0, n // 2), slice(n // 2, n)
    scale, levels = fit_scale(half(fitted), y[fitted]), fit_isotonic(half(fitted), y[fitted])
    after_scale = fit_isotonic(scale(half(fitted)), y[fitted])
    recalibrations: dict[str, Any] = {"scale": scale, "isotonic": levels, "both": lambda d: after_scale(scale(d))}
    checks = before_and_after(half(held_out), y[held_out], recalibrations)
    assert list(checks) == ["before", "scale", "isotonic", "both"]
    errors = {name: metrics["calibration error"] for name, metrics in checks.items()}
    assert errors["before"].value > errors["scale"].value + 3 * errors["scale"].standard_error
    assert errors["scale"].value > errors["isotonic"].value + 3 * errors["isotonic"].standard_error
    nll = {name: metrics["nll"].value for name, metrics in checks.items()}
    assert nll["before"] > nll["scale"] > nll["both"] and nll["before"] > nll["isotonic"]
    assert checks["before"]["crps"].value > checks["isotonic"]["crps"].value
    for name in ("isotonic", "both"):
        coverage = checks[name]["coverage"]
        assert abs(coverage.value - 0.9) < 3 * math.sqrt(2) * coverage.standard_error  # the map is from as many rows
    assert checks["before"]["pit p-value"].value < 1e-6


def test_isotonic_leaves_a_calibrated_forecast_almost_alone():
    density = mixture(5000)
    levels = fit_isotonic(density, density.quantile(RNG.uniform(size=5000)))
    slope = np.diff(levels.values) / np.diff(levels.knots)
    cells = len(slope)
    assert cells == math.ceil(2 * 5000 ** (1 / 3)) == 35 and levels.values[0] == 0 and levels.values[-1] == 1
    assert np.abs(slope - 1).max() < 4 * math.sqrt(cells / 5000)


def test_isotonic_rules_nothing_out():
    """Three rows, all far out: the density stays positive everywhere and the map strictly increasing."""
    density = mixture(3)
    remapped = fit_isotonic(density, np.array([50.0, 60.0, 70.0]))(density)
    assert (np.diff(remapped.levels.values) > 0).all()
    assert np.isfinite(remapped.log_prob(np.array([-1.0, 0.0, 1.0]))).all()


def test_temperature_mends_probabilities_that_are_too_sure():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.ones(4), size=4000)
    y = (truth.cumsum(1) < rng.uniform(size=(4000, 1))).sum(1)
    sure = truth**2.5 / (truth**2.5).sum(1, keepdims=True)
    temperature = fit_temperature(sure[:2000], y[:2000])
    assert temperature.value == pytest.approx(2.5, rel=0.1)
    np.testing.assert_allclose(temperature(sure).sum(1), 1)
    gain = mean_over_rows(class_log_score(sure[2000:], y[2000:]) - class_log_score(temperature(sure[2000:]), y[2000:]))
    assert gain.value > 3 * gain.standard_error


def test_a_density_without_a_variance():
    density = ScipyMixture(t(np.full((1, 200), 1.5)))
    y = t.rvs(1.5, size=200, random_state=0) * 2
    assert fit_scale(density, y).factor == pytest.approx(2, rel=0.3)
    checks = check_density(density, y)
    assert checks["sharpness"].value == math.inf and math.isfinite(checks["crps"].value)


@pytest.mark.parametrize("residual", [1e-200, 1e200])
@pytest.mark.parametrize("components", [1, 2])
def test_scale_of_residuals_whose_squares_overflow(components, residual):
    """The factor is that of the closed form, residual / sqrt(2), as for residuals of one."""
    density = GaussianMixture(np.zeros((components, 2)), 1.0)
    assert fit_scale(density, [residual, 0.0]).factor == pytest.approx(residual / math.sqrt(2), rel=1e-5, abs=0)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_moments_whose_squares_overflow(size):
    density = GaussianMixture(np.array([[1.0], [3.0]]) * size, size)
    assert density.std.item() == pytest.approx(math.sqrt(2) * size, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("probabilities", "y", "temperature", "sentence"),
    [
        ([[0.9, 0.1]] * 5, [0] * 5, 1e-4, "at the end of the search, temperature 0.0001"),
        ([[0.9, 0.1]] * 5, [1] * 5, 100, "at the end of the search, temperature 100"),
        ([[0.5, 0.5]] * 5, [0, 1, 0, 0, 1], 1, "same for every temperature"),
        ([[1.0, 0.0]] * 5, [0] * 5, 1, "same for every temperature"),
    ],
)
def test_a_temperature_that_is_not_determined_says_so(probabilities, y, temperature, sentence):
    with pytest.warns(UserWarning, match=sentence):
        found = fit_temperature(probabilities, y)
    assert found.value == pytest.approx(temperature)


def test_scale_at_an_end_of_the_search_says_so():
    """Heavy tails without a variance, and residuals of nearly nothing: the first guess is 1, the factor wanted 1e-6."""
    density = ScipyMixture(t(np.full((2, 50), 1.5)))
    with pytest.warns(UserWarning, match="at the end of the search, factor 0.0001"):
        fit_scale(density, 1e-6 * t.rvs(1.5, size=50, random_state=0))


@pytest.mark.parametrize("levels", [[[0.05], [0.5], [0.95]], [[0.0], [1e-12], [1.0]]])
def test_quantiles_of_mixtures_with_equal_and_far_components(levels):
    """Rows that are known at once, by one component or two alike, beside rows that are solved for."""
    density = GaussianMixture([[0.0, 0.0, -1e3], [0.0, 5.0, 1e3]], [[1.0, 1.0, 1e-3], [1.0, 0.1, 2.0]])
    quantiles = density.quantile(levels)
    np.testing.assert_allclose(density.cdf(quantiles), np.broadcast_to(levels, (3, 3)), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(quantiles[:, 0], norm.ppf(np.ravel(levels)), rtol=1e-9, atol=1e-12)


def test_errors():
    density = mixture(2)
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) and y of \(3,\).*Try"):
        fit_scale(density, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"equals its predicted mean.*Try"):
        fit_scale(density, density.mean)
    with pytest.raises(ValueError, match=r"num_cells=0.*Try"):
        fit_isotonic(density, [1.0, 2.0], num_cells=0)
    with pytest.raises(ValueError, match=r"num_cells=2.5, expected an integer.*Try"):
        fit_isotonic(density, [1.0, 2.0], num_cells=2.5)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ValueError, match=r"probability 0 for every class.*Try"):
        Temperature(1.0)([[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"largest residual is 1e\+200 for standard deviations of 1e-200.*Try"):
        fit_scale(GaussianMixture([[0.0, 0.0]], 1e-200), [1e200, 0.0])
    with pytest.raises(ValueError, match=r"probability 0.*Try"):
        fit_temperature([[1.0, 0.0]], [1])
    with pytest.raises(ValueError, match=r"level\[0\] is 95.0.*Try"):
        density.quantile([95])


def test_no_distribution_function_is_above_one() -> None:
    """The weights of a mixture add up to 1 but for rounding; a PIT above 1 is refused by the checks."""
    weights = np.random.default_rng(0).uniform(0.1, 1, (7, 4000))
    found = GaussianMixture(np.zeros((7, 4000)), 1.0, weights).cdf(np.full(4000, 50.0))
    assert found.max() == 1
    summed = (weights / weights.sum(0)).sum(0)
    assert summed.max() > 1
