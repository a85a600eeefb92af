"""Linear and log-linear pools of distributions, in closed form for registered families, else numerically."""

import pyro_probmix.pooling.naturals  # noqa: F401 # registers the families
from pyro_probmix.pooling.pools import linear_pool, log_linear_pool, pool_rows

__all__ = ["linear_pool", "log_linear_pool", "pool_rows"]
