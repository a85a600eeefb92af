"""Linear and log-linear pools of distributions, in closed form for registered families, else numerically."""

from pyro_probmix.pooling.pools import linear_pool, log_linear_pool, pool_rows

__all__ = ["linear_pool", "log_linear_pool", "pool_rows"]
