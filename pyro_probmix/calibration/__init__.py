"""Calibration checks and recalibration on NumPy arrays, and their conversion to ArviZ; nothing here imports torch."""

from pyro_probmix.calibration.arviz.data import loo, save_netcdf, to_arviz
from pyro_probmix.calibration.checking import CheckReport, bayesian_p_values, check
from pyro_probmix.calibration.densities.density import Density
from pyro_probmix.calibration.densities.isotonic import IsotonicMap, RemappedDensity, fit_isotonic
from pyro_probmix.calibration.densities.mixtures import GaussianMixture, ScipyMixture
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.densities.scaling import (
    RescaledDensity,
    ScaleFactor,
    Temperature,
    fit_scale,
    fit_temperature,
)
from pyro_probmix.calibration.scores.band import CalibrationCurve, uniform_curve
from pyro_probmix.calibration.scores.classes import (
    Reliability,
    brier_score,
    class_log_score,
    expected_calibration_error,
    reliability,
)
from pyro_probmix.calibration.scores.estimate import Estimate, bootstrap_error, mean_over_rows
from pyro_probmix.calibration.scores.pit import (
    coverage_curve,
    pit_curve,
    pit_of_draws,
    randomised_pit,
    regression_calibration_error,
)
from pyro_probmix.calibration.scores.regression import (
    crps_draws,
    crps_gaussian,
    crps_gaussian_mixture,
    interval_score,
    sharpness,
)
from pyro_probmix.calibration.summary import before_and_after, check_density, summarise

__all__ = [
    "CalibrationCurve",
    "CheckReport",
    "Density",
    "Estimate",
    "GaussianMixture",
    "IsotonicMap",
    "Predictions",
    "Reliability",
    "RemappedDensity",
    "RescaledDensity",
    "ScaleFactor",
    "ScipyMixture",
    "Temperature",
    "bayesian_p_values",
    "before_and_after",
    "bootstrap_error",
    "brier_score",
    "check",
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
    "loo",
    "mean_over_rows",
    "pit_curve",
    "pit_of_draws",
    "randomised_pit",
    "regression_calibration_error",
    "reliability",
    "save_netcdf",
    "sharpness",
    "summarise",
    "to_arviz",
    "uniform_curve",
]
