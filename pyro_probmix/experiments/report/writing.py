"""Writes a report: everything is drawn first, then each file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pyro_probmix.experiments.report.numbers.reading import read_runs
from pyro_probmix.experiments.report.pages.page import figures_of
from pyro_probmix.experiments.report.pages.rendering import to_html, to_markdown
from pyro_probmix.experiments.report.sections import build_page

__all__ = ["FIGURES", "write_report"]

#: The folder beside ``report.md`` that holds its figures; the report's own, what else lies there is removed.
FIGURES = "report-figures"


def write_report(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Path:
    """Writes ``report.html``, ``report.md`` and the latter's figures.

    Args:
        runs: run folders.
        out: where to write; the run's own folder for one run.

    Returns:
        the path of ``report.html``.

    Raises:
        ValueError: if a folder is not a run's, for several runs without ``out``, or if it cannot be written to.
    """
    if len(runs) > 1 and out is None:
        raise ValueError(f"a report of {len(runs)} runs needs a folder, none was given. Try --out FOLDER.")
    page = build_page(read_runs(runs))
    folder = Path(out if out is not None else runs[0])
    html, markdown = to_html(page), to_markdown(page, FIGURES)
    pictures = {f"{figure.name}.png": figure.png for figure in figures_of(page)}
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            _write(folder / FIGURES / name, picture)
        _write(folder / "report.md", markdown.encode())
        _write(folder / "report.html", html.encode())
        for path in (folder / FIGURES).glob("*.png"):
            if path.name not in pictures:
                path.unlink()
        if not pictures:
            (folder / FIGURES).rmdir()
    except OSError as error:
        raise ValueError(f"{str(folder)!r} could not be written to ({error.strerror}). Try another --out.") from None
    return folder / "report.html"


def _write(path: Path, content: bytes) -> None:
    """Replaces a file by a whole one."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
