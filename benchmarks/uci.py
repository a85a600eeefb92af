"""Untuned densities on the UCI sets over their published splits: ``python benchmarks/uci.py --splits 20``.

ProbMixRegressor as it comes, beside NGBoost, CatBoost (``RMSEWithUncertainty``), scikit-learn's boosted trees with a Gaussian
of constant variance (that of residuals of 5-fold cross-validation), a quantile forest, and TabM with a Gaussian of constant
variance (that of residuals of the fifth of the rows by which it chooses its epoch), all with their defaults. Each is fitted on
a split's training rows and scored on its test rows, in the target's units: NLL, the NLL of the rounding interval, CRPS, RMSE,
the share of targets in the central 90 % interval (of ProbMix also in the conformal one), and the processor time of the fit. A
quantile forest gives 99 quantiles, of which it has a CRPS, and no density: it has no NLL.

Split by split, each fit is added to ``benchmarks/uci.json`` when it is done, and one that is there is not run again. Then
tables are printed: of the splits that all models have run but TabM, which takes the longest, and of the splits of TabM.
``--table`` prints them alone. ``--datasets`` and ``--models`` choose some; ``--data-dir`` names a folder with the sets, which
are else downloaded once. ``pip install '.[uci]'`` installs the other models.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("uci.json")
MODELS = ("ProbMix", "NGBoost", "CatBoost", "HGB", "Forest", "TabM")
NAMES = {
    "NGBoost": "NGBoost",
    "CatBoost": "CatBoost",
    "HGB": "scikit-learn's boosted trees",
    "Forest": "a quantile forest",
}
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

    def tabm() -> Any:
        from pytabkit import TabM_D_Regressor

        own = np.random.default_rng(0).permutation(len(y))[: len(y) // 5]
        made = TabM_D_Regressor(device="cpu", random_state=0, n_threads=1).fit(X, y, val_idxs=own)
        std = np.sqrt(np.mean((made.predict(X[own]).ravel() - y[own]) ** 2))
        mean = made.predict(X_test).ravel()
        return mean, np.full(len(mean), std)

    makers: dict[str, Callable[[], Any]] = {
        "ProbMix": probmix,
        "NGBoost": ngboost,
        "CatBoost": catboost,
        "HGB": boosted,
        "Forest": forest,
        "TabM": tabm,
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


def complete(rows: list[dict[str, Any]], models: Sequence[str]) -> Any:
    """The scores of these models, of the splits that all of them have run: [dataset, split, model, metric]."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=["dataset", "split", "model", *METRICS])
    table = table[table["model"].isin(models)]
    return table[table.groupby(["dataset", "split"])["model"].transform("nunique") == len(models)]


def means(table: Any, models: Sequence[str]) -> list[str]:
    """Of each metric a table of means over the splits, [dataset, model]; of the NLLs the lowest published ones, too."""
    from pyro_probmix.experiments.report.numbers.paper import published_nll

    published = published_nll().min()
    lines = []
    for metric in METRICS:
        beside = ["published"] if "nll" in metric and len(models) > 2 else []
        lines.append(f"{metric:<24}{'splits':>7}" + "".join(f"{head:>12}" for head in (*models, *beside)))
        for dataset, part in table.groupby("dataset"):
            found = part.groupby("model")[metric].mean()
            values = [found[model] for model in models] + [published[dataset] for _ in beside]
            shown = "".join(f"{value:>12.4g}" if value == value else f"{'':>12}" for value in values)
            lines.append(f"{dataset:<24}{part['split'].nunique():>7}" + shown.rstrip())
        lines.append("")
    return lines


@dataclass(frozen=True)
class Summary:
    """What the means over the splits come to: numbers of sets, a ratio, shares of test rows by set."""

    sets: int
    published: int
    #: Sets whose interval NLL is at or below the lowest of the published NLLs.
    reached: int
    #: Sets on which ProbMix has the lower value, by metric and other model.
    lower: dict[tuple[str, str], int]
    #: Its RMSE over that of the boosted trees, mean over the sets.
    rmse: float
    coverage: Any
    conformal: Any

    @classmethod
    def of(cls, table: Any) -> Summary:
        from pyro_probmix.experiments.report.numbers.paper import published_nll

        mean = table.groupby(["dataset", "model"])[list(METRICS)].mean().unstack("model")
        own, published = mean.xs("ProbMix", axis="columns", level="model"), published_nll()
        lower = {
            (metric, model): int((own[metric] < mean[metric][model]).sum())
            for metric, models in (("interval nll", MODELS[1:4]), ("crps", MODELS[1:5]))
            for model in models
        }
        reached = int((own["interval nll"] <= published.min()[mean.index]).sum())
        ratio = float((own["rmse"] / mean["rmse"]["HGB"]).mean())
        return cls(len(mean), len(published), reached, lower, ratio, own["coverage"], own["conformal"])

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """What is measured, against what, and how it came out."""
        of = f"of {self.sets} UCI sets"
        yield (
            "NLL of the rounding interval",
            f"the lowest of {self.published} published NLLs",
            f"no higher on {self.reached} {of}",
        )
        for metric, what in (("interval nll", "NLL of the rounding interval"), ("crps", "CRPS")):
            lower = {model: count for (other, model), count in self.lower.items() if other == metric}
            names = ", ".join(NAMES[model] for model in lower)
            yield what, names, f"lower on {', '.join(map(str, lower.values()))} {of}"
        yield "RMSE", NAMES["HGB"], f"{self.rmse:.2f} of it, mean {of}"
        for what, shares, low, high in (("", self.coverage, 0.87, 0.93), ("conformal ", self.conformal, 0.89, 1.0)):
            inside = f"{100 * low:.0f} to {100 * high:.0f} % on {int(shares.between(low, high).sum())} {of}"
            yield (
                f"coverage of {what}90 % intervals",
                "90 %",
                f"{100 * shares.min():.1f} to {100 * shares.max():.1f} %; {inside}",
            )


def report(rows: list[dict[str, Any]]) -> str:
    """Means over the splits that all models have run, what they come to, and the same of ProbMix and TabM alone."""
    table = complete(rows, MODELS[:-1])
    lines = [
        *means(table, MODELS[:-1]),
        *(f"{what} against {other}: {value}" for what, other, value in Summary.of(table).lines()),
    ]
    slow = complete(rows, (MODELS[0], MODELS[-1]))
    if len(slow):
        lines += ["", *means(slow, (MODELS[0], MODELS[-1]))]
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.published_splits import command

    command(__doc__, RESULTS, MODELS, score, report)
