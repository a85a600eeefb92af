"""Fitted estimators on disk: the file that is read back, its checks, and the program that PyTorch runs alone."""
