"""``probmix run regimes``: tables made harder in one way each, to find where fusing helps."""

from __future__ import annotations

__all__ = [
    "CHOSEN", "DATASETS", "LARGEST", "METHODS_THERE", "REFERENCE", "REGIMES", "TRIES", "compared", "gather_regimes", "plans",
    "run_regimes", "together",
]  # fmt: skip

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pyro_probmix.experiments.audit.kept import gathered_before, with_former
from pyro_probmix.experiments.audit.options import options_of
from pyro_probmix.experiments.audit.running import Plan, numbers_in, run_plan
from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.experiments.data.regimes import BEYOND, DRAWN
from pyro_probmix.experiments.data.uci import UCI_ROWS
from pyro_probmix.experiments.report.claims.evidence import SHARED
from pyro_probmix.experiments.report.claims.verdicts import holm
from pyro_probmix.files import write_files
from pyro_probmix.names import printable, shown

#: The size of the tables that the regimes beside the learning curve are made of.
ROWS = 100
#: A larger difference of two NLLs counts as this one, in nats.
LARGEST = 3.0
#: Name -> what is changed.
REGIMES: dict[str, dict[str, Any]] = {
    "25 rows": {"labelled_rows": 25},
    "50 rows": {"labelled_rows": 50},
    "100 rows": {"labelled_rows": ROWS},
    "200 rows": {"labelled_rows": 200},
    "label noise 0.5": {"labelled_rows": ROWS, "label_noise": 0.5},
    "label noise 1": {"labelled_rows": ROWS, "label_noise": 1.0},
    "heavy tails": {"labelled_rows": ROWS, "label_noise": 0.5, "noise_df": 2.0},
    "shift": {"labelled_rows": ROWS, "shift": True},
    "wide and deep": {"labelled_rows": ROWS, "widths": (256, 128, 64)},
}
#: The regime in which alpha and K are chosen, on each split by its validation rows.
CHOSEN = "α and K chosen"
#: What it chooses among. Each has initial weights of its own, so that a method without alpha or K has as many tries.
TRIES: dict[str, dict[str, Any]] = {
    "100 rows": REGIMES["100 rows"],
    "100 rows alpha 1": {"labelled_rows": ROWS, "alpha": 1.0, "seed": 1},
    "100 rows K 15": {"labelled_rows": ROWS, "neighbors": 15, "seed": 2},
    "100 rows alpha 1 K 15": {"labelled_rows": ROWS, "alpha": 1.0, "neighbors": 15, "seed": 3},
}
DATASETS = ("yacht", "bostonHousing", "energy", "concrete")
_NUMBERS = "regimes.parquet"
_COLUMNS = ["dataset", "regime", "epoch", "method", "split", "value"]
#: What the others are compared with.
REFERENCE = "ERM"
METHODS_THERE = ("ERM", "Mix", "ProbMix", "M-ProbMix", "LocM-ProbMix")


def plans(datasets: Sequence[str], methods: Sequence[str], splits: Sequence[int]) -> list[Plan]:
    """A folder for each regime of each data set, and for each run that one is chosen from."""
    found = []
    for name, changes in (REGIMES | TRIES).items():
        for dataset in datasets:
            common = {"dataset": dataset, "methods": tuple(methods), "best_epoch": "both", "num_samples": 50}
            training = {"epochs": 500, "batch_size": None}
            config = replace(EXPERIMENTS["uci"], **{**common, **training, **changes})
            config = replace(config, splits=tuple(splits) or config.splits)
            found.append(Plan(f"{dataset}/{name.replace(' ', '-')}", config))
    return found


