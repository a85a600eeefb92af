"""Names and texts from outside, as messages and pages show them."""

from __future__ import annotations

__all__ = ["in_figure", "name_of", "printable", "shown"]

import os
import re

_LONGEST = 120
_WITHOUT_SPACES = re.compile(r"\S{250,}")


def shown(value: object) -> str:
    """A name or value from outside for a message: names quoted, no control characters, and a long one cut in its middle.

    Example:
        >>> print(shown("red\\x1b[31m"), shown(b"=" * 10**6)[:8], len(shown(10**200)))
        'red\\x1b[31m' b'====== 123
    """
    if isinstance(value, (str, os.PathLike)):
        return repr(_cut(str(os.fspath(value))))
    return _cut(printable(repr(value)))


def printable(text: object) -> str:
    """A text in one line for a terminal or a page: control characters spelled out, and what nobody would read cut.

    Example:
        >>> printable("one\\ntwo \\x1b[31m")
        'one two \\\\x1b[31m'
    """
    line = " ".join(str(text).splitlines())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return _WITHOUT_SPACES.sub(lambda found: _cut(found[0]), line)


def in_figure(text: object) -> str:
    """A text in one line of a figure, with its dollar signs escaped, since a dollar starts a formula."""
    return printable(text).replace("$", r"\$")


def name_of(thing: object) -> str:
    """The name of a class or function, or of the class of anything else."""
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) and name != "<lambda>" else type(thing).__name__


def _cut(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"
