"""The configuration of a run, its grid of alpha and beta, and its checks."""

from pyro_probmix.experiments.config.config import EXPERIMENTS, PROVENANCE, Config, read_config

__all__ = ["EXPERIMENTS", "PROVENANCE", "Config", "read_config"]
