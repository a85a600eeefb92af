"""The `probmix` command."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.names import printable, shown

if TYPE_CHECKING:
    from pyro_probmix.models import Method

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["main"]


LONGEST_MESSAGE = 2000
#: PyTorch's messages about memory; compiled code names the call that failed to make a tensor.
OUT_OF_MEMORY = r"can't allocate memory|CUDA out of memory|aoti_torch_\w*(empty|rand)\w*\(.*API call failed"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with its arguments; returns 0, 1 after a user's mistake, or 130 after Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        action: Callable[[argparse.Namespace], None] = arguments.action
        action(arguments)
        with _printing():  # what is still to go out
            pass
    except BrokenPipeError:  # the reader of what is printed, such as head, has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # else Python reports the closed pipe once more when it ends
        return 0
    except (ValueError, OSError) as error:
        print(f"probmix: {_sentence(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search(OUT_OF_MEMORY, str(error)):
            raise
        print(
            "probmix: the memory did not suffice, and nothing was written. Try fewer rows, fewer members or fewer --jobs.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as stop:
        whole = arguments.action in (_fit, _predict, _check)
        left = (str(stop) or "nothing was written") if whole else "what was finished is in the run's folder"
        print(f"probmix: stopped; {left}.", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _printing(done: str = "", errors: str = "backslashreplace") -> Iterator[None]:
    """Lets what is printed inside go out at once.

    Args:
        done: what has been done already, which is said where nothing can be printed.
        errors: what becomes of characters that the terminal's encoding lacks.

    Raises:
        ValueError: if it cannot be printed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=errors)
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except UnicodeEncodeError as error:
        odd = shown(error.object[error.start : error.start + 1])
        raise ValueError(
            f"{done}the standard output is in {error.encoding}, which has no {odd}. Try --out, or PYTHONIOENCODING=utf-8."
        ) from None
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # else Python reports it once more when it ends
        raise ValueError(
            f"{done}the standard output could not be written to ({error.strerror}). Try another place for it."
        ) from None


