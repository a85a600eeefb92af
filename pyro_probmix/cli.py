"""The `probmix` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyro_probmix.experiments.config import EXPERIMENTS, Config

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_probmix.experiments.jobs import Job
    from pyro_probmix.experiments.results import RunFolder
    from pyro_probmix.models import Method

__all__ = ["main"]

#: The options that an experiment has no use for: the toys draw their own data, the UCI sets have their targets.
_NOT_FOR = {
    "toy-regression": ("dataset", "target", "task", "data_dir", "network"),
    "toy-classification": ("dataset", "target", "task", "data_dir", "network"),
    "ablation-regression": ("dataset", "target", "task", "data_dir", "alpha", "beta", "setting", "network"),
    "ablation-classification": ("dataset", "target", "task", "data_dir", "alpha", "beta", "setting", "network"),
    "uci": ("target", "task", "network"),
    "stocks": ("target", "task"),
    "table": ("data_dir", "network"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with its arguments; returns 0, 1 after a user's mistake, or 130 after Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        action: Callable[[argparse.Namespace], None] = arguments.action
        action(arguments)
    except BrokenPipeError:  # the reader of what is printed, such as head, has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # or else Python complains about it on its way out
        return 0
    except (ValueError, OSError) as error:
        print(f"probmix: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("probmix: stopped; what was finished is in the run's folder.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="probmix", description="Probabilistic mixup: run and compare its methods.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="experiments, data sets, methods, graphs and criteria")
    listing.set_defaults(action=_list)
    run = commands.add_parser("run", help="train and measure methods on an experiment")
    run.set_defaults(action=_run)
    run.add_argument("experiment", metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    add = run.add_argument
    add(
        "--dataset",
        metavar="NAME",
        help="uci: a data set's name, several separated by commas, or all; table: a scikit-learn set, or a CSV or Parquet file",
    )
    add("--network", metavar="NAME", help="stocks: lstm, transformer (default: both)")
    add("--target", metavar="COLUMN", help="target column of a file; several separated by commas")
    add("--task", choices=("regression", "classification"), help="what a table is for (default: the target decides)")
    add(
        "--method",
        action="append",
        metavar="NAME",
        help="a method, or several separated by commas; 5xNAME is an ensemble of five (default: all of the paper; for toys "
        "and tables all but the starred)",
    )
    add(
        "--seeds", "--splits", dest="splits", metavar="N", help="how many seeds or published splits, or which, as 0,3,7"
    )
    add("--epochs", type=int, help="passes over the training rows")
    add("--alpha", type=float, help="both shapes of the Beta law of the weight (default 0.1)")
    add("--beta", type=float, help="spread of the label kernels")
    add(
        "--setting",
        metavar="NAME",
        help="fixed (default); chosen: a grid of alpha and beta, by the validation rows; or grid",
    )
    add("--graph", metavar="NAME", help="one graph for all methods that have one")
    add("--criterion", metavar="NAME", help="expected (default), log-expected or beta-nll")
    add("--particles", type=int, metavar="K", help="draws of the weight for each edge (default 1)")
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
    report = commands.add_parser(
        "report", help="one page from run folders: tables, claims and figures beside the paper's"
    )
    report.set_defaults(action=_report_runs)
    report.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, as probmix run wrote it")
    report.add_argument("--out", metavar="FOLDER", help="folder for report.html and report.md (default: the run's own)")
    fit = commands.add_parser("fit", help="fit a model to a table, a CSV or Parquet file")
    fit.set_defaults(action=_fit)
    fit.add_argument("table", metavar="TABLE", help="a CSV file with a header, or a Parquet file")
    add = fit.add_argument
    add("--target", metavar="COLUMN", required=True, help="the target column; several separated by commas")
    add("--task", choices=("regression", "classification"), help="what the table is for (default: the target decides)")
    add("--method", metavar="NAME", help="a method of probmix list (default M-ProbMix)")
    add("--likelihood", metavar="NAME", help="the law of the target (default gaussian, or categorical)")
    add("--ensemble", type=int, metavar="M", help="members trained together")
    add("--epochs", type=int, help="passes over the rows, at most (default: by the number of rows)")
    add(
        "--impute",
        action="store_true",
        help="let the median stand for missing numbers, and count missing categories as one",
    )
    add("--seed", dest="random_state", type=int, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="FOLDER", default="model", help="folder for the model (default: model)")
    predict = commands.add_parser("predict", help="predict the rows of a table by a model")
    predict.set_defaults(action=_predict)
    predict.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    predict.add_argument("table", metavar="TABLE", help="a CSV or Parquet file with the features")
    predict.add_argument("--out", metavar="FILE", help="a .csv or .parquet file (default: print CSV)")
    check = commands.add_parser("check", help="one page on how a model does on rows it has not seen")
    check.set_defaults(action=_check)
    check.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    check.add_argument("table", metavar="TABLE", help="a CSV or Parquet file with features and targets")
    check.add_argument("--out", metavar="FOLDER", help="folder for the page (default: check in the model's folder)")
    return parser


def _fit(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tabular.files import find_columns, read_table
    from pyro_probmix.tabular.model import TableModel

    names = ("method", "likelihood", "ensemble", "epochs", "random_state")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    frame = read_table(Path(arguments.table))
    targets = find_columns(frame, arguments.target, arguments.table)
    model = TableModel.fit(
        frame, targets, task=arguments.task, impute=arguments.impute, verbose=int(sys.stderr.isatty()), **given
    )
    model.save(arguments.out)
    print(
        f"model: {arguments.out}; {len(frame)} rows, {len(model.columns.features)} features, target {', '.join(targets)}"
    )


def _predict(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tabular.files import read_table, write_table
    from pyro_probmix.tabular.model import TableModel

    predicted = TableModel.load(arguments.model).predict(read_table(Path(arguments.table)))
    if arguments.out is None:
        predicted.to_csv(sys.stdout, index=False)
    else:
        write_table(predicted, Path(arguments.out))


def _check(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tabular.checking import check_table
    from pyro_probmix.tabular.files import read_table
    from pyro_probmix.tabular.model import TableModel

    model = TableModel.load(arguments.model)
    page = check_table(model, read_table(Path(arguments.table)), arguments.out or Path(arguments.model) / "check")
    print(f"page: {page}")


def _report_runs(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.report import write_report

    print(f"report: {write_report(arguments.runs, arguments.out)}")


def _list(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.stocks import TICKERS
    from pyro_probmix.experiments.table import EMBEDDED
    from pyro_probmix.experiments.uci import UCI_DATASETS
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
    """A line on a method."""
    pool = "-" if method.site is None else method.pool if method.ways == 2 else f"{method.pool} of {method.ways}"
    embedding = f"Gaussian, {method.variance} variance network" if method.variance else "point"
    more = {
        "likelihood": method.likelihood,
        "criterion": method.criterion,
        "K, S": method.draws and ", ".join(map(str, method.draws)),
        "alpha": method.alpha,
        "beside the rows' own likelihood": method.clean or None,
    }
    extras = [label if value is True else f"{label} {value}" for label, value in more.items() if value is not None]
    return f"  {name:<16}{method.site or '-':<12}{method.graph or '-':<14}{pool:<18}{'; '.join([embedding, *extras])}"


def _run(arguments: argparse.Namespace) -> None:
    config = _config(arguments)
    from pyro_probmix.experiments.engines import check_backend, connect
    from pyro_probmix.experiments.jobs import list_jobs
    from pyro_probmix.experiments.results import RunFolder, recorded_config
    from pyro_probmix.experiments.runner import check_config, choose_device, default_methods
    from pyro_probmix.experiments.sweep import WorkersLost, chunk_size, run

    config = replace(config, methods=config.methods or default_methods(config))
    check_config(config)
    backend = arguments.backend or "local"
    check_backend(backend, arguments.jobs)
    device = choose_device(config.device) if backend == "local" else config.device  # a cluster's workers have their own
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    label = config.dataset.rsplit("/", 1)[-1]
    name = config.experiment if label == config.experiment or "," in label else f"{config.experiment}-{label}"
    out = arguments.out or f"runs/{name}-{stamp}"
    if config.chunk is None:
        # What a folder holds goes on in its own chunks, however many jobs there are now.
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
    from pyro_probmix.experiments.figures import draw_figures
    from pyro_probmix.experiments.jobs import each_part
    from pyro_probmix.experiments.results import summary

    results = folder.results
    for one in each_part(config):
        own = results[(results["dataset"] == one.dataset) & (results["network"] == one.network)]
        for setting, numbers in own.groupby("setting", sort=False):
            print(_printed(summary(numbers), one, str(setting)))
    draw_figures(jobs, folder)
    print(f"results and figures: {folder.path}")


def _config(arguments: argparse.Namespace) -> Config:
    if arguments.experiment not in EXPERIMENTS:
        raise ValueError(
            f"unknown experiment {arguments.experiment!r}, expected one of {', '.join(EXPERIMENTS)}. Try probmix list."
        )
    names = (
        "dataset",
        "target",
        "task",
        "epochs",
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
    meaningless = [name for name in _NOT_FOR[arguments.experiment] if name in given]
    if meaningless:
        option = "--" + meaningless[0].replace("_", "-")
        raise ValueError(
            f"{option} has no meaning for {arguments.experiment}, expected none. Try probmix run table --help."
        )
    if arguments.experiment == "uci" and "dataset" not in given:
        raise ValueError("uci needs a data set, none was given. Try --dataset yacht, or all; probmix list names them.")
    if arguments.experiment == "uci" and "dataset" in given:
        from pyro_probmix.experiments.uci import UCI_DATASETS

        asked = ",".join(UCI_DATASETS) if given["dataset"] == "all" else given["dataset"]
        given["dataset"] = ",".join(dict.fromkeys(name.strip() for name in asked.split(",")))
    return replace(EXPERIMENTS[arguments.experiment], **given)


def _numbers(text: str) -> tuple[int, ...]:
    """0 to N - 1 for "N", the numbers themselves for "0,3,7"."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = ()
    if "," not in text and numbers:
        numbers = tuple(range(numbers[0]))
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"--seeds or --splits got {text!r}, expected how many, or different numbers. Try 10, or 0,3,7."
        )
    return numbers


