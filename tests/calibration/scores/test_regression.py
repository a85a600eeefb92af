"""Scores against quadrature, other libraries and their own definitions; standard errors against the spread of samples."""

import math

import numpy as np
import properscoring
import pytest
import uncertainty_toolbox
from scipy.integrate import quad
from scipy.stats import gamma, norm, t

from pyro_probmix.calibration import (
    Estimate,
    GaussianMixture,
    ScipyMixture,
    bootstrap_error,
    crps_draws,
    crps_gaussian,
    crps_gaussian_mixture,
    interval_score,
    mean_over_rows,
    sharpness,
)

RNG = np.random.default_rng(0)
MEAN, STD = RNG.normal(size=40), RNG.uniform(0.2, 2.0, size=40)
Y = MEAN + STD * RNG.normal(size=40)


def crps_by_quadrature(cdf, y):
    """The definition: the integral of the squared distance between the distribution function and the step at y."""
    below, _ = quad(lambda v: cdf(v) ** 2, -60, y, limit=500, points=[y - 1])
    above, _ = quad(lambda v: (1 - cdf(v)) ** 2, y, 60, limit=500, points=[y + 1])
    return below + above


def test_crps_of_a_gaussian():
    ours = crps_gaussian(Y, MEAN, STD)
    np.testing.assert_allclose(ours, properscoring.crps_gaussian(Y, MEAN, STD), rtol=1e-9)
    assert ours.mean() == pytest.approx(uncertainty_toolbox.crps_gaussian(MEAN, STD, Y))
    assert ours[0] == pytest.approx(crps_by_quadrature(lambda v: norm.cdf(v, MEAN[0], STD[0]), Y[0]), rel=1e-7)


@pytest.mark.parametrize("weights", [None, [0.2, 0.5, 0.3]])
def test_crps_of_a_mixture(weights):
    means, stds = RNG.normal(size=(3, 4)) * 2, RNG.uniform(0.3, 1.5, size=(3, 4))
    density = GaussianMixture(means, stds, weights)
    ours = crps_gaussian_mixture(Y[:4], means, stds, weights)
    expected = [crps_by_quadrature(lambda v, i=i: density.cdf(np.full(4, v))[i], Y[i]) for i in range(4)]
    np.testing.assert_allclose(ours, expected, rtol=1e-7)
    np.testing.assert_allclose(density.crps(Y[:4]), ours)


def test_crps_of_equal_components_is_that_of_one():
    np.testing.assert_allclose(crps_gaussian_mixture(Y, np.tile(MEAN, (5, 1)), STD), crps_gaussian(Y, MEAN, STD))


def test_crps_by_quantiles_of_any_family():
    for components in (gamma([[2.0], [5.0]], scale=0.7), t([[3.0], [9.0]], loc=1.0, scale=0.5)):
        density = ScipyMixture(components)
        for y in (0.3, 1.5, 9.0):
            expected = crps_by_quadrature(lambda v, d=density: d.cdf(np.array([v])).item(), y)
            assert density.crps(np.array([y])).item() == pytest.approx(expected, rel=3e-3)


def test_crps_of_draws_is_fair():
    """Its mean over many small sets of draws is the predictive's score, within 3 standard errors; of the plain one not."""
    sets, size, y = 20_000, 4, 0.7
    draws = np.random.default_rng(1).normal(size=(size, sets))
    scores, exact = crps_draws(draws, np.full(sets, y)), crps_gaussian(y, 0.0, 1.0)
    assert abs(scores.mean() - exact) < 3 * scores.std() / math.sqrt(sets)
    plain = properscoring.crps_ensemble(np.full(sets, y), draws.T)
    assert plain.mean() - exact > 20 * plain.std() / math.sqrt(sets)


def test_crps_of_draws_agrees_with_properscoring():
    """Theirs divides by S^2 where the fair one divides by S (S - 1)."""
    draws, size = RNG.normal(size=(7, 40)), 7
    apart = np.abs(draws - Y).mean(0)
    half_gap = (apart - properscoring.crps_ensemble(Y, draws.T)) * size / (size - 1)
    np.testing.assert_allclose(crps_draws(draws, Y), apart - half_gap, rtol=1e-9)


