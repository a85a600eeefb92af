"""Untuned regressors on the UCI sets over their published splits: ``python benchmarks/estimators.py --splits 5``.

ProbMixRegressor with a Gaussian likelihood, else as it comes, beside scikit-learn's MLPRegressor (features and target
standardised, since it leaves both to the user) and HistGradientBoostingRegressor, and NGBoost, all with their defaults. Each
is fitted on a split's training rows and scored on its test rows: RMSE, and the NLL in nats a row in the target's units. Models
without a density get a Gaussian of constant variance: that of the residuals of the training rows themselves ("nll train"), or,
which is harder to beat, that of residuals of 5-fold cross-validation over them ("nll cv").

Each fit is added to ``benchmarks/estimators.json`` when it is done, and one that is there is not run again. Then a table is
printed. ``--table`` prints it alone; ``--datasets`` and ``--models`` choose some; ``--data-dir`` names a folder with the sets,
which are else downloaded once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
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
    """Fit a model on training rows, and score it on test rows."""
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


def run(datasets: list[str], models: list[str], splits: int, data_dir: str | None) -> None:
    """Run what is not in the results yet, and add it."""
    import numpy as np

    from pyro_probmix.experiments.data.uci import load_uci

    for dataset in datasets:
        table, published = load_uci(dataset, data_dir)
        for split in range(splits):
            for model in models:
                rows = read()
                if any((r["dataset"], r["split"], r["model"]) == (dataset, split, model) for r in rows):
                    continue
                train = np.sort(np.concatenate([published[split].train, published[split].validation]))
                test = published[split].test
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # MLPRegressor's, that its default number of epochs is too small
                    found = score(model, table.x[train], table.y[train], table.x[test], table.y[test])
                rows.append({"dataset": dataset, "split": split, "model": model, **found})
                partial = RESULTS.with_suffix(".partial")
                partial.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
                os.replace(partial, RESULTS)
                print(
                    f"{dataset:<24}{split:>3}  {model:<8} " + "  ".join(f"{k} {v:.4g}" for k, v in found.items()),
                    flush=True,
                )


def read() -> list[dict[str, Any]]:
    """The results so far."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    return rows


def report() -> str:
    """Means over the splits that all models have, beside the lowest published NLL, and on how many sets which is lower."""
    import numpy as np
    import pandas as pd

    from pyro_probmix.experiments.report.numbers.paper import published_nll

    rows = pd.DataFrame(read())
    complete = rows.groupby(["dataset", "split"])["model"].nunique() == len(MODELS)
    rows = rows.set_index(["dataset", "split"]).loc[complete[complete].index]
    mean = rows.groupby(["dataset", "model"]).mean(numeric_only=True).unstack("model")
    splits = rows.reset_index().groupby("dataset")["split"].nunique()
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


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5, help="the first so many published splits, at most 20")
    parser.add_argument("--datasets", nargs="+", help="by default all eight")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data-dir", help="folder with the published files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    arguments = parser.parse_args()
    # Libraries read these when they are first imported, hence the imports further down.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from pyro_probmix.experiments.data.uci import UCI_DATASETS

    try:
        if not arguments.table:
            run(arguments.datasets or list(UCI_DATASETS), arguments.models, arguments.splits, arguments.data_dir)
        print(report())
    except (OSError, ValueError) as error:
        sys.exit(f"estimators: {error}")


if __name__ == "__main__":
    main()
