"""A prediction as a program of PyTorch's alone: distribution functions and quantiles by tensors, and the file."""
