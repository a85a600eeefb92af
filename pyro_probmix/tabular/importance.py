"""The importance of a table's columns: how much the NLL rises when one of them is shuffled."""

from __future__ import annotations

__all__ = ["importances", "shuffled_rows"]

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.inspection import permutation_importance

from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.row_scores import row_scores

#: The most rows that are predicted for the importances, over all columns and shuffles: half a minute for a usual ensemble.
MOST_SHUFFLED = 50_000
#: The most and the fewest shuffles of a column, and the fewest rows, however many columns there are.
MOST_REPEATS, LEAST_REPEATS, LEAST_SHUFFLED = 5, 3, 100


def shuffled_rows(num_columns: int, some: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], int]:
    """The rows among which columns are shuffled for their importances, and how often each column is."""
    repeats = int(np.clip(MOST_SHUFFLED // (num_columns * len(some)), LEAST_REPEATS, MOST_REPEATS))
    rows = max(LEAST_SHUFFLED, MOST_SHUFFLED // (num_columns * repeats))
    # Spaced evenly, so that a table in the order of time is covered from its start to its end.
    return some[np.unique(np.linspace(0, len(some) - 1, min(rows, len(some))).astype(np.intp))], repeats


class _Scorer:
    """The model as an estimator whose features are the columns of the table, as scikit-learn permutes them."""

    def __init__(self, model: TableModel, bar: Any) -> None:
        self.model, self.bar = model, bar

    def fit(self, _x: Any, _y: Any) -> _Scorer:  # asked for by scikit-learn, never called
        return self

    def score(self, frame: pd.DataFrame, y: np.ndarray) -> float:
        score = -float(row_scores(self.model, frame, y).mean())
        self.bar.update()
        return score


def importances(
    model: TableModel, frame: pd.DataFrame, y: np.ndarray, repeats: int, seed: int, bar: Any
) -> pd.DataFrame:
    """The rise of the NLL when a column is permuted, mean and standard deviation over the repeats."""
    features = frame[list(model.columns.features)]
    found = permutation_importance(_Scorer(model, bar), features, y, n_repeats=repeats, random_state=seed)
    rise = found.importances  # [columns, repeats]
    table = pd.DataFrame({"mean": rise.mean(1), "std": rise.std(1, ddof=1)}, index=features.columns)
    return table.sort_values("mean", ascending=False)
