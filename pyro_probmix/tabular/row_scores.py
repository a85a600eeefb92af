"""The NLL of each row of a table under a model, and that of plain models beside it."""

from __future__ import annotations

__all__ = ["BLOCK_ROWS", "plain_losses", "refuse_ruled_out", "row_scores", "scores_of"]

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold

from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.estimators.ensemble.support import in_words, ruled_out
from pyro_probmix.estimators.targets.constant import constant_nll
from pyro_probmix.inference.predictive.intervals import log_probability_at
from pyro_probmix.names import shown
from pyro_probmix.tabular.model import TableModel

#: Rows that are scored at once.
BLOCK_ROWS = 2000
#: Plain models are fitted to at most so many rows, and not at all to fewer than the second number.
MOST_OF_PLAIN, FEWEST_OF_PLAIN = 2000, 20


def row_scores(model: TableModel, frame: pd.DataFrame, y: np.ndarray) -> npt.NDArray[np.float64]:
    """The NLL of each row, in nats, [n]; of targets whose ends are given, [n, 2], that of what is known."""
    return scores_of(model, model.features(frame), y)


def scores_of(model: TableModel, x: pd.DataFrame, y: np.ndarray) -> npt.NDArray[np.float64]:
    """The same of rows whose features are read, see :meth:`TableModel.features`."""
    import torch

    if isinstance(model.estimator, ProbMixClassifier):
        position = {str(name): k for k, name in enumerate(model.classes)}
        unknown = [label for label in y if label not in position]
        if unknown:
            raise ValueError(
                f"the target holds {shown(unknown[0])}, expected one of {', '.join(position)}. Try other rows."
            )
        probabilities = model.estimator.predict_proba(x)[np.arange(len(y)), [position[label] for label in y]]
        # A class that was ruled out counts as the least probability that there is, 708 nats, so that means can be taken.
        return np.asarray(-np.log(np.maximum(probabilities, np.finfo(float).tiny)))
    scores = np.empty(len(x))
    known = np.ones(len(x), dtype=bool)
    if model.ends is not None:
        known = y[:, 0] == y[:, 1]
        low, high = y.T
        for rows, predictive in _predictives(model, x, np.flatnonzero(~known)):
            inside = log_probability_at(predictive, np.nextafter(low[rows], -np.inf), high[rows])  # of (a, b]
            scores[rows] = -np.maximum(inside, np.log(np.finfo(float).tiny))
        y = low
    for rows, predictive in _predictives(model, x, np.flatnonzero(known)):
        scores[rows] = -predictive.log_prob(torch.tensor(y[rows])).cpu().numpy()
    return scores


def _predictives(model: TableModel, x: pd.DataFrame, rows: npt.NDArray[np.intp]) -> Iterator[tuple[Any, Any]]:
    """Blocks of some rows, and their predictive densities."""
    import torch

    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        with torch.no_grad():
            predictive = model.estimator.predict_dist(x.iloc[block])
        yield block, predictive


def refuse_ruled_out(model: TableModel, y: np.ndarray) -> None:
    """Raises ValueError for a target of numbers, where it is known, that the model's likelihood cannot have."""
    if isinstance(model.estimator, ProbMixClassifier):
        return
    known = np.ones(len(y), dtype=bool)
    if model.ends is not None:
        known, y = y[:, 0] == y[:, 1], y[:, 0]
    support, targets = model.estimator.state_.recipe.support(), y.reshape(len(y), -1)
    out = np.zeros(targets.shape, dtype=bool)
    out[known] = ruled_out(support, targets[known])
    wrong = np.argwhere(out)
    if len(wrong):
        row, t = (int(i) for i in wrong[0])
        raise ValueError(
            f"target column {shown(model.targets[t])} is {float(targets[row, t])} at row {row} (rows counted from 0), expected "
            f"{in_words(support)}, as the model's likelihood does. Try dropping that row, or fitting with another --likelihood."
        )


def plain_losses(model: TableModel, frame: pd.DataFrame, y: np.ndarray) -> dict[str, float]:
    """NLLs, in nats a row, of plain models fitted to these rows and scored by five-fold cross-validation on them.

    A density without features, and a linear model (with a normal density of its errors) or a logistic one; the first alone
    for targets whose ends are given, [n, 2].
    """
    classes = isinstance(model.estimator, ProbMixClassifier)
    targets = np.unique(y, return_inverse=True)[1].astype(np.float64) if classes else y.reshape(len(y), -1)
    if len(y) < FEWEST_OF_PLAIN:
        return {}
    some = np.random.default_rng(0).permutation(len(y))[:MOST_OF_PLAIN]
    targets = targets[some]
    x = model.estimator.standardised_features(model.features(frame.iloc[some].reset_index(drop=True)))
    found: dict[str, list[float]] = {"a constant density": [], "a linear model": []}
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        ones, others = np.ones(len(train)), np.ones(len(test))
        family, ends = "class" if classes else "real", model.ends is not None
        constant = constant_nll(family, targets[train], ones, targets[test], others, ends=ends)
        found["a constant density"].append(float("nan") if constant is None else constant)
        if classes and len(np.unique(targets[train])) == len(np.unique(targets)):
            fitted = LogisticRegression(max_iter=200).fit(x[train], targets[train])
            probabilities = fitted.predict_proba(x[test])[np.arange(len(test)), targets[test].astype(int)]
            found["a linear model"].append(-float(np.log(np.maximum(probabilities, 1e-12)).mean()))
        elif not classes and not ends:
            fitted = RidgeCV(np.logspace(-2, 4, 13)).fit(x[train], targets[train])
            left, right = (targets[rows] - fitted.predict(x[rows]).reshape(len(rows), -1) for rows in (train, test))
            freedom = max(
                1.0, len(train) - min(x.shape[1], len(train) / 2)
            )  # errors on the training rows are too small
            loss = constant_nll("real", left * np.sqrt(len(train) / freedom), ones, right, others)
            found["a linear model"].append(float("nan") if loss is None else loss)
    return {name: float(np.mean(losses)) for name, losses in found.items() if losses}
