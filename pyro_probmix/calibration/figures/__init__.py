"""Figures of predictions: observed values in their intervals, and the density along a feature."""
