"""Models with their defaults on the published splits of the UCI sets: the command line of ``uci.py``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: From a model's name and the training and test rows to what is measured, by name.
Score = Callable[[str, Any, Any, Any, Any], dict[str, float]]
Row = dict[str, Any]


def command(
    doc: str | None, results: Path, models: Sequence[str], score: Score, report: Callable[[list[Row]], str]
) -> None:
    """Runs what is not in the results yet, and prints the table of all of them.

    Args:
        doc: the script's docstring, whose first line is the description.
        results: a JSON file, one row for each fit.
        models: names of all models.
        score: fits one and scores it.
        report: the table of all rows.
    """
    assert doc is not None
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5, help="the first so many published splits, at most 20")
    parser.add_argument("--datasets", nargs="+", help="by default all eight")
    parser.add_argument("--models", nargs="+", choices=models, default=list(models))
    parser.add_argument("--data-dir", help="folder with the published files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    arguments = parser.parse_args()
    # Libraries read these when they are first imported, hence the imports further down.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    from pyro_probmix.experiments.data.uci import UCI_DATASETS

    try:
        if not arguments.table:
            datasets = arguments.datasets or list(UCI_DATASETS)
            run(results, score, datasets, arguments.models, arguments.splits, arguments.data_dir)
        print(report(read(results)))
    except (OSError, ValueError) as error:
        sys.exit(f"{results.stem}: {error}")


def run(results: Path, score: Score, datasets: list[str], models: list[str], splits: int, data_dir: str | None) -> None:
    """Runs what is not in the results yet, and adds it, split by split."""
    import numpy as np

    from pyro_probmix.experiments.data.uci import load_uci

    for split in range(splits):
        for dataset in datasets:
            table, published = load_uci(dataset, data_dir)
            for model in models:
                rows = read(results)
                if any((r["dataset"], r["split"], r["model"]) == (dataset, split, model) for r in rows):
                    continue
                train = np.sort(np.concatenate([published[split].train, published[split].validation]))
                test = published[split].test
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of other libraries
                    found = score(model, table.x[train], table.y[train], table.x[test], table.y[test])
                rows.append({"dataset": dataset, "split": split, "model": model, **found})
                partial = results.with_suffix(".partial")
                partial.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
                os.replace(partial, results)
                measured = "  ".join(f"{k} {v:.4g}" for k, v in found.items())
                print(f"{dataset:<24}{split:>3}  {model:<8} {measured}", flush=True)


def read(results: Path) -> list[Row]:
    """The results so far."""
    rows: list[Row] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    return rows
