"""Run folders with made-up numbers, for the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_probmix.experiments.report.numbers.paper import METHODS, paper_tables

KEYS = ["experiment", "dataset", "network", "method", "setting", "split"]
NINE = METHODS[:9]


def rows(key, metrics):
    """Rows of results for one method: ``key`` is KEYS without the split, ``metrics`` name -> values over the splits."""
    frame = (
        pd.DataFrame(metrics).rename_axis("split").reset_index().melt("split", var_name="metric", value_name="value")
    )
    return frame.assign(**dict(zip(KEYS[:-1], key, strict=True)))[[*KEYS, "metric", "value"]]


def uci(datasets=("yacht", "kin8nm"), methods=METHODS, settings=("fixed",), splits=4, seed=0):
    """Numbers around the paper's, in the target's own units."""
    rng = np.random.default_rng(seed)
    paper = paper_tables().query("network == 'mlp'").set_index(["dataset", "metric", "method"])["mean"]
    parts = []
    for setting in settings:
        for dataset in datasets:
            factor = 0.01 if dataset in ("kin8nm", "naval-propulsion-plant") else 1.0
            for method in methods:
                like = method.split("x ")[-1] if method.split("x ")[-1] in METHODS else "ERM"
                nll = paper[dataset, "nll", like] - 0.1 + 0.2 * rng.normal(size=splits)
                rmse = factor * paper[dataset, "rmse", like] * np.exp(0.1 * rng.normal(size=splits))
                metrics = {"nll": nll, "rmse": rmse, "validation nll": nll - 1, "best epoch": 500 + np.arange(splits)}
                metrics["seconds"] = np.full(splits, 2.0)
                if setting == "chosen":
                    metrics |= {
                        "alpha": np.full(splits, 0.1),
                        "beta": np.where(np.arange(splits) < splits / 2, 0.0, 0.01),
                    }
                    metrics["validation nll, alpha=0.1 beta=0" + (" start=1" if method == "ERM" else "")] = nll
                if "M-ProbMix" in method:
                    metrics |= {"nll (plug-in)": nll + 0.01, "rmse (plug-in)": rmse * 1.01}
                parts.append(rows(("uci", dataset, "mlp", method, setting), metrics))
    return pd.concat(parts, ignore_index=True)


def stocks(tickers=("GME", "GOOG", "NVDA", "RCL"), splits=3, dollars=10.0, seed=0):
    """Numbers around the paper's; RMSE in dollars."""
    rng = np.random.default_rng(seed)
    paper = paper_tables().query("network != 'mlp'").set_index(["network", "dataset", "metric", "method"])["mean"]
    parts = []
    for network in ("lstm", "transformer"):
        for ticker in tickers:
            for method in NINE:
                nll = paper[network, ticker, "nll", method] * np.exp(0.1 * rng.normal(size=splits))
                metrics = {"nll": nll + np.log(dollars), "nll (standardised)": nll, "validation nll": nll - 3}
                metrics["rmse"] = (
                    dollars * paper[network, ticker, "rmse", method] * np.exp(0.05 * rng.normal(size=splits))
                )
                parts.append(rows(("stocks", ticker, network, method, "fixed"), metrics))
    return pd.concat(parts, ignore_index=True)


def ablation(task, runs=5, methods=NINE, experiment=None, settings=None, seed=0):
    """A grid, or a toy's own run, with numbers of the toys' size, one far-off method in each."""
    rng = np.random.default_rng(seed)
    if settings is None:
        settings = [f"alpha={a:g} beta={b:g}" for b in (0, 0.01) for a in (0.01, 0.05, 0.1, 0.5, 1.0)]
    parts = []
    for setting in settings:
        for k, method in enumerate(methods):
            if task == "regression":
                metrics = {
                    "rmse": 30 + 3 * k + 3 * rng.normal(size=runs),
                    "sharpness": 20 + k + rng.normal(size=runs),
                    "nll": (200.0 if method == "Mix" else 6.0 + k) * np.exp(0.3 * rng.normal(size=runs)),
                }
            else:
                nll = 0.4 + 0.02 * k + 0.05 * rng.random(runs)
                metrics = {"accuracy": 0.9 - 0.01 * k + 0.01 * rng.normal(size=runs), "nll": nll}
            name = experiment or f"ablation-{task}"
            parts.append(rows((name, f"toy-{task}", "mlp", method, setting), metrics))
    return pd.concat(parts, ignore_index=True)


def curves(results, epochs=60, seed=0):
    """Curves that fall and flatten for every method of some results."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, key in enumerate(results[KEYS].drop_duplicates().itertuples(index=False, name=None)):
        epoch = np.arange(1, epochs + 1)
        train = 2 * np.exp(-epoch / 10) - 1 - 0.02 * (k % 5)
        noise = 0.05 * rng.normal(size=epochs)
        frame = pd.DataFrame({"epoch": epoch, "train_loss": train, "validation_nll": train + 0.3 + noise + epoch / 200})
        parts.append(frame.assign(**dict(zip(KEYS, key, strict=True))))
    return pd.concat(parts, ignore_index=True)


def pit(results, n=200, seed=0):
    """PIT counts of every method of some results, more or less overconfident."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, key in enumerate(results[KEYS].drop_duplicates().itertuples(index=False, name=None)):
        shape = 1.0 - 0.05 * (k % 11)
        count = np.bincount((100 * rng.beta(shape, shape, n)).astype(int).clip(0, 99), minlength=100)
        more = {"correct": 0, "confidence": np.nan}  # classes have them
        parts.append(
            pd.DataFrame({"bin": np.arange(100), "count": count, **more}).assign(**dict(zip(KEYS, key, strict=True)))
        )
    return pd.concat(parts, ignore_index=True)


def confidences(results, n=400, bins=100, seed=0):
    """Confidence counts of every method of some results of three classes."""
    rng = np.random.default_rng(seed)
    parts = []
    for key in results[KEYS].drop_duplicates().itertuples(index=False, name=None):
        confidence = rng.uniform(0.4, 1.0, n)
        right = rng.random(n) < confidence - 0.05
        place = (bins * confidence).astype(int).clip(0, bins - 1)
        count = np.bincount(place, minlength=bins)
        mean = np.bincount(place, weights=confidence, minlength=bins) / count.clip(min=1)
        sums = {"count": count, "correct": np.bincount(place, weights=right, minlength=bins), "confidence": mean}
        parts.append(pd.DataFrame({"bin": np.arange(bins), **sums}).assign(**dict(zip(KEYS, key, strict=True))))
    return pd.concat(parts, ignore_index=True)


def write_run(path, results, *, config=True, curves=None, calibration=None, figures=()):
    """A run's folder."""
    folder = Path(path)
    (folder / "figures").mkdir(parents=True)
    results.to_parquet(folder / "results.parquet", index=False)
    if config:
        record = {"experiment": results["experiment"].iloc[0], "epochs": 1000, "alpha": 0.1, "ran_on": "cpu"}
        record["versions"] = {"pyro_probmix": "0.1.0", "torch": "2.13.0"}
        (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    if curves is not None:
        curves.to_parquet(folder / "curves.parquet", index=False)
    if calibration is not None:
        calibration.to_parquet(folder / "calibration.parquet", index=False)
    for name in figures:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 1))
        FigureCanvasAgg(figure)
        figure.savefig(folder / "figures" / f"{name}.png")
    return folder
