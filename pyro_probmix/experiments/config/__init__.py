"""The configuration of a run, its grid of alpha and beta, and its checks."""

from pyro_probmix.experiments.config.config import EXPERIMENTS, PAPER, PROVENANCE, Config, read_config, with_setting

__all__ = ["EXPERIMENTS", "PAPER", "PROVENANCE", "Config", "read_config", "with_setting"]