@contextmanager
def _notes() -> Iterator[None]:
    """Prints the warnings of the package as notes on the standard error, one a line."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(printable(one.message) for one in caught):
        print(f"note: {text}", file=sys.stderr)


def _sentence(error: Exception) -> str:
    """What is said of an error, in one line, without what a terminal would obey, and not of any length."""
    if isinstance(error, OSError) and not isinstance(error, ValueError) and error.filename is not None:
        return f"{shown(error.filename)} cannot be read or written ({error.strerror}). Try another path."
    text = printable(error)
    return (
        text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="probmix", description="Probabilistic mixup: run and compare its methods.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="experiments, data sets, methods, graphs and criteria")
    listing.set_defaults(action=_list)
    for add_command in (_add_run, _add_report, _add_fit, _add_predict, _add_check):
        add_command(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser("run", help="train and measure methods on an experiment")
    run.set_defaults(action=_run)
    run.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help=", ".join(EXPERIMENTS)
        + "; audit, the choices that the paper leaves open; regimes, where fusing helps; or a .json file, a copy of a "
        "run's config.json with your changes",
    )
    add = run.add_argument
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
        "--seeds", "--splits", dest="splits", metavar="N", help="how many seeds or published splits, or which, as 0,3,7"
    )
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
        help="fixed (default); paper: the choices that come nearest to its numbers; chosen: a grid of alpha and beta, by the "
        "validation rows; or grid; audit: fraction (default) or full",
    )
    add("--graph", metavar="NAME", help="one graph for all methods that have one")
    add("--criterion", metavar="NAME", help="expected (default), log-expected, beta-nll or crps")
    add("--particles", type=int, metavar="K", help="draws of the weight for each edge (default 1)")
    _add_places(add)


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


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report", help="one page from run folders: tables, claims and figures beside the paper's"
    )
    report.set_defaults(action=_report_runs)
    report.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, as probmix run wrote it")
    report.add_argument("--out", metavar="FOLDER", help="folder for report.html and report.md (default: the run's own)")


def _add_fit(commands: Commands) -> None:
    fit = commands.add_parser("fit", help="fit a model to a table, a CSV or Parquet file")
    fit.set_defaults(action=_fit)
    fit.add_argument("table", metavar="TABLE", help="a CSV file with a header, or a Parquet file")
    add = fit.add_argument
    add("--target", metavar="COLUMN", required=True, help="the target column; several separated by commas")
    add(
        "--task",
        choices=("regression", "classification"),
        help="default: numbers are regressed, texts and true or false classified",
    )
    add("--method", metavar="NAME", help="a method of probmix list (default M-ProbMix)")
    add("--likelihood", metavar="NAME", help="distribution of the target (default auto, which follows the target)")
    add("--ensemble", type=int, metavar="M", help="members trained together")
    add("--epochs", type=int, help="passes over the rows, at most (default: depends on the number of rows)")
    add(
        "--impute",
        action="store_true",
        help="say nothing of values that are missing in a table that is predicted, in columns without gaps here",
    )
    add("--drop-missing-target", action="store_true", help="leave out rows without a target, and say how many")
    add("--leave-out", metavar="COLUMN", help="columns to leave out, separated by commas")
    add("--category", metavar="COLUMN", help="columns to take as categories, whatever is in them, separated by commas")
    add("--missing", metavar="TEXT", help="texts that stand for a missing value in every column, separated by commas")
    add(
        "--dates",
        choices=("dmy", "mdy"),
        help="order of day and month in dates with slashes or points (default: told by the values)",
    )
    add("--decimal", choices=(",", "."), help="decimal sign of numbers such as 1,234 (default: told by the values)")
    add("--seed", dest="random_state", type=int, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="FOLDER", default="model", help="folder for the model (default: model)")


def _add_predict(commands: Commands) -> None:
    predict = commands.add_parser("predict", help="predict the rows of a table by a model")
    predict.set_defaults(action=_predict)
    predict.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    predict.add_argument(
        "table", metavar="TABLE", help="a CSV file (also .csv.gz), Parquet or Arrow file with the features"
    )
    predict.add_argument("--out", metavar="FILE", help="a .csv or .parquet file (default: print CSV)")
    predict.add_argument(
        "--quote-formulas",
        action="store_true",
        help="put ' before names and classes that a spreadsheet would take for a formula: they begin with = + - or @",
    )


def _add_check(commands: Commands) -> None:
    check = commands.add_parser("check", help="one page on how well a model does on held-out rows")
    check.set_defaults(action=_check)
    check.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    check.add_argument("table", metavar="TABLE", help="a CSV or Parquet file with features and targets")
    check.add_argument("--out", metavar="FOLDER", help="folder for the page (default: check in the model's folder)")


def _fit(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tables.names import find_columns
    from pyro_probmix.tables.reading import read_table
    from pyro_probmix.tabular.conventions import Conventions
    from pyro_probmix.tabular.model import TableModel

    names = ("method", "likelihood", "ensemble", "epochs", "random_state")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    TableModel.expect_place(arguments.out)
    frame = read_table(Path(arguments.table))
    targets = find_columns(frame, arguments.target, arguments.table)
    said = Conventions(
        arguments.dates,
        arguments.decimal,
        *(
            tuple(part.strip() for part in (names or "").split(",") if part.strip())
            for names in (arguments.missing, arguments.category, arguments.leave_out)
        ),
    )
    options = {"task": arguments.task, "impute": arguments.impute, "drop_missing_target": arguments.drop_missing_target}
    with _notes():
        model = TableModel.fit(frame, targets, conventions=said, verbose=int(sys.stderr.isatty()), **options, **given)
    model.save(arguments.out)
    with _printing(f"the model is saved in {shown(arguments.out)}, but "):
        print(
            f"model: {printable(arguments.out)}; {len(frame)} rows, {len(model.columns.features)} features; "
            f"{printable(model.task)}"
        )


def _predict(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tables.writing import expect_file, quote_formulas, write_table
    from pyro_probmix.tabular.model import TableModel
    from pyro_probmix.tabular.streaming import predicted_blocks

    if arguments.out is not None:
        out = Path(arguments.out)
        expect_file(out)
        if os.path.exists(out) and os.path.exists(arguments.table) and out.samefile(arguments.table):
            raise ValueError(
                f"--out {printable(out)} is the table itself, expected another file. Try --out predicted.csv."
            )
    with _notes():
        blocks = predicted_blocks(TableModel.load(arguments.model), Path(arguments.table))
        predicted = map(quote_formulas, blocks) if arguments.quote_formulas else blocks
        if arguments.out is not None:
            write_table(predicted, Path(arguments.out))
            return
        with tempfile.TemporaryFile(
            "w+", encoding="utf-8", newline=""
        ) as kept:  # nothing is printed of a table that fails
            for k, frame in enumerate(predicted):
                frame.to_csv(kept, index=False, header=k == 0)
            kept.seek(0)
            with _printing(errors="strict"):  # a table with other characters than the predictions' would be wrong
                shutil.copyfileobj(kept, sys.stdout)


def _check(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from pyro_probmix.tables.reading import read_table
    from pyro_probmix.tables.writing import expect_folder
    from pyro_probmix.tabular.checking import check_table
    from pyro_probmix.tabular.model import TableModel

    model = TableModel.load(arguments.model)
    folder = Path(arguments.out or Path(arguments.model) / "check")
    if not arguments.out and folder.is_symlink():  # which a new model would not take away with the old one
        raise ValueError(
            f"{shown(folder)} is a link, expected a folder of the model's own. Try --out {shown(os.path.realpath(folder))}."
        )
    for place in (folder, folder.absolute().parent):  # it is put together beside the folder
        expect_folder(place)
    with _notes():
        page = check_table(model, read_table(Path(arguments.table)), folder, source=Path(arguments.table).name)
    with _printing(f"the page is written to {shown(page)}, but "):
        print(f"page: {printable(page)}")


def _report_runs(arguments: argparse.Namespace) -> None:
    from pyro_probmix.experiments.report import write_report

    page = write_report(arguments.runs, arguments.out)
    with _printing(f"the report is written to {shown(page)}, but "):
        print(f"report: {printable(page)}")


def _list(arguments: argparse.Namespace) -> None:
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
        "beside the rows' own likelihood": method.add_unfused_rows or None,
    }
    extras = [label if value is True else f"{label} {value}" for label, value in more.items() if value is not None]
    return f"  {name:<16}{method.site or '-':<12}{method.graph or '-':<14}{pool:<18}{'; '.join([embedding, *extras])}"


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
