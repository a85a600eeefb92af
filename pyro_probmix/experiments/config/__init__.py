"""What decides the numbers of a run: the configuration, its grid, its checks."""

from pyro_probmix.experiments.config.config import EXPERIMENTS, TOLD, Config, read_config

__all__ = ["EXPERIMENTS", "TOLD", "Config", "read_config"]