def run_regimes(arguments: argparse.Namespace, splits: tuple[int, ...]) -> None:
    """Runs what the folder does not hold yet, and writes ``regimes.parquet``.

    ERM, with which the others are compared, is among the methods whatever is asked for.

    Args:
        arguments: of ``probmix run``.
        splits: published splits; none for all.

    Raises:
        ValueError: for an option that the regimes do not take, an unknown data set or method, or a file of another kind that
            would be replaced.
    """
    asked = options_of(arguments)
    unknown = [name for name in asked.datasets if name not in DATASETS]
    if unknown:
        raise ValueError(
            f"regimes has no data set {shown(unknown[0])}, expected one of {', '.join(DATASETS)}. Try --dataset yacht."
        )
    methods = asked.methods or METHODS_THERE
    if REFERENCE not in methods:
        methods = (REFERENCE, *methods)
        print(f"{REFERENCE} runs too: the others are compared with it.")
    gathered_before(asked.out, _NUMBERS, _COLUMNS)
    run_plan(plans(asked.datasets or DATASETS, methods, splits), asked.out, asked.data_dir, asked.device)
    numbers = gather_regimes(asked.out)
    write_files(asked.out, {_NUMBERS: partial(numbers.to_parquet, index=False)}, advice="Try another --out.")
    print(f"numbers: {printable(asked.out)}/{_NUMBERS}")


def gather_regimes(out: Path) -> pd.DataFrame:
    """The NLLs of all folders, and of a former command's file those of runs without a folder.

    Returns:
        columns dataset, regime, epoch, method, split, value.
    """
    frames = [frame for frame in (*(_read(out, name) for name in REGIMES), _chosen(out)) if len(frame)]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*_COLUMNS, "metric"])
    found = found.loc[found["metric"] == "nll", _COLUMNS]
    numbers = with_former(found, gathered_before(out, _NUMBERS, _COLUMNS), ("dataset", "regime", "method"))
    if numbers.empty:
        raise ValueError(f"{shown(out)} holds no run of the regimes. Try probmix run regimes --out {printable(out)}.")
    return numbers


def _read(out: Path, name: str) -> pd.DataFrame:
    """All numbers of one regime."""
    columns = [*_COLUMNS, "metric"]
    frames = [rows.assign(regime=name)[columns] for _, rows in numbers_in(out, "*", name.replace(" ", "-"))]
    return pd.concat(frames) if frames else pd.DataFrame(columns=columns)


def _chosen(out: Path) -> pd.DataFrame:
    """For each split and method the numbers of the try with the lowest validation NLL, where all tries have run."""
    tried = pd.concat([_read(out, name) for name in TRIES])
    tried = tried[tried["epoch"] == "validation"]  # without validation rows there is nothing to choose by
    of_one = ["dataset", "method", "split"]
    judged = tried[tried["metric"] == "validation nll"]
    judged = judged[judged.groupby(of_one)["value"].transform("size") == len(TRIES)]
    best = (
        judged.assign(value=judged["value"].fillna(np.inf)).sort_values("value", kind="stable").drop_duplicates(of_one)
    )
    return tried.merge(best[[*of_one, "regime"]]).assign(regime=CHOSEN)


