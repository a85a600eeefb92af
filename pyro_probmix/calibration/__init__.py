"""Calibration checks and recalibration on NumPy arrays, and their way into ArviZ; nothing here imports torch."""

from pyro_probmix.calibration.band import CalibrationCurve
from pyro_probmix.calibration.classes import (
    Reliability,
    brier_score,
    class_log_score,
    expected_calibration_error,
    reliability,
)
from pyro_probmix.calibration.densities import Density, GaussianMixture
from pyro_probmix.calibration.estimate import Estimate, bootstrap_error, mean_over_rows
from pyro_probmix.calibration.isotonic import IsotonicMap, RemappedDensity, fit_isotonic
from pyro_probmix.calibration.pit import (
    coverage_curve,
    pit_curve,
    pit_of_draws,
    randomised_pit,
    regression_calibration_error,
)
from pyro_probmix.calibration.predictions import Predictions
from pyro_probmix.calibration.scaling import RescaledDensity, ScaleFactor, Temperature, fit_scale, fit_temperature
from pyro_probmix.calibration.scores import (
    crps_draws,
    crps_gaussian,
    crps_gaussian_mixture,
    interval_score,
    sharpness,
)
from pyro_probmix.calibration.summary import before_and_after, check_density, summarise

__all__ = [
    "CalibrationCurve",
    "Density",
    "Estimate",
    "GaussianMixture",
    "IsotonicMap",
    "Predictions",
    "Reliability",
    "RemappedDensity",
    "RescaledDensity",
    "ScaleFactor",
    "Temperature",
    "before_and_after",
    "bootstrap_error",
    "brier_score",
    "check_density",
    "class_log_score",
    "coverage_curve",
    "crps_draws",
    "crps_gaussian",
    "crps_gaussian_mixture",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_scale",
    "fit_temperature",
    "interval_score",
    "mean_over_rows",
    "pit_curve",
    "pit_of_draws",
    "randomised_pit",
    "regression_calibration_error",
    "reliability",
    "sharpness",
    "summarise",
]
