"""Side-by-side timings of one training step: ours, plain PyTorch and NumPyro. See bench.py."""
