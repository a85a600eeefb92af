"""``probmix fit``, ``predict`` and ``check``: models of tables in files."""

from __future__ import annotations

__all__ = ["add_check", "add_fit", "add_predict", "check", "fit", "predict"]

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyro_probmix.cli.printing import notes, printing
from pyro_probmix.names import printable, shown

if TYPE_CHECKING:
    from pyro_probmix.tabular.texts.conventions import Conventions


def add_fit(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``fit``."""
    command.set_defaults(action=fit)
    command.add_argument(
        "table", metavar="TABLE", help="a CSV file with a header (also .csv.gz), Parquet or Arrow file"
    )
    add = command.add_argument
    add("--target", metavar="COLUMN", required=True, help="the target column; several separated by commas")
    add(
        "--task",
        choices=("regression", "classification"),
        help="default: numbers are regressed, texts and true or false classified",
    )
    add(
        "--upper",
        metavar="COLUMN",
        help="upper ends of a target that is known up to an interval; the target's own column has the lower ones, and an empty "
        "field is no end",
    )
    add(
        "--event",
        metavar="COLUMN",
        help="1 where the target was observed, 0 where it is known to be larger (right-censored), as whoever is still alive",
    )
    add("--method", metavar="NAME", help="a method of probmix list (default M-ProbMix)")
    add("--likelihood", metavar="NAME", help="distribution of the target (default auto, which follows the target)")
    add("--ensemble", type=int, metavar="M", help="members trained together")
    add("--epochs", type=int, help="passes over the rows, at most (default: depends on the number of rows)")
    _add_readings(add)
    add("--seed", dest="random_state", type=int, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="FOLDER", default="model", help="folder for the model (default: model)")


def _add_readings(add: Callable[..., object]) -> None:
    """How the columns of a table are read."""
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


def fit(arguments: argparse.Namespace) -> None:
    """Fits a model to a table, and saves it in a folder."""
    from pathlib import Path

    from pyro_probmix.tables.names import find_columns
    from pyro_probmix.tabular.model import TableModel
    from pyro_probmix.tabular.streaming import table_to_fit

    names = ("method", "likelihood", "ensemble", "epochs", "random_state")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    TableModel.expect_place(arguments.out)
    with notes():
        frame = table_to_fit(Path(arguments.table), arguments.random_state, arguments.decimal)
    targets = find_columns(frame, arguments.target, arguments.table)
    said = _conventions(arguments, list(frame.columns))
    options = {name: getattr(arguments, name) for name in ("task", "impute", "drop_missing_target", "upper", "event")}
    with notes():
        model = TableModel.fit(frame, targets, conventions=said, verbose=int(sys.stderr.isatty()), **options, **given)
    model.save(arguments.out)
    with printing(f"the model is saved in {shown(arguments.out)}, but "):
        print(
            f"model: {printable(arguments.out)}; {len(frame)} rows, {len(model.columns.features)} features; "
            f"{printable(model.task)}"
        )


def _conventions(arguments: argparse.Namespace, columns: list[str]) -> Conventions:
    """The user's own words on how the table is written."""
    import csv

    from pyro_probmix.tabular.texts.conventions import Conventions

    def parts(text: str | None) -> tuple[str, ...]:
        """What stands between commas, of which names in quotes may have some."""
        if text in columns:
            return (str(text),)
        return tuple(
            part.strip() for row in csv.reader([text or ""], skipinitialspace=True) for part in row if part.strip()
        )

    missing, categories, leave_out = map(parts, (arguments.missing, arguments.category, arguments.leave_out))
    return Conventions(arguments.dates, arguments.decimal, missing, categories, leave_out)


def add_predict(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``predict``."""
    command.set_defaults(action=predict)
    command.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    command.add_argument(
        "table", metavar="TABLE", help="a CSV file (also .csv.gz), Parquet or Arrow file with the features"
    )
    command.add_argument("--out", metavar="FILE", help="a .csv or .parquet file (default: print CSV)")
    command.add_argument(
        "--conformal",
        action="store_true",
        help="add the ends of an interval of each target that held-out rows were inside 90 %% of the time",
    )
    command.add_argument(
        "--quote-formulas",
        action="store_true",
        help="put ' before names and classes that a spreadsheet would take for a formula: they begin with = + - or @",
    )


def predict(arguments: argparse.Namespace) -> None:
    """Predicts the rows of a table, into a file or onto the standard output."""
    import shutil
    import tempfile
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
    with notes():
        blocks = predicted_blocks(TableModel.load(arguments.model), Path(arguments.table), arguments.conformal)
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
            with printing(errors="strict"):  # a table with other characters than the predictions' would be wrong
                shutil.copyfileobj(kept, sys.stdout)


def add_check(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``check``."""
    command.set_defaults(action=check)
    command.add_argument("model", metavar="MODEL", help="a model's folder, as probmix fit wrote it")
    command.add_argument(
        "table", metavar="TABLE", help="a CSV file (also .csv.gz), Parquet or Arrow file with features and targets"
    )
    command.add_argument("--out", metavar="FOLDER", help="folder for the page (default: check in the model's folder)")


def check(arguments: argparse.Namespace) -> None:
    """Writes the page of a model on a table with targets."""
    from pathlib import Path

    from pyro_probmix.tables.writing import expect_folder
    from pyro_probmix.tabular.checking import check_table
    from pyro_probmix.tabular.model import TableModel
    from pyro_probmix.tabular.streaming import table_to_check

    model = TableModel.load(arguments.model)
    folder = Path(arguments.out or Path(arguments.model) / "check")
    if not arguments.out and folder.is_symlink():  # which a new model would not take away with the old one
        raise ValueError(
            f"{shown(folder)} is a link, expected a folder of the model's own. Try --out {shown(os.path.realpath(folder))}."
        )
    for place in (folder, folder.absolute().parent):  # it is put together beside the folder
        expect_folder(place)
    with notes():
        frame = table_to_check(model, Path(arguments.table))
    with notes():
        page = check_table(model, frame, folder, source=Path(arguments.table).name)
    with printing(f"the page is written to {shown(page)}, but "):
        print(f"page: {printable(page)}")
