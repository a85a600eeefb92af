"""Integrals over the line and sums over counts, for a batch of densities at once, on cells chosen for each row."""
