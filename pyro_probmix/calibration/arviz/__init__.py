"""Predictions as ArviZ's data, and figures drawn by ArviZ."""
