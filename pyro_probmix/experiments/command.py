"""``probmix run``: from its options to a run's folder and the summary that it prints."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

from torch import Tensor
from tqdm import tqdm

from pyro_probmix.experiments.audit.command import run_audit
from pyro_probmix.experiments.audit.regimes import run_regimes
from pyro_probmix.experiments.config import EXPERIMENTS, Config, read_config, with_setting
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.config.grid import SINGLE
from pyro_probmix.experiments.data.uci import UCI_DATASETS
from pyro_probmix.experiments.figures import draw_figures
from pyro_probmix.experiments.run.engines import check_backend, connect
from pyro_probmix.experiments.run.jobs import Job, each_part, list_jobs
from pyro_probmix.experiments.run.record import recorded_config
from pyro_probmix.experiments.run.results import RunFolder, summary
from pyro_probmix.experiments.run.runner import choose_device, default_methods
from pyro_probmix.experiments.run.sweep import WorkersLost, chunk_size, run
from pyro_probmix.names import printable, shown

__all__ = ["OF_MANY_RUNS", "config_of", "run_experiment"]

#: Experiments of many runs, each in a folder of its own.
OF_MANY_RUNS = {"audit": run_audit, "regimes": run_regimes}

#: The options that an experiment does not take: the toys generate their data, the UCI sets have fixed targets.
_NOT_FOR = {
    "toy-regression": ("dataset", "target", "task", "data_dir", "network"),
    "toy-classification": ("dataset", "target", "task", "data_dir", "network"),
    "ablation-regression": ("dataset", "target", "task", "data_dir", "alpha", "beta", "setting", "network"),
    "ablation-classification": ("dataset", "target", "task", "data_dir", "alpha", "beta", "setting", "network"),
    "uci": ("target", "task", "network"),
    "stocks": ("target", "task"),
    "table": ("data_dir", "network"),
}


def run_experiment(arguments: argparse.Namespace) -> None:
    """Runs the jobs of the options that the folder does not hold yet, prints their summary and draws their figures.

    Args:
        arguments: of ``probmix run``.

    Raises:
        ValueError: for options that do not fit, or a folder that holds another run.
    """
    if arguments.experiment in OF_MANY_RUNS:
        OF_MANY_RUNS[arguments.experiment](arguments, _numbers(arguments.splits) if arguments.splits else ())
        return
    config = config_of(arguments)
    config = replace(config, methods=config.methods or default_methods(config))
    check_config(config)
    backend = arguments.backend or "local"
    check_backend(backend, arguments.jobs)
    device = (
        choose_device(config.device) if backend == "local" else config.device
    )  # the workers of a cluster choose theirs
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    label = config.dataset.rsplit("/", 1)[-1]
    name = config.experiment if label == config.experiment or "," in label else f"{config.experiment}-{label}"
    if arguments.out == "":
        raise ValueError("--out is empty, expected a folder. Try --out runs/mine, or leaving it out.")
    out = arguments.out or f"runs/{name}-{stamp}"
    if config.chunk is None:
        # A run goes on with the chunks that it began with, whatever --jobs is now.
        config = replace(config, chunk=(recorded_config(out) or {}).get("chunk"))
    jobs = list_jobs(config)
    with connect(backend, arguments.jobs, arguments.address) as engine:
        if config.chunk is None and recorded_config(out) is None and (chunk := chunk_size(config, engine.workers)):
            config = replace(config, chunk=chunk)
            jobs = list_jobs(config)
        config = replace(config, **{name: getattr(jobs[0].config, name) for name in ("task", "beta", "labels")})
        folder = RunFolder(out, config, str(device))
        waiting = folder.unfinished(jobs)
        try:
            with _Progress(config, jobs, waiting, engine.in_process) as progress:
                run(waiting, folder, engine, progress.epoch, progress.job)
        except WorkersLost as error:
            raise ValueError(str(error)) from None
    _report(config, jobs, folder)


def _report(config: Config, jobs: list[Job], folder: RunFolder) -> None:
    """Prints the summary of each data set, and draws its figures."""
    results = folder.results
    for one in each_part(config):
        of_part = results[(results["dataset"] == one.dataset) & (results["network"] == one.network)]
        for setting, numbers in of_part.groupby("setting", sort=False):
            print(_printed(summary(numbers), one, str(setting)))
    draw_figures(jobs, folder)
    print(f"results and figures: {printable(folder.path)}")


def config_of(arguments: argparse.Namespace) -> Config:
    """The configuration of the experiment or of the file, changed by the options.

    Raises:
        ValueError: for an option that the experiment does not take, or without one that it needs.
    """
    copied = arguments.experiment.endswith(".json")
    if not copied and arguments.experiment not in EXPERIMENTS:
        known = ", ".join((*EXPERIMENTS, *OF_MANY_RUNS))
        raise ValueError(
            f"unknown experiment {shown(arguments.experiment)}, expected one of {known}, or a .json file. Try probmix list."
        )
    start = read_config(arguments.experiment) if copied else EXPERIMENTS[arguments.experiment]
    names = (
        "dataset",
        "target",
        "task",
        "epochs",
        "patience",
        "alpha",
        "beta",
        "graph",
        "criterion",
        "particles",
        "device",
        "data_dir",
        "chunk",
        "setting",
        "network",
    )
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.method:
        given["methods"] = tuple(name.strip() for names in arguments.method for name in names.split(","))
    if arguments.splits:
        given["splits"] = _numbers(arguments.splits)
    meaningless = [name for name in _NOT_FOR[start.experiment] if name in given]
    if meaningless:
        option = "--" + meaningless[0].replace("_", "-")
        raise ValueError(
            f"{option} has no meaning for {start.experiment}, expected none. Try probmix run table --help."
        )
    if "setting" in given:
        start = with_setting(start, given["setting"])
    if start.setting not in SINGLE and not {"alpha", "beta"}.isdisjoint(given):
        raise ValueError(
            f"--alpha or --beta was given beside the setting {shown(start.setting)}, which tries several of each. "
            "Try --setting fixed, or alphas and betas in a file."
        )
    if start.experiment == "uci":
        if not copied and "dataset" not in given:
            raise ValueError(
                "uci needs a data set, none was given. Try --dataset yacht, or all; probmix list names them."
            )
        asked = given.get("dataset", start.dataset)
        names_of_sets = UCI_DATASETS if asked == "all" else [name.strip() for name in asked.split(",")]
        given["dataset"] = ",".join(dict.fromkeys(names_of_sets))
    return replace(start, **given)


def _numbers(text: str) -> tuple[int, ...]:
    """0 to N - 1 for "N", the numbers themselves for "0,3,7", and all from the one to the other for "320-639"."""
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",") if part.strip()]
        numbers = tuple(number for first, *last in ends for number in (range(first, last[0] + 1) if last else (first,)))
    except ValueError:
        ends, numbers = [], ()
    if any(len(part) > 2 for part in ends):
        numbers = ()
    if text.strip().isdecimal() and numbers:
        numbers = tuple(range(numbers[0]))
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"--seeds or --splits got {shown(text)}, expected how many, or different numbers. Try 10, 0,3,7 or 320-639."
        )
    return numbers


class _Progress:
    """A bar over the epochs of all jobs, with the best validation NLL, mean over splits, or over jobs in other processes."""

    def __init__(self, config: Config, jobs: list[Job], waiting: list[Job], in_process: bool) -> None:
        self._steps, unit = (config.epochs, "epoch") if in_process else (1, "job")
        # Jobs that were finished before count in the bar, but not in its rate.
        self._finished = self._steps * (len(jobs) - len(waiting))
        often = 0.5 if sys.stderr.isatty() else 30.0  # in a log every update is a line
        total = self._steps * len(jobs)
        self._bar = tqdm(total=total, initial=self._finished, unit=unit, mininterval=often, dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def epoch(self, job: Job, epoch: int, best: Tensor) -> None:
        """Shows an epoch; reads the NLL, which waits for the device, only when the bar is redrawn."""
        if self._bar.update():
            self._bar.set_description(f"{printable(job.config.dataset)} {job.config.methods[0]}", refresh=False)
            self._bar.set_postfix_str(f"best validation NLL {float(best.mean()):.3f}", refresh=False)

    def job(self, job: Job) -> None:
        """Shows that a job is finished, with the epochs that early stopping left out."""
        self._finished += self._steps
        self._bar.update(self._finished - self._bar.n)


def _printed(table: Any, config: Config, setting: str) -> str:
    """The summary as aligned text, mean ± standard deviation over the splits."""
    metrics = [
        name for name in ("nll", "rmse", "accuracy", "nll (plug-in)", "rmse (plug-in)") if ("mean", name) in table
    ]
    lines = [
        f"{printable(config.dataset)}, {printable(setting)}: {len(config.splits)} splits, mean ± standard deviation",
        f"{'':<16}" + "".join(f"{name:>20}" for name in metrics),
    ]
    for method, row in table.iterrows():
        cells = (_cell(row["mean", name], row["std", name]) for name in metrics)
        lines.append(f"{method:<16}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _cell(mean: float, deviation: float) -> str:
    if mean != mean:  # the method has no such number
        return "-"
    return f"{mean:.3f}" if deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"
