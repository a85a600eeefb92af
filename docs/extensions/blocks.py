"""A Sphinx extension: the blank line that ends a doctest before its fence does not end the block that is shown."""

from __future__ import annotations

__all__ = ["setup"]

from docutils import nodes
from sphinx.application import Sphinx


def _trim(app: Sphinx, document: nodes.document) -> None:
    for block in document.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip()
        block.children = [nodes.Text(block.astext().rstrip())]


def setup(app: Sphinx) -> dict[str, bool]:
    """Trims every block once its page is read."""
    app.connect("doctree-read", _trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
