"""Prints a run's scores beside the paper's, as a Markdown table.

    python docs/beside_paper.py results/uci-yacht

The paper's cells are those of its Tables 1 and 3, which the package holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.report.paper import paper_tables
from pyro_probmix.experiments.results import summary


def beside_paper(run: Path) -> str:
    """One row for each method: NLL and RMSE, ours and the paper's, the lowest of each column in bold."""
    results = pd.read_parquet(run / "results.parquet")
    dataset = results["dataset"].iloc[0]
    ours = summary(results)
    paper = paper_tables()
    paper = paper[(paper["network"] == "mlp") & (paper["dataset"] == dataset)].set_index(["metric", "method"])
    means = {(metric, "ours"): ours["mean", metric] for metric in ("nll", "rmse")}
    means |= {(metric, "paper"): paper.loc[metric, "mean"] for metric in ("nll", "rmse")}
    deviations = {(metric, "ours"): ours["std", metric] for metric in ("nll", "rmse")}
    deviations |= {(metric, "paper"): paper.loc[metric, "std"] for metric in ("nll", "rmse")}
    columns = [("nll", "ours"), ("nll", "paper"), ("rmse", "ours"), ("rmse", "paper")]
    lines = [
        f"| {dataset} | NLL | NLL, paper | RMSE | RMSE, paper |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in ours.index:
        cells = []
        for column in columns:
            cell = f"{round(means[column][method], 2) + 0.0:.2f} ± {deviations[column][method]:.2f}"
            cells.append(f"**{cell}**" if means[column][method] == means[column].min() else cell)
        lines.append(f"| {method.replace('*', chr(92) + '*')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(beside_paper(Path(name)) for name in sys.argv[1:]))
