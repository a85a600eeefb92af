"""A Sphinx extension: formulas as MathML, which browsers draw themselves, so that no script is fetched to read a page."""

from __future__ import annotations

__all__ = ["setup"]

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

#: A function that is not followed by a bracket, from which its argument is set off.
_FUNCTION = re.compile(r"(<mi>(?:log|exp|cos|sin)</mi>)(?!<mo[^>]*>&#x00028;)")


def mathml(latex: str, display: str) -> str:
    """The formula as a ``<math>`` element, ``display`` being "inline" or "block"."""
    made = convert(latex, display=display).replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")  # a relation: "follows"
    return _FUNCTION.sub(r'\1<mspace width="0.17em"/>', made)


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
