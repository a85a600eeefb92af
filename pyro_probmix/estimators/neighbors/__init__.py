"""The nearest training rows at a prediction: kernels around their corrected targets, pooled with the members' densities."""