class _Progress:
    """A bar over the epochs of all jobs, with the best validation NLL, mean over splits, or over jobs in other processes."""

    def __init__(self, config: Config, jobs: list[Job], waiting: list[Job], in_process: bool) -> None:
        from tqdm import tqdm

        self._in_process = in_process
        steps, unit = (config.epochs, "epoch") if in_process else (1, "job")
        # What an earlier run has finished is in the bar, but not in its rate.
        done = steps * (len(jobs) - len(waiting))
        self._bar = tqdm(total=steps * len(jobs), initial=done, unit=unit, mininterval=0.5, dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def epoch(self, job: Job, epoch: int, best: Tensor) -> None:
        """Shows an epoch; looks at the NLL, which waits for the device, only when the bar is drawn anew."""
        if self._bar.update():
            self._bar.set_description(f"{job.config.dataset} {job.config.methods[0]}", refresh=False)
            self._bar.set_postfix_str(f"best validation NLL {float(best.mean()):.3f}", refresh=False)

    def job(self, job: Job) -> None:
        """Shows a job that another process has finished."""
        if not self._in_process:
            self._bar.update()


def _printed(table: Any, config: Config, setting: str) -> str:
    """The summary as aligned text, mean ± standard deviation over the splits."""
    metrics = [
        name for name in ("nll", "rmse", "accuracy", "nll (plug-in)", "rmse (plug-in)") if ("mean", name) in table
    ]
    lines = [
        f"{config.dataset}, {setting}: {len(config.splits)} splits, mean ± standard deviation",
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
