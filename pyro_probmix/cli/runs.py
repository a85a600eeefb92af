"""``probmix run`` and ``probmix report``: experiments, and pages of their results."""

from __future__ import annotations

__all__ = ["add_report", "add_run"]

import argparse
from collections.abc import Callable

from pyro_probmix.cli.printing import printing
from pyro_probmix.names import printable, shown


def add_run(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``run``."""
    from pyro_probmix.experiments.config import EXPERIMENTS

    command.set_defaults(action=_run)
    command.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help=", ".join(EXPERIMENTS)
        + "; audit, the choices that the paper leaves open; regimes, where fusing helps; or a .json file, a copy of a "
        "run's config.json with your changes",
    )
    _add_tasks(command.add_argument)
    _add_choices(command.add_argument)
    _add_places(command.add_argument)


def _add_tasks(add: Callable[..., object]) -> None:
    """What a run trains, and on which data."""
    add(
        "--dataset",
        metavar="NAME",
        help="uci: a data set's name, several separated by commas, or all; table: a scikit-learn set, or a CSV or Parquet file",
    )
    add("--network", metavar="NAME", help="stocks: lstm, transformer (default: both)")
    add("--target", metavar="COLUMN", help="target column of a file; several separated by commas")
    add(
        "--task",
        choices=("regression", "classification"),
        help="default: numbers are regressed, texts and true or false classified",
    )
    add(
        "--method",
        action="append",
        metavar="NAME",
        help="a method, or several separated by commas; 5xNAME is an ensemble of five (default: all of the paper; for toys "
        "and tables all but the starred)",
    )
    add(
        "--seeds",
        "--splits",
        dest="splits",
        metavar="N",
        help="how many seeds or published splits, or which, as 0,3,7 or 320-639",
    )


def _add_choices(add: Callable[..., object]) -> None:
    """How a run trains: its length, the methods' parameters, the criterion."""
    add("--epochs", type=int, help="passes over the training rows")
    add(
        "--patience",
        type=int,
        metavar="N",
        help="end a job after N epochs in which no split had a better validation NLL (default: never)",
    )
    add("--alpha", type=float, help="both parameters of the Beta distribution of the mixing weight (default 0.1)")
    add("--beta", type=float, help="spread of the label kernels")
    add(
        "--setting",
        metavar="NAME",
        help="fixed (default); paper: log variances, targets in their units; relative: stocks as changes of prices; "
        "chosen: a grid of alpha and beta, by the validation rows; or grid; audit: fraction (default) or full",
    )
    add("--graph", metavar="NAME", help="one graph for all methods that have one")
    add("--criterion", metavar="NAME", help="expected (default), log-expected, beta-nll or crps")
    add("--particles", type=int, metavar="K", help="draws of the weight for each edge (default 1)")


def _add_places(add: Callable[..., object]) -> None:
    """Where a run computes, reads and writes."""
    add("--device", help="auto (default), cpu or cuda")
    add("--data-dir", metavar="FOLDER", help="folder with the data sets (default: $PROBMIX_DATA, else download once)")
    add(
        "--out",
        metavar="FOLDER",
        help="folder for the results (default: runs/EXPERIMENT-DATASET-TIME); a run that was stopped goes on from there",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="so many jobs (data set x method) at a time (default 1, or all of a cluster)",
    )
    add("--backend", metavar="NAME", help="local (default), ray or dask")
    add(
        "--address",
        metavar="ADDRESS",
        help="of the Ray or Dask cluster (default: its own settings, else one is started)",
    )
    add(
        "--chunk",
        type=int,
        metavar="R",
        help="splits to a job (default: all that share a method, or fewer if jobs are many)",
    )


def _run(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.command import run_experiment

    for option in ("dataset", "target"):  # the run's files hold them
        value = getattr(arguments, option)
        if value is not None and not value.isascii() and value != value.encode("utf-8", "ignore").decode():
            raise ValueError(
                f"--{option} {shown(value)} is not written in UTF-8, as a run's files are, expected a name in UTF-8. Try "
                "renaming it."
            )
    run_experiment(arguments)


def add_report(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``report``."""
    command.set_defaults(action=_report_runs)
    command.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, as probmix run wrote it")
    command.add_argument(
        "--out", metavar="FOLDER", help="folder for report.html and report.md (default: the run's own)"
    )


def _report_runs(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.report import write_report

    page = write_report(arguments.runs, arguments.out)
    with printing(f"the report is written to {shown(page)}, but "):
        print(f"report: {printable(page)}")
