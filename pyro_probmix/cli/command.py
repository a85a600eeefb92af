"""The command itself: its parser, its exit status, and one line for each error."""

from __future__ import annotations

__all__ = ["main", "parser"]

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence

from pyro_probmix.cli.listing import add_list
from pyro_probmix.cli.printing import printing
from pyro_probmix.cli.runs import add_report, add_run
from pyro_probmix.cli.tables import add_check, add_fit, add_predict, check, fit, predict
from pyro_probmix.names import printable, shown

#: Name -> the line of ``probmix --help``, and what adds the command's arguments to its parser.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "list": ("experiments, data sets, methods, graphs and criteria", add_list),
    "run": ("train and measure methods on an experiment", add_run),
    "report": ("one page from run folders: tables, claims and figures beside the paper's", add_report),
    "fit": ("fit a model to a table, a CSV or Parquet file", add_fit),
    "predict": ("predict the rows of a table by a model", add_predict),
    "check": ("one page on how well a model does on held-out rows", add_check),
}
LONGEST_MESSAGE = 2000
#: PyTorch's messages about memory; compiled code names the call that failed to make a tensor.
OUT_OF_MEMORY = r"can't allocate memory|CUDA out of memory|aoti_torch_\w*(empty|rand)\w*\(.*API call failed"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with its arguments; returns 0, 1 after a user's mistake, or 130 after Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parser(words).parse_args(words)
    try:
        action: Callable[[argparse.Namespace], None] = arguments.action
        action(arguments)
        with printing():  # what is still to go out
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
        whole = arguments.action in (fit, predict, check)
        left = (str(stop) or "nothing was written") if whole else "what was finished is in the run's folder"
        print(f"probmix: stopped; {left}.", file=sys.stderr)
        return 130
    return 0


def _sentence(error: Exception) -> str:
    """One line on an error, without what a terminal would obey, and of bounded length."""
    if isinstance(error, OSError) and not isinstance(error, ValueError) and error.filename is not None:
        return f"{shown(error.filename)} cannot be read or written ({error.strerror}). Try another path."
    text = printable(error)
    return (
        text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
    )


def parser(words: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the command's arguments; ``action`` is the function that does what they ask for.

    Args:
        words: a command that is not among them is listed, without arguments of its own: to add them all takes longer than
            to print the help.
    """
    made = argparse.ArgumentParser(prog="probmix", description="Probabilistic mixup: run and compare its methods.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, (line, add_arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=line)
        if name in words:
            add_arguments(command)
    return made
