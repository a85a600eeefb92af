"""Checks of class probabilities against scikit-learn, brute force and simulation."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from pyro_probmix.calibration import brier_score, class_log_score, expected_calibration_error, reliability


def forecasts(n=300, classes=3, seed=0, sharper=1.0):
    """Probabilities, and classes drawn from their powers: for 1 the forecast is calibrated."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), size=n)
    truth = probabilities**sharper / (probabilities**sharper).sum(1, keepdims=True)
    y = (truth.cumsum(1) < rng.uniform(size=(n, 1))).sum(1)
    return probabilities, y


def test_scores_agree_with_scikit_learn():
    for classes in (2, 4):
        probabilities, y = forecasts(classes=classes)
        assert brier_score(probabilities, y).mean() == pytest.approx(
            brier_score_loss(y, probabilities, scale_by_half=False)
        )
        assert class_log_score(probabilities, y).mean() == pytest.approx(log_loss(y, probabilities))


def test_reliability_agrees_with_scikit_learn():
    probabilities, y = forecasts()
    curve = reliability(probabilities[:, 1], y == 1, num_bins=8)
    observed, predicted = calibration_curve(y == 1, probabilities[:, 1], n_bins=8)
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    assert curve.counts.sum() == 300


def test_expected_calibration_error_by_brute_force():
    probabilities, y = forecasts()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y
    total = 0.0
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15, strict=True):
        inside = (low <= confidence) & (confidence < high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, y).value == pytest.approx(total)


def test_expected_calibration_error_of_a_known_forecast():
    """Sure to 0.9, right in 0.7 of 40,000 rows: 0.2, within 3 standard errors, which are those of a share."""
    rng = np.random.default_rng(0)
    y = (rng.uniform(size=40_000) < 0.3).astype(int)
    error = expected_calibration_error(np.tile([0.9, 0.1], (40_000, 1)), y)
    assert abs(error.value - 0.2) < 3 * error.standard_error
    assert error.standard_error == pytest.approx(math.sqrt(0.3 * 0.7 / 40_000), rel=0.15)  # 400 resamples


def test_the_consistency_bars_hold_calibrated_forecasts():
    """95 % in each bin: 100 samples with 6 bins each, within 3 standard errors (rows are counted: a bit above)."""
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        probability = np.concatenate([rng.uniform(size=200), [0.01, 0.99]])
        curve = reliability(probability, rng.uniform(size=202) < probability, num_bins=6, seed=seed)
        inside.append((curve.lower <= curve.observed) & (curve.observed <= curve.upper))
    share = np.mean(inside)
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 600) < share < 0.99


def test_the_consistency_bars_show_a_forecast_that_is_too_sure():
    probabilities, y = forecasts(n=2000, sharper=0.4)
    curve = reliability(probabilities.max(1), probabilities.argmax(1) == y)
    assert (curve.observed[-3:] < curve.lower[-3:]).all()


def test_a_class_that_was_ruled_out():
    assert class_log_score([[1.0, 0.0]], [1])[0] == math.inf


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: brier_score([0.5, 0.5], [0, 1]), r"shape \(2,\) and y \(2,\), expected \[N, K\] and \[N\].*Try"),
        (lambda: brier_score([[0.5, 0.4]], [0]), r"sum to 0.9 .*expected 1.*Try softmax"),
        (lambda: brier_score([[0.5, 0.5]], [2]), r"y has the values 2, expected classes 0 to 1.*Try"),
        (lambda: brier_score([[0.5, 0.5]], ["cat"]), r"y has the values cat, expected classes 0 to 1.*Try"),
        (lambda: brier_score([[1.5, -0.5]], [0]), r"probabilities\[0, 0\] is 1.5.*Try"),
        (lambda: reliability([0.5], [1, 0]), r"1 probabilities and 2 events.*Try"),
        (lambda: reliability([0.5], [1], num_bins=0), r"num_bins is 0, expected an integer of at least 1.*Try"),
        (lambda: reliability([0.5], [1], num_bins=2.5), r"num_bins is 2.5, expected an integer.*Try"),  # type: ignore[arg-type] # wrong on purpose
        (lambda: expected_calibration_error([[0.5, 0.5]], [0], num_bins=0), r"num_bins is 0, expected an integer.*Try"),
        (lambda: expected_calibration_error([[0.5, 0.5]], [0], num_bins=3.0), r"num_bins is 3.0, expected an int.*Try"),  # type: ignore[arg-type] # wrong on purpose
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
