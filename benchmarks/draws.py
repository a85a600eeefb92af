"""What predictions lose by the few draws of the embedding that a fit chooses: ``python benchmarks/draws.py``.

ProbMixRegressor as it comes is fitted to a split's training rows of each UCI set, and its NLL of the test rows is scored twice:
by the draws that the fit chose, and by 512. ``--datasets`` chooses sets, ``--split`` a split, ``--epochs`` a shorter training;
``--data-dir`` names a folder with the sets, which are else downloaded once. It prints a table, and writes nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

MANY = 512


def main() -> None:
    assert __doc__ is not None
    from pyro_probmix import ProbMixRegressor
    from pyro_probmix.experiments.data.uci import UCI_DATASETS, load_uci

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=UCI_DATASETS, default=UCI_DATASETS)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"| set | draws chosen | NLL by them | NLL by {MANY} | difference |\n| --- | --- | --- | --- | --- |",
        flush=True,
    )
    for name in arguments.datasets:
        table, splits = load_uci(name, arguments.data_dir)
        test = splits[arguments.split].test
        train = np.setdiff1d(np.arange(len(table.y)), test)
        model = ProbMixRegressor(epochs=arguments.epochs, random_state=0).fit(table.x[train], table.y[train])
        state = model.state_
        few = model.nll(table.x[test], table.y[test])
        chosen = 0 if state.noise is None else len(state.noise)
        model.state_ = replace(state, noise=state.many_draws(MANY))
        many = model.nll(table.x[test], table.y[test])
        print(f"| {name} | {chosen} | {few:.4f} | {many:.4f} | {few - many:+.4f} |", flush=True)


if __name__ == "__main__":
    main()
