"""``probmix run audit``: runs the settings, gathers their numbers, writes the tables and figures."""

from __future__ import annotations

__all__ = ["DEFAULT", "run_audit", "write_audit"]

import argparse
from functools import partial
from pathlib import Path

from pyro_probmix.experiments.audit.design import part_of
from pyro_probmix.experiments.audit.effects import audits, gather
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.running import plan, run_plan
from pyro_probmix.experiments.audit.tables import tables
from pyro_probmix.files import write_files
from pyro_probmix.models import find_method
from pyro_probmix.names import printable

#: What runs without ``--dataset``.
DEFAULT = ("lead", "toy-regression", "toy-classification", "yacht", "bostonHousing", "energy", "concrete")
_MEANINGLESS = (
    "target", "task", "network", "epochs", "patience", "alpha", "beta", "graph", "criterion", "particles", "jobs", "backend",
    "address", "chunk",
)  # fmt: skip


def run_audit(arguments: argparse.Namespace, splits: tuple[int, ...]) -> None:
    """Runs what the folder does not hold yet, and writes ``audit.parquet``, ``audit.md`` and the figures.

    Args:
        arguments: of ``probmix run``.
        splits: the seeds or splits; none for those of each data set.

    Raises:
        ValueError: for an option that the audit does not take, or an unknown data set or method.
    """
    given = [name for name in _MEANINGLESS if getattr(arguments, name) is not None]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} has no meaning for audit, expected none. Try --dataset, --seeds, --method or "
            "--setting full."
        )
    if arguments.setting not in (None, "full", "fraction"):
        raise ValueError(
            f"--setting is {arguments.setting!r} for audit, expected fraction (default) or full. Try leaving it out."
        )
    full = arguments.setting == "full"
    methods = tuple(name.strip() for names in arguments.method or () for name in names.split(","))
    for name in methods:
        find_method(name)
    chosen = [name.strip() for name in arguments.dataset.split(",")] if arguments.dataset else list(DEFAULT)
    parts = {name: part_of(name) for name in chosen}
    out = Path(arguments.out or "runs/audit")
    for name, part in parts.items():
        run_plan(plan(name, part, methods, splits, full=full), out, arguments.data_dir, arguments.device or "auto")
    write_audit(out)
    print(f"tables and figures: {printable(out)}/audit.md")


def write_audit(out: Path) -> None:
    """Gathers the numbers of a folder's runs, and writes its tables and figures."""
    gathered = gather(out)
    found = audits(gathered)
    files = {f"{name}.png": save for name, save in draw(found).items()}
    text = tables(found)
    write_files(
        out,
        {
            "audit.parquet": partial(gathered.to_parquet, index=False),
            "audit.md": lambda path: path.write_text(text, "utf-8"),
            **files,
        },
        advice="Try another --out.",
    )
