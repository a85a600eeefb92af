"""Distributions of the heads that neither torch nor Pyro has, or has in part: mixtures, splines, points beside a density."""
