"""The parts of a page, from which HTML and Markdown are made."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "Block",
    "Cell",
    "Figure",
    "Page",
    "Row",
    "Section",
    "Table",
    "Text",
    "diverged",
    "figures_of",
    "number",
    "spread",
]


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: of the cell.
        small: text beside or below it in small print, for example the spread.
        lines: further lines in small print.
        best: whether it is the best of its row.
        mark: a sign after the text.
        kind: "", "head", "paper" or "further", which decides its style.
    """

    text: str
    small: str = ""
    lines: tuple[str, ...] = ()
    best: bool = False
    mark: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A table's row; ``first`` of a group is set off from the row above."""

    cells: tuple[Cell, ...]
    first: bool = True


@dataclass(frozen=True)
class Table:
    """A table; the first ``heads`` columns stay in view when it scrolls, ``wrap`` lets its cells hold sentences."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str
    heads: int = 1
    wrap: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A picture: its file's name without the suffix, its PNG, a description (alt text), its caption."""

    name: str
    png: bytes = field(repr=False)
    alt: str
    caption: str


Block = Text | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the page; ``id`` is its anchor."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def figures_of(page: Page) -> list[Figure]:
    """All pictures, in order."""
    return [block for section in page.sections for block in section.blocks if isinstance(block, Figure)]


def number(value: float, digits: int = 2) -> str:
    """A table's number: two decimals, fewer for large ones, a dash for none.

    Example:
        >>> number(0.954), number(-0.001), number(4362.28), number(3.1e7), number(float("nan"))
        ('0.95', '0.00', '4362', '3.1e+07', '–')
    """
    if value != value:
        return "–"
    if abs(value) >= 1e5:
        return f"{value:.1e}" if abs(value) != float("inf") else ("∞" if value > 0 else "-∞")
    digits = digits if abs(value) < 1000 else 0
    return f"{round(value, digits) + 0.0:.{digits}f}"


def spread(value: float, digits: int = 2) -> str:
    """A standard deviation or error behind its mean, an empty text if there is none."""
    return f"± {number(value, digits)}" if value == value else ""


def diverged(finite: float, of: float) -> str:
    """How many of the splits have a number, where some have none."""
    return f" ({finite:.0f} of {of:.0f})" if finite < of else ""
