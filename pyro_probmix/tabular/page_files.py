"""The files of the page of a check, which its HTML lists, so that no others are removed with it."""

from __future__ import annotations

__all__ = ["files_of_page"]

import re
from pathlib import Path

#: Names of the files that a page may have, and the tag in which a page lists its files.
_OWN_FILE = re.compile(r"[\w-]+\.png|predictions\.nc")
_LIST = re.compile(r'<meta name="probmix-files" content="([^"]*)">')


def files_of_page(folder: Path) -> list[str]:
    """The names of the page in a folder and of the files beside it that it lists; none if there is no page."""
    page = folder / "check.html"
    if folder.is_symlink() or not page.is_file():
        return []
    found = _LIST.search(page.read_text("utf-8", "replace"))
    listed = found[1].split() if found else []
    return ["check.html", *(name for name in listed if _OWN_FILE.fullmatch(name) and (folder / name).is_file())]
