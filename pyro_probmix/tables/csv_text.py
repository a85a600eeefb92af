"""The text of a CSV file, compressed or not, without the lines that are no rows."""

from __future__ import annotations

__all__ = ["BLOCK_BYTES", "CsvText", "header_of", "numbered_lines"]

import codecs
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.dialect import Dialect

#: The text of a block, as far as the rows before tell its length; and the most, whatever they told.
BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 23, 1 << 28
_ENDS = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")


class CsvText:
    """The text of a file, which counts what is taken of it: a small compressed file may hold a line without an end.

    It is in UTF-8, as which that of a file in UTF-16 is read.

    Args:
        path: of the file; one that ends in .gz is compressed.
        dialect: how it is laid out; None leaves all lines in.
        most: the most bytes that are taken before ``taken`` is set to 0 again.

    Attributes:
        taken: bytes that were read.
    """

    def __init__(self, path: Path, dialect: Dialect | None = None, most: float | None = None) -> None:
        self.path, self.taken = path, 0
        self.most = MOST_BLOCK_BYTES if most is None else most
        self.size = max(1, path.stat().st_size)
        self.file = path.open("rb")
        self.text: Any = gzip.GzipFile(fileobj=self.file) if path.suffix.lower() == ".gz" else self.file
        self._again, self._first_again = 0, 0
        self._left_out = set(dialect.left_out) if dialect else set()
        self._top = dialect.top if dialect else ()
        self._is_top = _one_of(self._top)
        self._rest, self._lines, self._header_seen = b"", 0, False
        self._begun = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def read(self, size: int = -1) -> bytes:
        if not self._top and not self._left_out:
            return self._take(size)
        while part := self._take(size):
            data = self._rest + part
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1  # whole lines, and no half of \r\n
            whole, self._rest = data[:end], data[end:]
            if kept := self._without(whole):
                return kept
        whole, self._rest = self._rest, b""
        return self._without(whole)

    def told(self) -> list[str]:
        """A sentence on the lines that repeat the header, of what has been read; none without such lines."""
        if not self._again:
            return []
        return [
            f"lines that repeat the header are left out: {self._again}, the first of them line {self._first_again}."
        ]

    def _take(self, size: int) -> bytes:
        found: bytes = self.text.read(size if 0 < size < BLOCK_BYTES else BLOCK_BYTES)
        if not self._begun:
            self._begun = True
            if found[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                self._decoder = codecs.getincrementaldecoder("utf-16")()
        self.taken += len(found)
        if self.taken > self.most:
            raise ValueError(
                f"{shown(self.path)} holds rows of more than {MOST_BLOCK_BYTES >> 20} MiB of text together, expected less. Try "
                "leaving out columns of long texts, or a Parquet file."
            )
        if self._decoder is not None:
            text = self._decoder.decode(found, final=not found)
            return text.encode() if text or not found else self._take(size)
        return found

    def _without(self, lines: bytes) -> bytes:
        """Whole lines without those that are no rows."""
        if not self._left_out and not any(one in lines for one in self._top):
            self._lines += lines.count(b"\n")
            return lines
        kept = []
        for line in filter(None, _ENDS.split(lines)):
            if self._lines in self._left_out:
                self._left_out.discard(self._lines)
            elif self._header_seen and self._is_top.fullmatch(line):
                self._again += 1
                self._first_again = self._first_again or self._lines + 1
            else:
                self._header_seen = self._header_seen or bool(line.strip())
                kept.append(line)
            self._lines += 1
        return b"".join(kept)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    @property
    def share(self) -> float:
        """The share of the file that has been read."""
        return self.file.tell() / self.size

    def __enter__(self) -> CsvText:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()


def _one_of(lines: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """What a line is that is one of some lines, also with a mark of UTF-8 before it."""
    return re.compile(rb"(?:\xef\xbb\xbf)?(?:" + b"|".join(map(re.escape, lines)) + rb")[\r\n]*")


def numbered_lines(text: CsvText) -> Iterator[tuple[int, str]]:
    """The lines of a text with their ends, and their numbers from 1."""
    rest, number = b"", 0
    while part := text.read():
        *whole, rest = _ENDS.split(rest + part)
        for line in whole:
            number += 1
            yield number, line.decode("utf-8", "replace")
        text.taken = 0 if whole else text.taken
    if rest:
        yield number + 1, rest.decode("utf-8", "replace")


def header_of(text: Any, dialect: Dialect) -> list[str]:
    """The names in a CSV file's header, read by itself: pandas renames columns of the same name and those without one."""
    first: pd.DataFrame = pd.read_csv(text, header=None, nrows=1, dtype=str, keep_default_na=False, **dialect.options)
    return [*([""] if dialect.row_names else []), *first.iloc[0].tolist()]
