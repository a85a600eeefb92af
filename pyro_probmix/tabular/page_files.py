"""The files of the page of a check, which its HTML lists, so that no others are removed with it."""

from __future__ import annotations

__all__ = ["expect_own_page", "files_of_page"]

import re
from collections.abc import Iterable
from pathlib import Path

from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed

#: Names of the files that a page may have, and the tag in which a page lists its files.
_OWN_FILE = re.compile(r"[\w-]+\.png|predictions\.nc")
_LIST = re.compile(r'<meta name="probmix-files" content="([^"]*)">')


def files_of_page(folder: Path) -> list[str]:
    """The names of the page in a folder and of the files beside it that it lists; none if there is no page of a check."""
    page = folder / "check.html"
    found = _LIST.search(page.read_text("utf-8", "replace")) if page.is_file() else None
    if found is None:
        return []
    names = [name for name in found[1].split() if _OWN_FILE.fullmatch(name) and (folder / name).is_file()]
    return ["check.html", *names]


def expect_own_page(folder: Path, names: Iterable[str] = ("check.html", "predictions.nc")) -> list[str]:
    """The names of the page's files in a folder; raises ValueError if a file of another's has one of the given names."""
    own = files_of_page(folder)
    others = [name for name in names if name not in own and (folder / name).exists()]
    if others:
        raise ValueError(
            f"the folder {shown(folder)} holds {listed(others)}, which no page of a check lists as its own and which it would "
            "replace, expected none. Try another --out."
        )
    return own
