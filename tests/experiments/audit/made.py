"""Numbers of an audit that are made, not run."""

import numpy as np
import pandas as pd

from pyro_probmix.experiments.audit.design import canonical, design, part_of
from pyro_probmix.experiments.report.numbers.paper import METHODS

__all__ = ["made"]


def made(value, name="toy-regression", runs=12, methods=METHODS[:9], *, full=False):
    """Gathered numbers: the value of (setting, epoch, method, metric), with a little noise, in the folders of the design."""
    part, rng, rows = part_of(name), np.random.default_rng(0), {}
    for point in design(part, full=full):
        for method in methods:
            folder, _ = canonical(part, point, method)
            for epoch in ("validation", "last"):
                for metric in ("nll", "rmse", "sharpness"):
                    for split in range(runs):
                        number = value(point, epoch, method, metric) + 0.001 * rng.normal()
                        rows[name, folder, epoch, method, split, metric] = number
    keys = pd.MultiIndex.from_tuples(rows, names=["part", "folder", "epoch", "method", "split", "metric"])
    return pd.Series(list(rows.values()), keys, name="value").reset_index()
