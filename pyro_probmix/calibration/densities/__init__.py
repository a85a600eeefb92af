"""Predictive densities on NumPy arrays, and their recalibration."""
