"""The simultaneous band: its probability exact, its test of the right size, against brute force and simulation."""

import numpy as np
import pytest
from scipy.stats import binom

from pyro_probmix.calibration import coverage_curve, pit_curve
from pyro_probmix.calibration.scores.band import NUM_POINTS, uniform_curve

POINTS = np.arange(1, NUM_POINTS + 1) / (NUM_POINTS + 1)


def simulated_counts(n, size, seed=0):
    """Counts of n uniform values below each point, [size, K]."""
    cells = np.random.default_rng(seed).multinomial(n, np.full(NUM_POINTS + 1, 1 / (NUM_POINTS + 1)), size)
    return cells.cumsum(1)[:, :-1]


@pytest.mark.parametrize("n", [1, 4, 30, 300, 20_000])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_band_holds_as_many_curves_as_it_says(n, level):
    """20,000 simulated curves: the share inside is the exact probability within 3 standard errors, which is the level."""
    curve = uniform_curve(np.random.default_rng(1).uniform(size=n), level=level)
    counts, size = simulated_counts(n, 20_000), 20_000
    lower, upper = np.round(curve.lower * n), np.round(curve.upper * n)
    inside = ((lower <= counts) & (counts <= upper)).all(1).mean()
    error = np.sqrt(curve.probability * (1 - curve.probability) / size)
    assert abs(inside - curve.probability) < 3 * error
    assert curve.probability >= level
    if n >= 300:  # with few rows the counts are too coarse to meet the level from above
        assert curve.probability < level + 0.002


def test_probability_agrees_with_a_binomial_recursion():
    """The distribution of the counts, one point after another: given k so far, the new ones are binomial among the rest."""
    n = 30
    curve = uniform_curve(np.random.default_rng(1).uniform(size=n))
    reached, previous = np.zeros(n + 1), 0.0
    reached[0] = 1
    counts = np.arange(n + 1)
    for point, low, high in zip(POINTS, np.round(curve.lower * n), np.round(curve.upper * n), strict=True):
        new = counts[None, :] - counts[:, None]
        step = binom.pmf(new, n - counts[:, None], (point - previous) / (1 - previous))
        reached = (reached @ step) * ((low <= counts) & (counts <= high))
        previous = point
    assert reached.sum() == pytest.approx(curve.probability, abs=1e-12)


def test_the_p_value_is_uniform_under_calibration():
    """250 samples of 150 values: the share of p-values below each level, within 3 standard errors."""
    rng = np.random.default_rng(0)
    p_values = np.array([uniform_curve(rng.uniform(size=150)).p_value for _ in range(250)])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert abs((p_values <= level).mean() - level) < 3 * np.sqrt(level * (1 - level) / 250)


@pytest.mark.parametrize("n", [5, 60, 400])
def test_outside_of_the_band_if_and_only_if_the_p_value_is_small(n):
    rng = np.random.default_rng(n)
    seen = set()
    for spread in np.linspace(0.6, 1.6, 60):
        curve = uniform_curve(rng.beta(spread, spread, size=n), level=0.8)
        assert curve.inside == (curve.p_value > 1 - curve.probability + 1e-9)
        seen.add(curve.inside)
    assert seen == {True, False}


def test_miscalibration_is_found():
    z = np.random.default_rng(0).normal(size=400)
    from scipy.stats import norm

    narrow, wide, shifted = norm.cdf(z * 1.4), norm.cdf(z / 1.4), norm.cdf(z + 0.3)
    assert pit_curve(norm.cdf(z)).p_value > 0.05 and coverage_curve(norm.cdf(z)).p_value > 0.05
    assert max(curve(pit).p_value for curve in (pit_curve, coverage_curve) for pit in (narrow, wide)) < 0.01
    assert pit_curve(shifted).p_value < 0.001
    half = coverage_curve(narrow).nominal == 0.5
    assert coverage_curve(narrow).observed[half] < 0.5 < coverage_curve(wide).observed[half]


def test_standard_errors_are_binomial():
    curve = uniform_curve(np.random.default_rng(0).uniform(size=200))
    np.testing.assert_allclose(curve.standard_error, np.sqrt(curve.observed * (1 - curve.observed) / 200))


def test_transforms_of_zero_and_one():
    """A forecast that ruled every row out: p-value zero, no warning."""
    curve = uniform_curve(np.array([0.0, 1.0] * 50))
    assert curve.p_value < 1e-10 and not curve.inside


@pytest.mark.parametrize(
    ("values", "level", "match"),
    [
        ([0.1, 1.2], 0.9, r"values\[1\] is 1.2, expected numbers in \[0, 1\].*Try"),
        ([0.1, np.nan], 0.9, r"values\[1\] is nan, expected finite.*Try"),
        ([], 0.9, r"shape \(0,\), expected at least one row.*Try"),
        ([[0.1, 0.2]], 0.9, r"shape \(1, 2\), expected one number for each row.*Try"),
        ([0.1], 1.0, r"level is 1.0.*Try"),
    ],
)
def test_errors(values, level, match):
    with pytest.raises(ValueError, match=match):
        uniform_curve(values, level=level)
    with pytest.raises(TypeError, match=r"expected numbers.*Try"):
        uniform_curve(["a"])
