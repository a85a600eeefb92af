"""The style of figures that are written to files: matplotlib's own, whatever style the user's session has."""

from __future__ import annotations

__all__ = ["default_style"]

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def default_style() -> Iterator[None]:
    """Draws and saves figures in matplotlib's default style: black on white, as the pages that show them expect."""
    from matplotlib import style

    with style.context("default"):
        yield
