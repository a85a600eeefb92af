"""A Sphinx extension: shapes in docstrings, such as [*batch, *event], are code, where a star begins no emphasis."""

from __future__ import annotations

__all__ = ["setup"]

import re
from typing import Any

from sphinx.application import Sphinx

_SHAPE = re.compile(r"(?<![`\w\[(])(\[[^\[\]`]*\*\w[^\[\]`]*\]|\((?:\*\w+, )*\*\w+\))(?!`)")
_CODE = re.compile(r"(``.+?``|`.+?`)")  # what is code already, or a role


def _mark_shapes(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    for index, line in enumerate(lines):
        if "*" in line and not line.lstrip().startswith((">>>", "...")):
            parts = _CODE.split(line)
            parts[::2] = [_SHAPE.sub(r"``\1``", part) for part in parts[::2]]
            lines[index] = "".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Marks shapes before napoleon reads a docstring."""
    app.connect("autodoc-process-docstring", _mark_shapes, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
