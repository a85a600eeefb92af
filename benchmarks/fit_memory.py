"""Memory that a fit of an epoch adds for each row of 20 features: ``python benchmarks/fit_memory.py 200000``."""

import resource
import sys

import numpy as np

from pyro_probmix import ProbMixRegressor


def peak() -> float:
    """The largest memory of this process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    n = int(sys.argv[1])
    x = np.random.default_rng(0).normal(size=(n, 20))
    y = np.sin(x[:, 0]) + 0.1 * np.random.default_rng(1).normal(size=n)
    ProbMixRegressor(epochs=1, random_state=0).fit(x[:2000], y[:2000]).predict(x[:100])  # what any fit takes
    before = peak()
    fitted = ProbMixRegressor(epochs=1, random_state=0).fit(x, y)
    print(f"{(peak() - before) / n:.2f} KiB a row", flush=True)
    fitted.predict(x)
    print(f"{peak() / 2**20:.2f} GiB in all, with a prediction of all rows")
