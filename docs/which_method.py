"""Prints the table of which_method.md from the UCI results: ``python docs/which_method.py results/uci``."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd


def table(folder: Path) -> str:
    """For each method its mean rank over the data sets that have all methods, and how far its NLL is from the best."""
    results = pd.read_parquet(folder / "results.parquet")
    lines = ["| method | mean rank, NLL | mean rank, RMSE | mean NLL above the best |", "| --- | --- | --- | --- |"]
    means = results.groupby(["metric", "dataset", "method"], sort=False)["value"].mean().unstack("method").dropna()
    nll, rmse = means.loc["nll"], means.loc["rmse"]
    ranks = {"nll": nll.rank(axis=1).mean(), "rmse": rmse.rank(axis=1).mean()}
    above = nll.sub(nll.min(axis=1), axis=0).mean()
    for method in ranks["nll"].sort_values().index:
        cells = (f"{ranks['nll'][method]:.1f}", f"{ranks['rmse'][method]:.1f}", f"{above[method]:.2f}")
        lines.append(f"| {method.replace('*', chr(92) + '*')} | " + " | ".join(cells) + " |")
    return "\n".join([f"Data sets: {', '.join(nll.index)}.", "", *lines])


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
