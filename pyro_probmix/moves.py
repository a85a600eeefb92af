"""Committed files on their way from a private folder to their places in the folder above it."""

from __future__ import annotations

__all__ = [
    "FILES",
    "MANIFEST",
    "NO_LOCKS",
    "UnfinishedError",
    "expect_replaceable",
    "finish",
    "flush",
    "flush_file",
    "inodes_of",
    "manifest_of",
    "place_of",
    "prepare",
]

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pyro_probmix.names import shown

#: In a private folder: the names of the files that are to come and to go, and the folder of the former.
MANIFEST, FILES = "manifest.json", "files"
#: What a file system says that has no locks, or none of folders, as NFS.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


class UnfinishedError(OSError, ValueError):
    """Files that are written, and from now on the ones, could not be put in their places; the message is one sentence."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EIO, text)

    def __str__(self) -> str:
        return str(self.args[-1])


def manifest_of(committed: Path) -> tuple[list[str], list[str]] | None:
    """The names of the files that come and go; None unless the very folder was committed here, as no archive can bring it."""
    try:
        if not stat.S_ISREG((committed / MANIFEST).lstat().st_mode):
            return None
        manifest = json.loads((committed / MANIFEST).read_text("utf-8"))
        if manifest["inodes"] != inodes_of(committed):
            return None
        return [*map(str, manifest["files"])], [*map(str, manifest["stale"])]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def inodes_of(private: Path) -> list[int]:
    """What a folder keeps when it is renamed, and no copy of it has.

    The number of the device is not among it, which the next start of the machine may change.

    Raises:
        OSError: unless both are folders, and not links to some.
    """
    numbers = []
    for path in (private, private / FILES):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ENOTDIR, f"{shown(path)} is no folder")
        numbers.append(status.st_ino)
    return numbers


def prepare(folder: Path, private: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Makes the folders of files, and raises OSError where a file could not be moved to its place, or an old one not go."""
    device = folder.stat().st_dev
    for name in names:
        place = place_of(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if _source(private, name) is None:
            raise OSError(errno.ENOENT, f"{shown(name)} was not made")
        expect_replaceable(place)
        with suppress(FileNotFoundError):  # the system compares the two folders before it misses the file
            os.rename(private / "none", place.parent / private.name)
        if place.parent.stat().st_dev != device:
            raise OSError(errno.EXDEV, f"{shown(place.parent)} is on another disk or mount than the folder")
    for parent in {place_of(folder, name).parent for name in (*names, *stale)}:
        if parent.exists() and not os.access(parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def expect_replaceable(place: Path) -> None:
    """Raises OSError if what is at a place, or what a link there leads to, is not to be replaced by a file, or cannot be."""
    try:
        mode, followed = place.lstat().st_mode, place.stat().st_mode
    except OSError:  # nothing is there, or a link to nothing
        return
    if stat.S_ISDIR(followed):
        raise OSError(errno.EISDIR, f"{shown(place.name)} is a folder")
    if not stat.S_ISREG(followed):  # a service's pipe, or the system's /dev/null
        raise OSError(errno.EEXIST, f"{shown(place.name)} is a pipe or a device, expected a file")
    if not stat.S_ISREG(mode):
        return
    try:
        os.close(os.open(place, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)))
    except OSError as error:  # what may not be written to may be replaced, but not what the system keeps
        if error.errno == errno.EPERM:
            raise OSError(errno.EPERM, f"{shown(place.name)} may not be changed") from None


def finish(folder: Path, committed: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Moves committed files to their places; as often as it takes.

    Raises:
        UnfinishedError: names what stands in the way of a file; the others are moved.
    """
    obstacle: UnfinishedError | None = None
    for name in names:
        try:
            place, source = place_of(folder, name), _source(committed, name)
            if source is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, place)
                flush(place.parent)
        except OSError as error:
            obstacle = obstacle or UnfinishedError(
                f"the new {shown(folder / name)} is written, in {shown(committed.name)}, but cannot be put in its place "
                f"({error.strerror}), expected a free one. Try moving away what is there, and the command again."
            )
    if obstacle is not None:
        raise obstacle
    for name in stale:
        with suppress(OSError):  # the new files are the ones, whatever somebody has done to an old one since
            place = place_of(folder, name)
            place.unlink(missing_ok=True)
            for parent in place.parents[: len(PurePosixPath(name).parts) - 1]:
                parent.rmdir()  # if it is empty now
    # Under a name that is removed at any later time, since its manifest may be gone before the rest.
    done = folder / f".partial-{secrets.token_hex(16)}"
    try:
        flush(folder)
        os.rename(committed, done)
    except OSError as error:
        raise UnfinishedError(
            f"the new files are in their places in {shown(folder)}, but {shown(committed.name)} cannot be removed "
            f"({error.strerror}), expected a folder that can be written to. Try the command again once it can."
        ) from None
    shutil.rmtree(done, ignore_errors=True)


def _source(private: Path, name: str) -> Path | None:
    """A file of a private folder, None if it is not there; raises OSError if a link or something else is in its place."""
    path = private
    parts = (FILES, *PurePosixPath(name).parts)
    for k, part in enumerate(parts):
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return None
        if not (stat.S_ISREG(mode) if k == len(parts) - 1 else stat.S_ISDIR(mode)):
            raise OSError(errno.EPERM, f"{shown(path)} is neither a file nor a folder of one")
    return path


def place_of(folder: Path, name: str) -> Path:
    """The path of a file in a folder; raises OSError for a name that leads out of it."""
    if "\0" in name:
        raise OSError(errno.EINVAL, f"{shown(name)} has a null character")
    parts = PurePosixPath(name).parts
    place = folder.joinpath(*parts)
    outside = not parts or PurePosixPath(name).is_absolute() or ".." in parts
    if outside or any((folder.joinpath(*parts[:k])).is_symlink() for k in range(1, len(parts))):
        raise OSError(errno.EPERM, f"{shown(name)} leads out of the folder")
    return place


def flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(folder: Path) -> None:
    """Flushes the names in a folder to the disk, where the system knows how."""
    if not hasattr(os, "O_DIRECTORY"):  # as on Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