def compared(numbers: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    r"""Paired differences of the NLL to a reference's on the same split, with the error rate over all of them controlled.

    A difference of more than ``LARGEST`` nats counts as so many: else a single split decides, on which a few test rows lie far
    outside of a narrow density. A method that diverged is the worse one by so many; of two that did neither is.

    Splits of one table share rows. If the differences on two splits have the correlation :math:`\rho`, the variance of the mean
    of n is :math:`1/n + \rho / (1 - \rho)` times their sample variance. Nadeau and Bengio (2003) take for :math:`\rho` the
    share of the rows that test, since so many of one split's test rows are another's: a tenth with the published splits. Then
    :math:`\rho / (1 - \rho)`, a ninth, is the number of test rows by that of training rows, but only if all other rows train:
    with 25 labelled rows two splits' test rows are no more alike. Here :math:`\rho` is that share or, where it is larger, the
    share of the labelled rows that two splits have in common, which are drawn anew for each: what hangs on test rows alone or
    on labelled rows alone is no more alike on two splits than that. This errs to the side of "open", since much of a difference
    is each split's own, such as what comes of initial weights. With all rows the labelled ones are nearly the same on all
    splits, which would leave nothing to compare; there it is a tenth, as in the rest of the report.

    P is by Student's t, and Holm's procedure over all rows is at 5 %.

    Args:
        numbers: from :func:`gather_regimes`; a regime that is not among ``REGIMES`` is taken to be of all rows.
        reference: a method.

    Returns:
        columns dataset, regime, epoch, method, ``gain`` (nats, above 0 where the method is better), ``error``, ``splits``,
        ``p``, and ``verdict``, "better", "worse" or "open".

    References:
        Nadeau and Bengio (2003), Inference for the Generalization Error, Machine Learning 52.
    """
    numbers = numbers.assign(value=numbers["value"].astype(float).fillna(np.inf))
    lines = []
    for (dataset, regime, epoch), part in numbers.groupby(["dataset", "regime", "epoch"], sort=False):
        wide = part.pivot(index="split", columns="method", values="value")
        if reference not in wide:
            continue
        for method in wide.columns.drop(reference):
            both = wide[[reference, method]].dropna()
            gap = (both[reference] - both[method]).fillna(0.0)  # of two that are infinite there is no difference
            if len(gap) < 3:
                continue
            gain, error = _mean_and_error(gap, _factor(str(dataset), str(regime)))
            p = float(2 * student.sf(abs(gain) / error, len(gap) - 1)) if error > 0 else 1.0
            lines.append((dataset, regime, epoch, method, gain, error, len(gap), p))
    columns = ["dataset", "regime", "epoch", "method", "gain", "error", "splits", "p"]
    table = pd.DataFrame(lines, columns=columns)
    return _with_verdicts(table)


def together(table: pd.DataFrame) -> pd.DataFrame:
    """What each method gains in each regime on all of its data sets together, which share no rows: the mean of their gains.

    Its standard error is that of a mean of independent numbers, p by Student's t with the degrees of freedom of one data set,
    which is on the side of "open", and Holm's procedure over all rows.

    Args:
        table: from :func:`compared`.

    Returns:
        columns regime, epoch, method, ``gain``, ``error``, ``datasets``, on how many of them it is ``above`` 0, ``p`` and
        ``verdict``; of regimes with two data sets or more.
    """
    lines = []
    for (regime, epoch, method), own in table.groupby(["regime", "epoch", "method"], sort=False):
        if len(own) > 1:
            gain, error = float(own["gain"].mean()), float(np.sqrt((own["error"] ** 2).sum())) / len(own)
            p = float(2 * student.sf(abs(gain) / error, own["splits"].min() - 1))
            lines.append((regime, epoch, method, gain, error, len(own), int((own["gain"] > 0).sum()), p))
    columns = ["regime", "epoch", "method", "gain", "error", "datasets", "above", "p"]
    return _with_verdicts(pd.DataFrame(lines, columns=columns))


def _with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    sides = np.where(table["gain"] > 0, "better", "worse")
    return table.assign(verdict=np.where(holm(table["p"].tolist()), sides, "open"))


def _factor(dataset: str, regime: str) -> float:
    r""":math:`\rho / (1 - \rho)` of two splits, see :func:`compared`."""
    changes = (REGIMES | {CHOSEN: TRIES["100 rows"]}).get(regime)
    if changes is None:
        return SHARED
    rows, shift = UCI_ROWS[dataset], changes.get("shift", False)
    # The test rows of a shift lie at one end of the table, wherever they are among the rows that are drawn, and its labelled
    # rows are of the rest.
    testing = DRAWN if shift else SHARED / (1 + SHARED)
    labelled = changes["labelled_rows"] / (rows * (1 - BEYOND) if shift else rows)
    share = max(testing, labelled)
    return float(share / (1 - share))


def _mean_and_error(gap: pd.Series[float], factor: float) -> tuple[float, float]:
    """The mean of paired differences and its standard error."""
    held = gap.clip(-LARGEST, LARGEST)
    gain, error = float(held.mean()), float(held.std() * np.sqrt(1 / len(gap) + factor))
    if np.allclose(held, gain) or not held.equals(gap):
        # Differences that count as LARGEST hide how far they spread; if all do, the error would be 0. All that they tell for
        # certain are n signs, which are the same by chance with probability 2^(1-n): the error is at least so large that p is
        # no less.
        error = max(error, abs(gain) / float(student.isf(0.5 ** len(gap), len(gap) - 1)))
    return gain, error
