"""Untuned densities on the UCI sets over their published splits: ``python benchmarks/uci.py --splits 20``.

ProbMixRegressor as it comes, beside NGBoost, CatBoost (``RMSEWithUncertainty``), scikit-learn's boosted trees with a Gaussian
of constant variance (that of residuals of 5-fold cross-validation), and a quantile forest, all with their defaults. Each is
fitted on a split's training rows and scored on its test rows, in the target's units: NLL, the NLL of the rounding interval,
CRPS, RMSE, the share of targets in the central 90 % interval (of ProbMix also in the conformal one), and the processor time of
the fit. A quantile forest gives 99 quantiles, of which it has a CRPS, and no density: it has no NLL.

Split by split, each fit is added to ``benchmarks/uci.json`` when it is done, and one that is there is not run again. Then a
table is printed; ``--table`` prints it alone. ``--datasets`` and ``--models`` choose some; ``--data-dir`` names a folder with
the sets, which are else downloaded once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("uci.json")
MODELS = ("ProbMix", "NGBoost", "CatBoost", "HGB", "Forest")
METRICS = ("nll", "interval nll", "crps", "rmse", "coverage", "conformal", "cpu s")
#: Of quantile forests, to score them by.
LEVELS = 99


def gaussian(fitted: Any, X: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of a fitted CatBoost model."""
    mean, variance = fitted.predict(X).T
    return mean, variance**0.5


def fit_predict(model: str, X: Any, y: Any, X_test: Any) -> Any:
    """Fits a model on training rows; its mean and either a Gaussian's standard deviation, quantiles, or the model itself."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    def probmix() -> Any:
        from pyro_probmix import ProbMixRegressor

        return ProbMixRegressor(random_state=0).fit(X, y)

    def ngboost() -> Any:
        from ngboost import NGBRegressor

        found = NGBRegressor(random_state=0, verbose=False).fit(X, y).pred_dist(X_test)
        return found.loc, found.scale

    def catboost() -> Any:
        from catboost import CatBoostRegressor

        made = CatBoostRegressor(
            loss_function="RMSEWithUncertainty", random_seed=0, verbose=False, thread_count=1, allow_writing_files=False
        )
        return gaussian(made.fit(X, y), X_test)

    def boosted() -> Any:
        trees = HistGradientBoostingRegressor(random_state=0)
        residuals = cross_val_predict(trees, X, y, cv=KFold(5, shuffle=True, random_state=0)) - y
        mean = trees.fit(X, y).predict(X_test)
        return mean, np.full(len(mean), np.sqrt(np.mean(residuals**2)))

    def forest() -> Any:
        from quantile_forest import RandomForestQuantileRegressor

        made = RandomForestQuantileRegressor(random_state=0, n_jobs=1).fit(X, y)
        levels = [(k + 0.5) / LEVELS for k in range(LEVELS)]
        return made.predict(X_test, quantiles="mean"), made.predict(X_test, quantiles=levels)

    makers: dict[str, Callable[[], Any]] = {
        "ProbMix": probmix,
        "NGBoost": ngboost,
        "CatBoost": catboost,
        "HGB": boosted,
        "Forest": forest,
    }
    return makers[model]()


def score(model: str, X: Any, y: Any, X_test: Any, y_test: Any) -> dict[str, float]:
    """Fits a model on training rows, and scores it on test rows."""
    import numpy as np
    from scipy.stats import norm

    from pyro_probmix.calibration.scores.regression import crps_gaussian
    from pyro_probmix.estimators.targets.kinds import grid_of

    started = time.process_time()
    made = fit_predict(model, X, y, X_test)
    found = {"cpu s": time.process_time() - started}
    grid = grid_of(y)
    if model == "ProbMix":
        mean = made.predict(X_test)
        low, high = made.predict_interval(X_test, 0.9, conformal=True).T
        found["conformal"] = float(np.mean((low <= y_test) & (y_test <= high)))
        low, high = made.predict_interval(X_test, 0.9).T
        levels = (np.arange(LEVELS) + 0.5) / LEVELS
        found |= {"nll": made.nll(X_test, y_test), "interval nll": made.interval_nll(X_test, y_test)}
        found |= {"crps": pinball(y_test, made.predict_quantiles(X_test, levels))}
    elif model == "Forest":
        mean, quantiles = made
        low, high = (quantiles[:, round(level * LEVELS - 0.5)] for level in (0.05, 0.95))
        found |= {"crps": pinball(y_test, quantiles)}
    else:
        mean, std = made
        low, high = mean - 1.6448536 * std, mean + 1.6448536 * std
        found |= {"nll": float(-norm.logpdf(y_test, mean, std).mean())}
        found |= {"interval nll": found["nll"]}
        if grid:
            z = np.abs(y_test - mean)  # the difference is exact in the lower tail
            mass = norm.cdf(grid / 2 - z, 0, std) - norm.cdf(-grid / 2 - z, 0, std)
            found |= {"interval nll": float(-np.log(np.maximum(mass, 1e-300) / grid).mean())}
        found |= {"crps": float(np.mean(crps_gaussian(y_test, mean, std)))}
    found |= {"rmse": float(np.sqrt(np.mean((mean - y_test) ** 2)))}
    found |= {"coverage": float(np.mean((low <= y_test) & (y_test <= high)))}
    return found


def pinball(y: Any, quantiles: Any) -> float:
    """The CRPS by quantiles [n, Q] of evenly spaced levels: twice the mean pinball loss."""
    import numpy as np

    levels = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    over = y[:, None] - quantiles
    return float(2 * np.mean(np.maximum(levels * over, (levels - 1) * over)))


def report(rows: list[dict[str, Any]]) -> str:
    """Means over the splits that all models of a set have run."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=["dataset", "split", "model", *METRICS])
    ran = table.groupby(["dataset", "split"])["model"].transform("nunique") == table["model"].nunique()
    table = table[ran]
    lines = []
    for metric in METRICS:
        lines.append(f"{metric:<24}{'splits':>7}" + "".join(f"{model:>12}" for model in MODELS))
        for dataset, part in table.groupby("dataset"):
            means = part.groupby("model")[metric].mean()
            values = [f"{means[model]:>12.4g}" if means.notna().get(model) else f"{'':>12}" for model in MODELS]
            lines.append(f"{dataset:<24}{part['split'].nunique():>7}" + "".join(values).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.published_splits import command

    command(__doc__, RESULTS, MODELS, score, report)
