"""Scores, PIT, coverage and reliability on NumPy arrays, each with its standard error."""
