"""Writes a report: its text and figures, all or none."""

from __future__ import annotations

import hashlib
import html
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pyro_probmix.experiments.report.numbers.reading import read_runs
from pyro_probmix.experiments.report.pages.page import figures_of
from pyro_probmix.experiments.report.pages.rendering import to_html, to_markdown
from pyro_probmix.experiments.report.sections import build_page
from pyro_probmix.files import reading, regular, write_files
from pyro_probmix.names import shown
from pyro_probmix.unfinished import Save

__all__ = ["FIGURES", "write_report"]

#: The folder beside ``report.md`` that holds its figures, in a folder named by their content.
FIGURES = "report-figures"
_FIGURE = re.compile(rf"\]\(({FIGURES}/(?:[0-9a-f]{{8}}/)?[^/()]+\.png)\)")


def write_report(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Path:
    """Writes ``report.html``, ``report.md`` and the latter's figures.

    Args:
        runs: run folders.
        out: where to write; the run's own folder for one run.

    Returns:
        the path of ``report.html``.

    Raises:
        ValueError: if a folder is not a run's, for several runs without ``out``, or if it cannot be written to or holds a file
            of that name that is no report.
    """
    if len(runs) > 1 and out is None:
        raise ValueError(f"a report of {len(runs)} runs needs a folder, none was given. Try --out FOLDER.")
    with ExitStack() as others:
        # Each once, and in one order, else two reports of the same runs could wait for each other.
        for run in sorted({os.path.realpath(run) for run in runs if os.path.isdir(run)}):
            others.enter_context(reading(run))
        page = build_page(read_runs(runs))
    folder = Path(out if out is not None else runs[0])
    _expect_own(folder, page.title)
    pictures = {f"{figure.name}.png": figure.png for figure in figures_of(page)}
    content = hashlib.sha256(b"".join(hashlib.sha256(png).digest() for png in pictures.values())).hexdigest()
    # A folder for each set of pictures, so that a text never refers to those of another report, whatever is on its way.
    place = f"{FIGURES}/{content[:8]}"
    files: dict[str, Save] = {f"{place}/{name}": partial(_write, content=png) for name, png in pictures.items()}
    files["report.md"] = partial(_write, content=to_markdown(page, place).encode())
    files["report.html"] = partial(_write, content=to_html(page).encode())
    write_files(folder, files, stale=lambda: _figures_in(folder), advice="Try another --out.")
    return folder / "report.html"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _expect_own(folder: Path, title: str) -> None:
    """Raises ValueError if a file that a report would replace is none, which its title tells."""
    for path in (folder / "report.md", folder / "report.html"):
        try:
            with regular(path).open(encoding="utf-8", errors="replace") as file:
                head = file.read(4096)
        except OSError:  # which is said where it is to be replaced, if it matters
            continue
        if title not in html.unescape(head):
            raise ValueError(
                f"the folder {shown(folder)} holds {shown(path.name)}, which is no report and would be replaced, expected "
                "none. Try another --out."
            )


def _figures_in(folder: Path) -> list[str]:
    """The figures of the report that is there, by its text; others that lie beside them are not the report's."""
    text, figures = folder / "report.md", folder / FIGURES
    if not text.is_file() or figures.is_symlink():
        return []
    names = _FIGURE.findall(text.read_text("utf-8", "replace"))
    return [name for name in names if (folder / name).is_file() and not (folder / name).parent.is_symlink()]
