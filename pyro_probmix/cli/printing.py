"""What the command prints: at once, or with a sentence on why it cannot; warnings as notes."""

from __future__ import annotations

__all__ = ["notes", "printing"]

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyro_probmix.names import printable, shown


@contextmanager
def printing(done: str = "", errors: str = "backslashreplace") -> Iterator[None]:
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
def notes() -> Iterator[None]:
    """Prints the warnings of the package as notes on the standard error, one a line."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(printable(one.message) for one in caught):
        print(f"note: {text}", file=sys.stderr)
