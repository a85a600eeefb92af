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


def table() -> str:
    """NLL and RMSE in dollars of each naive forecast, and of the networks, in Markdown."""
    kept = json.loads(KEPT.read_text("utf-8"))
    runs = pd.read_parquet(RESULTS / "stocks" / "results.parquet")
    blocks = []
    for index, (metric, title) in enumerate((("nll", "NLL of the price in dollars"), ("rmse", "RMSE in dollars"))):
        lines = [
            _row("stock", *NAIVE, "best network", "networks below the best naive one"),
            _row(*["---"] * (len(NAIVE) + 3)),
        ]
        for ticker in TICKERS:
            own = runs[(runs["dataset"] == ticker) & (runs["metric"] == metric)]
            means = own.groupby(["method", "network"], sort=False)["value"].mean()
            naive = {name: kept[ticker][name][index] for name in NAIVE}
            least = min(naive.values())
            cells = [f"**{value:.2f}**" if value == least else f"{value:.2f}" for value in naive.values()]
            method, network = means.idxmin()
            best = f"{means.min():.2f} ({method}, {network})"
            lines.append(_row(ticker, *cells, best, f"{int((means < least).sum())} of {len(means)}"))
        blocks.append(f"{title}:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


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
