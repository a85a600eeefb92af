"""``probmix run audit``: runs the settings, gathers their numbers, writes the tables and figures."""

from __future__ import annotations

__all__ = ["DEFAULT", "run_audit", "write_audit"]

import argparse
from functools import partial
from pathlib import Path

from pyro_probmix.experiments.audit.design import PARTS, part_of
from pyro_probmix.experiments.audit.effects import GATHERED, NUMBERS, audits, gather
from pyro_probmix.experiments.audit.kept import expect_own, gathered_before
from pyro_probmix.experiments.audit.options import options_of
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.running import plan, run_plan
from pyro_probmix.experiments.audit.tables import tables
from pyro_probmix.files import write_files
from pyro_probmix.names import printable

#: What runs without ``--dataset``.
DEFAULT = ("lead", "toy-regression", "toy-classification", "yacht", "bostonHousing", "energy", "concrete")


def run_audit(arguments: argparse.Namespace, splits: tuple[int, ...]) -> None:
    """Runs what the folder does not hold yet, and writes ``audit.parquet``, ``audit.md`` and the figures.

    Args:
        arguments: of ``probmix run``.
        splits: the seeds or splits; none for those of each data set.

    Raises:
        ValueError: for an option that the audit does not take, an unknown data set or method, or a folder with files of
            another kind that it would replace.
    """
    asked = options_of(arguments, settings=("fraction", "full"))
    parts = {name: part_of(name) for name in asked.datasets or DEFAULT}
    gathered_before(asked.out, NUMBERS, GATHERED)
    expect_own(asked.out, NUMBERS, ["audit.md", "lead.png", *(f"claims-{name}.png" for name in PARTS)])
    full = asked.setting == "full"
    plans = [one for name, part in parts.items() for one in plan(name, part, asked.methods, splits, full=full)]
    run_plan(plans, asked.out, asked.data_dir, asked.device)
    write_audit(asked.out)
    print(f"tables and figures: {printable(asked.out)}/audit.md")


def write_audit(out: Path) -> None:
    """Gathers the numbers of a folder's runs, and writes its tables and figures."""
    gathered = gather(out)
    found = audits(gathered)
    files = {f"{name}.png": save for name, save in draw(found).items()}
    text = tables(found)
    write_files(
        out,
        {
            NUMBERS: partial(gathered.to_parquet, index=False),
            "audit.md": lambda path: path.write_text(text, "utf-8"),
            **files,
        },
        advice="Try another --out.",
    )
