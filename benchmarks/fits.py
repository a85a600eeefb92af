"""Whole fits and predictions beside boosted trees, in one run: ``python benchmarks/fits.py``.

ProbMixRegressor as it comes, and that of another checkout (``--other FOLDER``), NGBoost, CatBoost (RMSEWithUncertainty) and
scikit-learn's HistGradientBoostingRegressor (with a Gaussian of constant variance, that of the residuals of a fifth of the rows
that it was not fitted to), each with its defaults, on rows of a noisy function of 10 features whose noise depends on them.
Each fit runs in a process of its own, on one core: processor's seconds of the fit and of the mean and standard deviation of
20,000 new rows, the memory that both add at their peak, and the NLL and RMSE of these rows.

Each row is added to ``benchmarks/fits.json`` when it is done, and the table in ``docs/speed.md`` is written from there.
``--sizes`` chooses numbers of rows; ``--quick`` is done within two minutes on a core of its own (300 rows, fewer epochs) and
writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "fits.json", ROOT / "docs" / "speed.md"
SIZES = (1000, 2000, 20_000, 50_000, 100_000)
MODELS = ("ProbMix", "ProbMix, other", "NGBoost", "CatBoost", "HGB")
MARKS = ("<!-- written by benchmarks/fits.py: table -->", "<!-- end -->")
TEST_ROWS = 20_000


def rows(n: int, seed: int) -> tuple[Any, Any]:
    """Rows [n, 10] and targets, whose noise has the standard deviation 0.1 + 0.4 sigmoid(2 x_3)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 10))
    mean = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * np.abs(X[:, 3])
    return X, mean + (0.1 + 0.4 / (1 + np.exp(-2 * X[:, 3]))) * rng.normal(size=n)


def child(model: str, n: int, quick: bool) -> dict[str, float]:
    """One fit and its predictions, in this process."""
    import resource
    import time

    import numpy as np

    fit = maker(model, quick)
    X, y = rows(n, 0)
    X_test, y_test = rows(2000 if quick else TEST_ROWS, 1)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    predict = fit(X, y)
    fitted = time.process_time()
    mean, std = predict(X_test)
    predicted = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    z = (y_test - mean) / std
    nll = float(np.mean(0.5 * np.log(2 * np.pi) + np.log(std) + 0.5 * z**2))
    own = getattr(predict, "nll", None)
    return {
        "fit": fitted - begun,
        "predict": predicted - fitted,
        "MiB": (peak - before) / 1024,
        "nll": nll if own is None else own(X_test, y_test),
        "rmse": float(np.sqrt(np.mean((y_test - mean) ** 2))),
    }


def maker(model: str, quick: bool) -> Any:
    """From rows to a function from new rows to their means and standard deviations; libraries are imported here."""
    import numpy as np

    if model.startswith("ProbMix"):
        from pyro_probmix import ProbMixRegressor

        class Predict:
            def __init__(self, X: Any, y: Any) -> None:
                self.model = ProbMixRegressor(epochs=20 if quick else None, random_state=0).fit(X, y)
                self.nll = self.model.nll

            def __call__(self, X: Any) -> Any:
                return self.model.predict(X, return_std=True)

        return Predict
    if model == "NGBoost":
        NGBRegressor = import_module("ngboost").NGBRegressor

        def ngboost(X: Any, y: Any) -> Any:
            fitted = NGBRegressor(random_state=0, verbose=False).fit(X, y)

            def predict(X: Any) -> Any:
                found = fitted.pred_dist(X)
                return found.params["loc"], found.params["scale"]

            return predict

        return ngboost
    if model == "CatBoost":
        CatBoostRegressor = import_module("catboost").CatBoostRegressor

        def catboost(X: Any, y: Any) -> Any:
            made = CatBoostRegressor(
                loss_function="RMSEWithUncertainty",
                verbose=False,
                random_seed=0,
                thread_count=1,
                allow_writing_files=False,
            )
            fitted = made.fit(X, y)

            def predict(X: Any) -> Any:
                mean, variance = fitted.predict(X).T
                return mean, np.sqrt(variance)

            return predict

        return catboost
    from sklearn.ensemble import HistGradientBoostingRegressor

    def trees(X: Any, y: Any) -> Any:
        held_out = len(X) // 5
        part = HistGradientBoostingRegressor(random_state=0).fit(X[held_out:], y[held_out:])
        spread = float(np.std(y[:held_out] - part.predict(X[:held_out])))
        fitted = HistGradientBoostingRegressor(random_state=0).fit(X, y)
        return lambda X: (fitted.predict(X), np.full(len(X), spread))

    return trees


def measure(model: str, n: int, other: str | None, quick: bool) -> dict[str, Any] | str:
    """A fit in a process of its own; or why there is none."""
    place = other if model == "ProbMix, other" else str(ROOT)
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONWARNINGS": "ignore"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = "1"
    command = [sys.executable, __file__, "--child", model, str(n), *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=place)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it was killed"])[-1]
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"model": model, "n": n, **found}


def run(sizes: list[int], models: list[str], other: str | None, quick: bool) -> list[dict[str, Any]]:
    """All fits, each size's one after the other; those that are done are kept as they come."""
    kept = [] if quick else read()
    for n in sizes:
        for model in models:
            if model == "ProbMix, other" and other is None:
                continue
            found = measure(model, n, other, quick)
            if isinstance(found, str):
                print(f"{n:>8} {model:<16} left out: {found}", flush=True)
                continue
            kept = [row for row in kept if (row["model"], row["n"]) != (model, n)] + [found]
            print(f"{n:>8} {model:<16}" + "".join(f"  {k} {found[k]:.3g}" for k in COLUMNS), flush=True)
            if not quick:
                RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n", encoding="utf-8")
    return kept


COLUMNS = ("fit", "predict", "MiB", "nll", "rmse")


def read() -> list[dict[str, Any]]:
    """The results that are kept."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    return found


def page(text: str) -> str:
    """The page with the table of the results."""
    start, end = MARKS
    head, _, rest = text.partition(start)
    lines = ["| rows | model | fit, s | predict, s | MiB | NLL | RMSE |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in sorted(read(), key=lambda row: (row["n"], MODELS.index(row["model"]))):
        figures = " | ".join(f"{row[k]:.2f}" if k in ("nll", "rmse") else f"{row[k]:.3g}" for k in COLUMNS)
        lines.append(f"| {row['n']:,} | {row['model']} | {figures} |")
    return f"{head}{start}\n\n" + "\n".join(lines) + f"\n\n{end}" + rest.partition(end)[2]


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of rows")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--other", metavar="FOLDER", help="another checkout of this repository")
    parser.add_argument("--quick", action="store_true", help="small fits, within two minutes; writes nothing")
    parser.add_argument("--table", action="store_true", help="write the table of what is there")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        model, n = arguments.child
        print(json.dumps(child(model, int(n), arguments.quick)))
        return
    if not arguments.table:
        run([300] if arguments.quick else arguments.sizes, arguments.models, arguments.other, arguments.quick)
    if not arguments.quick:
        PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
