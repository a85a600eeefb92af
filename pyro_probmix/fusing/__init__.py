"""Fusing at a site of a Pyro model: the effect handler, the labels' kernels and perturbation, the prior guide."""
