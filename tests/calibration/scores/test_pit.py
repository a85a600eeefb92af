"""The transform and what follows from it: uniform under calibration for any response, against other libraries."""

import math

import numpy as np
import pytest
import uncertainty_toolbox
from scipy.stats import norm, poisson

from pyro_probmix.calibration import (
    coverage_curve,
    pit_curve,
    pit_of_draws,
    randomised_pit,
    regression_calibration_error,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def forecasts(n=80, seed=0):
    mean, std = rng(seed).normal(size=n), rng(seed + 1).uniform(0.5, 1.5, size=n)
    return mean, std, mean + 1.3 * std * rng(seed + 2).normal(size=n)


def test_randomised_pit_of_counts_is_uniform():
    rate = rng().gamma(1.0, size=20_000)
    y = rng(1).poisson(rate)
    pit = randomised_pit(poisson.cdf(y, rate), poisson.cdf(y - 1, rate))
    assert pit_curve(pit).p_value > 0.05
    assert pit_curve(poisson.cdf(y, rate)).p_value < 1e-10  # not randomised it is not uniform


@pytest.mark.parametrize("num_draws", [1, 7, 50])
def test_pit_of_draws_is_uniform(num_draws):
    """Exactly, whatever the number of draws: for a continuous response and for small counts full of ties."""
    for draw in (lambda r, *shape: r.normal(size=shape), lambda r, *shape: r.poisson(0.7, size=shape)):
        pit = pit_of_draws(draw(rng(num_draws), num_draws, 20_000), draw(rng(1), 20_000), seed=2)
        assert pit.shape == (20_000,) and 0 < pit.min() < pit.max() < 1
        assert pit_curve(pit).p_value > 0.02


def test_pit_of_draws_converges_to_the_distribution_function():
    y = rng().normal(size=(5, 2))
    pit = pit_of_draws(rng(1).normal(size=(40_000, 5, 2)), y)
    np.testing.assert_allclose(pit, norm.cdf(y), atol=4 * 0.5 / math.sqrt(40_000))


def test_coverage_is_that_of_the_central_intervals():
    mean, std, y = forecasts()
    curve = coverage_curve(norm.cdf(y, mean, std))
    for nominal, observed in zip(curve.nominal, curve.observed, strict=True):
        low, high = norm.interval(nominal, mean, std)
        assert observed == pytest.approx(((low <= y) & (y <= high)).mean())


def test_calibration_error_agrees_with_uncertainty_toolbox():
    mean, std, y = forecasts()
    pit, levels = norm.cdf(y, mean, std), np.linspace(0, 1, 100)
    expected = uncertainty_toolbox.root_mean_squared_calibration_error
    ours = regression_calibration_error(pit, levels=levels)
    assert ours.value == pytest.approx(expected(mean, std, y, prop_type="quantile"), rel=1e-9)
    ours = regression_calibration_error(np.abs(2 * pit - 1), levels=levels)
    assert ours.value == pytest.approx(expected(mean, std, y, prop_type="interval"), rel=1e-9)


def test_calibration_error_of_a_calibrated_forecast():
    """Its mean square is sum p (1 - p) / (J N), within 3 standard errors of 400 samples."""
    levels = np.linspace(0.01, 0.99, 99)
    squares = np.array([regression_calibration_error(rng(s).uniform(size=50)).value ** 2 for s in range(400)])
    expected = (levels * (1 - levels)).mean() / 50
    assert abs(squares.mean() - expected) < 3 * squares.std() / math.sqrt(400)


def test_bootstrapped_error_is_the_spread_over_samples():
    """A forecast that is far from calibrated: 150 other samples of 300 rows spread as the standard error says, to 18 %."""
    samples = [regression_calibration_error(rng(s).uniform(size=300) ** 1.5) for s in range(150)]
    spread = np.std([sample.value for sample in samples], ddof=1)
    stated = np.mean([sample.standard_error for sample in samples])
    assert stated == pytest.approx(spread, rel=0.18)  # 150 samples know it to 6 %


def test_errors():
    with pytest.raises(ValueError, match=r"cdf is below cdf_below.*Try"):
        randomised_pit([0.1], [0.2])
    with pytest.raises(ValueError, match=r"shape \(3, 2\) and y \(3,\).*Try"):
        pit_of_draws(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(ValueError, match=r"cdf \(2,\), cdf_below \(3,\).*Try"):
        randomised_pit(np.ones(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"levels\[0\] is 90.0, expected numbers in \[0, 1\].*Try"):
        regression_calibration_error([0.1], levels=[90])
    with pytest.raises(ValueError, match=r"level is 'a', expected a probability.*Try"):
        pit_curve([0.5], level="a")  # type: ignore[arg-type] # wrong on purpose
