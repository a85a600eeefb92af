"""Writes the tables and figures of docs/audit.md from results/audit, between the page's marks.

python docs/audit.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.tables import summary, tables

PAGE = Path(__file__).with_name("audit.md")
RUNS = Path(__file__).parents[1] / "results" / "audit"
PARTS = {"summary": summary, "tables": tables}
END = "<!-- end -->"


def page(text: str, runs: Path = RUNS) -> str:
    """The page's text with its tables as the runs have them now."""
    gathered = pd.read_parquet(runs / "audit.parquet")
    for name, written in PARTS.items():
        begin = f"<!-- written by docs/audit.py: {name} -->\n"
        before, rest = text.split(begin)
        text = before + begin + "\n" + written(gathered) + "\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    PAGE.write_text(page(PAGE.read_text("utf-8"), folder), "utf-8")
    for name, save in draw(pd.read_parquet(folder / "audit.parquet")).items():
        save(PAGE.with_name(f"audit-{name}.png"))
