"""Posterior predictive distributions: mixtures, quantiles, held-out scores, the way to the calibration checks."""
