"""Untuned regressors on the UCI sets over their published splits: ``python benchmarks/estimators.py --splits 5``.

ProbMixRegressor with a Gaussian likelihood, else as it comes, beside scikit-learn's MLPRegressor (features and target
standardised, since it leaves both to the user) and HistGradientBoostingRegressor, and NGBoost, all with their defaults. Each
is fitted on a split's training rows and scored on its test rows: RMSE, and the NLL in nats a row in the target's units. Models
without a density get a Gaussian of constant variance: that of the residuals of the training rows themselves ("nll train"), or,
which is harder to beat, that of residuals of 5-fold cross-validation over them ("nll cv").

Split by split, each fit is added to ``benchmarks/estimators.json`` when it is done, and one that is there is not run again.
Then a table is printed. ``--table`` prints it alone; ``--datasets`` and ``--models`` choose some; ``--data-dir`` names a folder
with the sets, which are else downloaded once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("estimators.json")
MODELS = ("ProbMix", "MLP", "HGB", "NGBoost")


def regressor(model: str) -> Any:
    """A model with its defaults."""
    from ngboost import NGBRegressor
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from pyro_probmix import ProbMixRegressor

    def mlp() -> Any:
        return TransformedTargetRegressor(
            make_pipeline(StandardScaler(), MLPRegressor(random_state=0)), transformer=StandardScaler()
        )

    makers: dict[str, Callable[[], Any]] = {
        "ProbMix": lambda: ProbMixRegressor(likelihood="gaussian", random_state=0),
        "MLP": mlp,
        "HGB": lambda: HistGradientBoostingRegressor(random_state=0),
        "NGBoost": lambda: NGBRegressor(random_state=0, verbose=False),
    }
    return makers[model]()


def score(model: str, X: Any, y: Any, X_test: Any, y_test: Any) -> dict[str, float]:
    """Fits a model on training rows, and scores it on test rows."""
    import numpy as np
    from sklearn.model_selection import KFold, cross_val_predict

    started = time.perf_counter()
    fitted = regressor(model).fit(X, y)
    seconds = time.perf_counter() - started
    predicted = fitted.predict(X_test)
    found = {"rmse": float(np.sqrt(np.mean((predicted - y_test) ** 2))), "seconds": seconds}

    def constant(residuals: Any) -> float:
        variance = np.mean(residuals**2)
        return float(np.mean(0.5 * np.log(2 * np.pi * variance) + (predicted - y_test) ** 2 / (2 * variance)))

    if model == "ProbMix":
        found["nll"] = fitted.nll(X_test, y_test)
    elif model == "NGBoost":
        found["nll"] = float(-fitted.pred_dist(X_test).logpdf(y_test).mean())
    else:
        folds = KFold(5, shuffle=True, random_state=0)
        found["nll train"] = constant(fitted.predict(X) - y)
        found["nll cv"] = constant(cross_val_predict(regressor(model), X, y, cv=folds) - y)
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """Means over the splits that all models have, beside the lowest published NLL, and on how many sets which is lower."""
    import numpy as np
    import pandas as pd

    from pyro_probmix.experiments.report.numbers.paper import published_nll

    table = pd.DataFrame(rows)
    complete = table.groupby(["dataset", "split"])["model"].nunique() == len(MODELS)
    table = table.set_index(["dataset", "split"]).loc[complete[complete].index]
    mean = table.groupby(["dataset", "model"]).mean(numeric_only=True).unstack("model")
    splits = table.reset_index().groupby("dataset")["split"].nunique()
    mean["nll", "published"] = published_nll().min()
    constant = [(kind, model) for kind in ("nll cv", "nll train") for model in ("MLP", "HGB")]
    lines = []
    for title, columns in (
        ("RMSE", [("rmse", model) for model in MODELS]),
        ("NLL", [("nll", "ProbMix"), ("nll", "published"), ("nll", "NGBoost"), *constant]),
    ):
        heads = [f"{model}{kind.removeprefix('nll').removeprefix('rmse')}" for kind, model in columns]
        lines.append(f"{title + ', mean over splits':<24}{'splits':>7}" + "".join(f"{head:>16}" for head in heads))
        for dataset, values in mean[columns].iterrows():
            lines.append(f"{dataset:<24}{splits[dataset]:>7}" + "".join(f"{value:>16.4g}" for value in values))
        lines.append("")
    for other in ("MLP", "HGB"):
        ratio = (mean["rmse", "ProbMix"] / mean["rmse", other]).mean()
        lines.append(f"RMSE relative to {other}, mean over {len(mean)} sets: {ratio:.3f}")
    for label, columns_of_other in (
        ("NGBoost", [("nll", "NGBoost")]),
        ("MLP and HGB, constant variance by cross-validation", [("nll cv", "MLP"), ("nll cv", "HGB")]),
        ("MLP and HGB, constant variance of training residuals", [("nll train", "MLP"), ("nll train", "HGB")]),
    ):
        below = (mean["nll", "ProbMix"].to_numpy()[:, None] < mean[columns_of_other].to_numpy()).all(1)
        lines.append(f"NLL below that of {label}: on {int(np.sum(below))} of {len(mean)} sets")
    reached = mean["nll", "ProbMix"] <= mean["nll", "published"]
    lines.append(f"NLL at or below the lowest published: on {int(reached.sum())} of {len(mean)} sets")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.published_splits import command

    command(__doc__, RESULTS, MODELS, score, report)