def test_interval_score_agrees_with_uncertainty_toolbox():
    """Theirs is the mean over levels: one level here, seen through equal ends of the range."""
    for level in (0.5, 0.9):
        low, high = norm.interval(level, MEAN, STD)
        one_level = {"start_p": level, "end_p": level, "resolution": 2}
        theirs = uncertainty_toolbox.interval_score(MEAN, STD, Y, scaled=True, **one_level)
        assert interval_score(Y, low, high, level).mean() == pytest.approx(theirs)


def test_sharpness_agrees_with_uncertainty_toolbox():
    assert sharpness(STD).value == pytest.approx(uncertainty_toolbox.sharpness(STD))
    assert sharpness([0.0, 0.0]) == Estimate(0.0, 0.0)


@pytest.mark.parametrize("score", ["crps", "interval"])
def test_scores_are_proper(score):
    """The truth scores best on average: 20,000 paired rows, by more than 3 standard errors."""
    y = np.random.default_rng(1).normal(size=20_000)

    def of(mean, std):
        if score == "crps":
            return crps_gaussian(y, mean, std)
        low, high = norm.interval(0.9, mean, std)
        return interval_score(y, low, high, 0.9)

    for mean, std in ((0.3, 1.0), (0.0, 1.3), (0.0, 0.75)):
        loss = mean_over_rows(of(mean, std) - of(0.0, 1.0))
        assert loss.value > 3 * loss.standard_error


def test_standard_errors_are_the_spread_over_samples():
    """400 samples of 100 rows: means and sharpness spread as stated, to 12 % (400 samples know it to 3.5 %)."""
    samples = np.random.default_rng(2).gamma(2.0, size=(400, 100))
    for statistic in (mean_over_rows, sharpness):
        estimates = [statistic(sample) for sample in samples]
        spread = np.std([estimate.value for estimate in estimates], ddof=1)
        assert np.mean([estimate.standard_error for estimate in estimates]) == pytest.approx(spread, rel=0.12)
    resampled = bootstrap_error(lambda rows: float(samples[0][rows].mean()), 100)
    assert resampled == pytest.approx(mean_over_rows(samples[0]).standard_error, rel=0.12)


def test_one_row_has_no_standard_error():
    assert math.isnan(mean_over_rows([2.0]).standard_error) and math.isnan(bootstrap_error(lambda rows: 1.0, 1))
    assert str(mean_over_rows([2.0])) == "2"
    assert str(Estimate(1612032018058050.5, 2.31e14)) == "1.612e+15 ± 2.3e+14"
    assert str(Estimate(1.23456e-12, 3.21e-14)) == "1.235e-12 ± 3.2e-14"
    assert str(Estimate(1234.567, 12.3)) == "1235 ± 12" and str(Estimate(0.12345, 0.00067)) == "0.12345 ± 0.00067"


@pytest.mark.parametrize("size", [1e-250, 1e250])
def test_standard_errors_of_scores_whose_squares_overflow(size):
    scores = RNG.normal(size=30)
    for statistic, values in ((mean_over_rows, scores), (sharpness, np.abs(scores))):
        plain, scaled = statistic(values), statistic(size * values)
        assert scaled.value == pytest.approx(size * plain.value, rel=1e-9, abs=0)
        assert scaled.standard_error == pytest.approx(size * plain.standard_error, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: crps_gaussian([1.0], [0.0], [0.0]), r"std\[0\] is 0.0, expected numbers above 0.*Try"),
        (lambda: crps_gaussian([1.0, 2.0], [0.0, 0.0, 0.0], 1.0), r"y \(2,\), mean \(3,\).*Try"),
        (lambda: crps_gaussian([np.inf], 0.0, 1.0), r"y\[0\] is inf, expected finite.*Try"),
        (lambda: crps_gaussian_mixture([0.0], [[0.0]], [[1.0]], [-1.0]), r"weights\[0\] is -1.0.*Try"),
        (lambda: crps_draws([[0.0]], [0.0]), r"one draw.*at least two.*Try"),
        (lambda: interval_score([0.0], 1.0, 0.0, 0.9), r"lower is above upper.*Try"),
        (lambda: interval_score([0.0], 0.0, 1.0, 90), r"level is 90.*Try"),
        (lambda: sharpness([-1.0]), r"std\[0\] is -1.0, expected numbers of 0 or more.*Try"),
        (lambda: GaussianMixture([0.0, 1.0], 1.0), r"shape \(2,\), expected components and rows.*Try"),
        (lambda: ScipyMixture(norm([0.0], 1.0)), r"shape \(1,\), expected \[M, N\].*Try"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
