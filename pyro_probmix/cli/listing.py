"""``probmix list``: experiments, data sets, methods, graphs and criteria."""

from __future__ import annotations

__all__ = ["add_list"]

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_probmix.models import Method


def add_list(command: argparse.ArgumentParser) -> None:
    """Adds what ``list`` does."""
    command.set_defaults(action=_list)


def _list(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.config import EXPERIMENTS
    from pyro_probmix.experiments.data.stocks import TICKERS
    from pyro_probmix.experiments.data.uci import UCI_DATASETS
    from pyro_probmix.experiments.data.user_tables import EMBEDDED
    from pyro_probmix.inference.methods import CRITERIA, GRAPHS
    from pyro_probmix.models import BEYOND, METHODS

    print("experiments: " + ", ".join(EXPERIMENTS))
    print("uci data sets: " + ", ".join(UCI_DATASETS))
    print("stocks: " + ", ".join(TICKERS) + ", or any other ticker")
    print("table data sets: " + ", ".join(EMBEDDED) + ", or a CSV or Parquet file")
    print("graphs: " + ", ".join(GRAPHS))
    print("criteria: " + ", ".join(CRITERIA))
    print(f"methods:\n  {'name':<16}{'fused site':<12}{'graph':<14}{'pool':<18}embedding")
    for name, method in METHODS.items():
        print(_listed(name, method))
    print("further methods, on request:")
    for name, method in BEYOND.items():
        print(_listed(name, method))
    print("  5xNAME          an ensemble of five networks of any of these, or of another number")


def _listed(name: str, method: Method) -> str:
    """The line of ``probmix list`` on a method."""
    pool = (
        "-" if method.site is None else method.pool if method.num_fused == 2 else f"{method.pool} of {method.num_fused}"
    )
    embedding = f"Gaussian, {method.variance} variance network" if method.variance else "point"
    more = {
        "likelihood": method.likelihood,
        "criterion": method.criterion,
        "K, S": method.draws and ", ".join(map(str, method.draws)),
        "alpha": method.alpha,
        "weights by the similarity of": method.similarity,
        "pseudo-rows": method.pseudo_rows,
        "beside the rows' own likelihood": method.add_unfused_rows or None,
    }
    extras = [label if value is True else f"{label} {value}" for label, value in more.items() if value is not None]
    return f"  {name:<16}{method.site or '-':<12}{method.graph or '-':<14}{pool:<18}{'; '.join([embedding, *extras])}"
