"""The importance of a table's columns: how much the NLL rises when one of them is shuffled."""

from __future__ import annotations

__all__ = ["MOST_MEASURED", "importances", "shuffled_rows"]

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.row_scores import BLOCK_ROWS, scores_of

#: The most rows that are predicted for the importances, over all columns and shuffles, and these rows x the densities that are
#: mixed for each: so many take 10 s of a core.
MOST_SHUFFLED, MOST_MIXED = 20_000, 800_000
#: The most and the fewest shuffles of a column, and the fewest rows, however many columns there are.
MOST_REPEATS, LEAST_REPEATS, LEAST_SHUFFLED = 5, 2, 25
#: Of so many columns at most the importance is measured, the first ones of the table.
MOST_MEASURED = 200


def shuffled_rows(num_columns: int, some: npt.NDArray[np.intp], mixed: int) -> tuple[npt.NDArray[np.intp], int]:
    """The rows among which columns are shuffled for their importances, and how often each column is.

    Args:
        num_columns: of the table.
        some: rows to choose from.
        mixed: number of densities that are mixed for each row.
    """
    num_columns, most = min(num_columns, MOST_MEASURED), min(MOST_SHUFFLED, MOST_MIXED // mixed)
    repeats = int(np.clip(most // (num_columns * len(some)), LEAST_REPEATS, MOST_REPEATS))
    rows = max(LEAST_SHUFFLED, most // (num_columns * repeats))
    # Spaced evenly, so that a table in the order of time is covered from its start to its end.
    return some[np.unique(np.linspace(0, len(some) - 1, min(rows, len(some))).astype(np.intp))], repeats


def importances(
    model: TableModel, frame: pd.DataFrame, y: np.ndarray, repeats: int, seed: int, bar: Any
) -> pd.DataFrame:
    """The rise of the NLL when a column is permuted, mean and standard deviation over the repeats.

    Shuffled copies of the rows are predicted many at a time: what a column means is looked up once for all of them.
    """
    x = model.features(frame)
    n, rng = len(x), np.random.default_rng(seed)
    names = list(x.columns)[:MOST_MEASURED]
    jobs = [(name, rng.permutation(n)) for name in names for _ in range(repeats)]
    together, found = max(1, BLOCK_ROWS // n), np.empty(len(jobs))
    for start in range(0, len(jobs), together):
        block = jobs[start : start + together]
        places = np.tile(np.arange(n), len(block))
        many = x.iloc[places].reset_index(drop=True)
        for name in dict.fromkeys(name for name, _ in block):
            moved = places.copy()
            for k, (shuffled, order) in enumerate(block):
                if shuffled == name:
                    moved[k * n : (k + 1) * n] = order
            many[name] = x[name].iloc[moved].array
        found[start : start + len(block)] = scores_of(model, many, y[places]).reshape(len(block), n).mean(1)
        bar.update(len(block))
    rise = found.reshape(len(names), repeats) - scores_of(model, x, y).mean()
    table = pd.DataFrame({"mean": rise.mean(1), "std": rise.std(1, ddof=1)}, index=names)
    return table.sort_values("mean", ascending=False)
