"""Whether a file is still the one that was opened."""

from __future__ import annotations

__all__ = ["Stamp"]

from pathlib import Path


class Stamp:
    """A file's size, time and number on the disk, which change when it is written or another takes its place.

    Args:
        path: of the file.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = self._now()

    def _now(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError as error:
            reason = "no file" if isinstance(error, FileNotFoundError) else f"{error.strerror}:"
            raise ValueError(f"{reason} {self.path}. Try the path of a file that can be read.") from None
        return status.st_size, status.st_mtime_ns, status.st_ino

    def __str__(self) -> str:
        size, time, _ = self._state
        return f"{self.path}, {size} bytes, written at {time} ns"

    def check(self, stream: str) -> None:
        """Raises ValueError if the file has changed."""
        if self._now() != self._state:
            raise ValueError(
                f"{self.path} has changed since the stream was made, expected the same rows in every pass. "
                f"Try a new {stream}, or a copy that nobody writes to."
            )
