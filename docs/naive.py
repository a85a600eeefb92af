"""Writes the naive forecasts of the stocks into docs/results.md, beside the networks of results/stocks.

python docs/naive.py            the page, from the numbers that are kept in results/stocks-naive
python docs/naive.py DATA       these numbers, from a folder with the prices, and the page
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.data.naive import NAIVE, naive_scores
from pyro_probmix.experiments.data.stocks import TICKERS, load_prices, windows_of

PAGE = Path(__file__).with_name("results.md")
RESULTS = Path(__file__).parents[1] / "results"
KEPT = RESULTS / "stocks-naive" / "naive.json"
BEGIN, END = "<!-- written by docs/naive.py -->\n", "<!-- end -->"


#: Folder of runs -> what its networks are trained on.
NETWORKS = {"stocks": "prices", "stocks-relative": "changes"}


def table() -> str:
    """NLL and RMSE in dollars of each naive forecast, and of the networks, in Markdown."""
    kept = json.loads(KEPT.read_text("utf-8"))
    files = {what: RESULTS / name / "results.parquet" for name, what in NETWORKS.items()}
    runs = {what: pd.read_parquet(file) for what, file in files.items() if file.exists()}
    blocks = []
    for index, (metric, title) in enumerate((("nll", "NLL of the price in dollars"), ("rmse", "RMSE in dollars"))):
        heads = [f"{head} {what}" for what in runs for head in ("best network on", "below the best naive one, on")]
        lines = [_row("stock", *NAIVE, *heads), _row(*["---"] * (len(NAIVE) + 1 + len(heads)))]
        for ticker in TICKERS:
            naive = {name: kept[ticker][name][index] for name in NAIVE}
            least = min(naive.values())
            cells = [f"**{value:.2f}**" if value == least else f"{value:.2f}" for value in naive.values()]
            for own in runs.values():
                cells += _best(own[(own["dataset"] == ticker) & (own["metric"] == metric)], least)
            lines.append(_row(ticker, *cells))
        blocks.append(f"{title}:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _best(own: pd.DataFrame, least: float) -> list[str]:
    """The lowest mean of some networks over the seeds, and how many of them have a mean below a number."""
    means = own.groupby(["method", "network"], sort=False)["value"].mean()
    if means.empty:
        return ["–", "–"]
    method, network = means.idxmin()
    return [f"{means.min():.2f} ({method}, {network})", f"{int((means < least).sum())} of {len(means)}"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def page(text: str) -> str:
    """The page's text with its table as the numbers are now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        KEPT.parent.mkdir(exist_ok=True)
        scores = {ticker: naive_scores(windows_of(load_prices(ticker, sys.argv[1]).to_numpy())) for ticker in TICKERS}
        KEPT.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
