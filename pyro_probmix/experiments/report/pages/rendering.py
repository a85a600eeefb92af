"""A page as one HTML file that needs nothing else, or as Markdown with its figures beside it."""

from __future__ import annotations

import base64
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pyro_probmix.experiments.report.pages.page import Block, Cell, Page
from pyro_probmix.names import printable

__all__ = ["to_html", "to_markdown"]


def to_html(page: Page) -> str:
    """One HTML document, figures embedded as data URIs; nothing is fetched from anywhere."""
    return _environment(escape=True).get_template("report.html.jinja").render(page=page)


def to_markdown(page: Page, figures: str) -> str:
    """Markdown whose figures are ``figures``/NAME.png."""
    text = _environment(escape=False).get_template("report.md.jinja").render(page=page, figures=figures)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(*, escape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("pyro_probmix.experiments.report.pages"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_in_one_line if escape else None,
    )
    environment.filters |= {"data_uri": _data_uri, "md": _escaped, "md_cell": _markdown_cell, "kind_of": _kind_of}
    return environment


def _in_one_line(value: object) -> object:
    """A name as HTML shows it, but for pictures, which are markup."""
    return printable(value) if type(value) is str else value


def _kind_of(block: Block) -> str:
    return type(block).__name__


def _data_uri(png: bytes) -> Markup:
    return Markup("data:image/png;base64,") + base64.b64encode(png).decode("ascii")


def _escaped(text: str) -> str:
    """Text in one line, with the characters escaped that mean something in Markdown."""
    escaped = re.sub(r"([\\`*_|<>\[\]#~&])", r"\\\1", printable(text))
    return re.sub(r"^(\s*\d*)([-+=.)](?=[-+=\s]|$))", r"\1\\\2", escaped)  # no list, rule or heading begins there


def _markdown_cell(cell: Cell) -> str:
    text = " ".join(part for part in (_escaped(cell.text), _escaped(cell.small)) if part)
    if cell.best and text:
        text = f"**{text}** ★"
    if cell.mark:
        text = f"{text} {cell.mark}"
    return "<br>".join([text, *map(_escaped, cell.lines)])
