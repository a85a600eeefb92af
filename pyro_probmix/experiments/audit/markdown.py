"""Tables in Markdown."""

from __future__ import annotations

__all__ = ["escaped", "table"]

from collections.abc import Iterable, Sequence


def table(head: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    """A table of a head and lines of cells.

    Example:
        >>> print(table(["method", "NLL"], [["ERM", 1.2]]))
        | method | NLL |
        | --- | --- |
        | ERM | 1.2 |
    """
    return "\n".join(map(_row, [head, ["---"] * len(head), *lines]))


def escaped(method: object) -> str:
    """The name of a method, whose star would begin an emphasis."""
    return str(method).replace("*", "\\*")


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
