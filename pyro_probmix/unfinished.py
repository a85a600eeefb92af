"""Files on their way to their places: private folders, locks, and what a killed command left, which the next one finishes."""

from __future__ import annotations

__all__ = [
    "FILES",
    "MANIFEST",
    "UNFINISHED",
    "Save",
    "alone",
    "finish",
    "flush",
    "flush_file",
    "place_of",
    "prepare",
    "private_folder",
    "save_file",
    "settle",
    "settle_locked",
]

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pyro_probmix.names import shown

fcntl: Any
try:
    import fcntl
except ImportError:  # no such locks on Windows: two commands at once are not kept apart there
    fcntl = None

#: Writes a file's content to a path; the file is there, empty.
Save = Callable[[Path], object]

#: How the names begin of folders with files in the making, and of those with whole ones on their way to their places.
UNFINISHED = (".partial-", ".commit-")
_PARTIAL, _COMMITTED = (re.compile(re.escape(start) + "[0-9a-f]{32}") for start in UNFINISHED)
#: In such a folder: the names of the files that are to come and to go, and the folder of the former.
MANIFEST, FILES = "manifest.json", "files"
#: What a file system says that has no locks, or none of folders, as NFS.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


@contextmanager
def alone(folder: str | os.PathLike[str], shared: bool = False) -> Iterator[None]:
    """Waits for others that are alone in a folder or write several files to it; for its readers too, unless shared."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def settle(folder: str | os.PathLike[str]) -> None:
    """Finishes what killed commands had committed in a folder, and removes what they had not.

    Raises:
        OSError: if that cannot be done, or the folder not be read.
    """
    if any(_PARTIAL.fullmatch(name) or _COMMITTED.fullmatch(name) for name in os.listdir(folder)):
        with alone(folder):
            settle_locked(Path(folder))


def settle_locked(folder: Path) -> None:
    for name in sorted(os.listdir(folder)):
        if _COMMITTED.fullmatch(name) and _is_ours(folder / name):
            finish(folder, folder / name)
        elif _PARTIAL.fullmatch(name) and _is_ours(folder / name):
            descriptor = _try_lock(folder / name)
            if descriptor is not None and descriptor >= 0:  # its maker is dead
                shutil.rmtree(folder / name, ignore_errors=True)
                os.close(descriptor)


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that nobody else can write to, removed at the end; locked as long as its maker lives."""
    while True:
        private = parent / f".partial-{secrets.token_hex(16)}"
        private.mkdir(mode=0o700)
        descriptor = _try_lock(private)
        if descriptor is not None:
            break  # else another command took it for a left-over one
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _try_lock(folder: Path) -> int | None:
    """The descriptor of a folder that is locked now, -1 where there are no locks, None if it is another's or gone."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError as error:
        os.close(descriptor)
        return -1 if error.errno in _NO_LOCKS else None
    return descriptor


def _is_ours(path: Path) -> bool:
    """Whether it is a folder of this user, and not a link to one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def prepare(folder: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Makes the folders of files, and raises OSError where a file could not be moved to its place, or an old one not go."""
    for name in names:
        place = place_of(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            raise OSError(errno.EISDIR, f"{shown(name)} is a folder")
    for parent in {place_of(folder, name).parent for name in (*names, *stale)}:
        if parent.exists() and not os.access(parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def finish(folder: Path, committed: Path) -> None:
    """Moves committed files to their places; as often as it takes."""
    try:
        manifest = json.loads((committed / MANIFEST).read_text("utf-8"))
        names, stale = [*map(str, manifest["files"])], [*map(str, manifest["stale"])]
    except (ValueError, KeyError, TypeError):
        raise OSError(
            errno.EIO, f"{shown(committed)} is damaged, expected files on their way to their places"
        ) from None
    for name in names:
        place = place_of(folder, name)
        if (committed / FILES / name).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(committed / FILES / name, place)
            flush(place.parent)
    for name in stale:
        place = place_of(folder, name)
        with suppress(OSError):  # the new files are the ones, whatever somebody has done to an old one since
            place.unlink(missing_ok=True)
            for parent in place.parents[: len(PurePosixPath(name).parts) - 1]:
                parent.rmdir()  # if it is empty now
    flush(folder)
    # Under a name that is removed at any later time, since its manifest may be gone before the rest.
    done = folder / f".partial-{secrets.token_hex(16)}"
    os.rename(committed, done)
    shutil.rmtree(done, ignore_errors=True)


def place_of(folder: Path, name: str) -> Path:
    """The path of a file in a folder; raises OSError for a name that leads out of it."""
    parts = PurePosixPath(name).parts
    place = folder.joinpath(*parts)
    outside = not parts or PurePosixPath(name).is_absolute() or ".." in parts
    if outside or any((folder.joinpath(*parts[:k])).is_symlink() for k in range(1, len(parts))):
        raise OSError(errno.EPERM, f"{shown(name)} leads out of the folder")
    return place


def save_file(path: Path, save: Save) -> None:
    """Makes a file, with the mode that the umask gives, lets it be written, and flushes it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    save(path)
    if stat.S_IMODE(path.stat().st_mode) != mode:  # replaced by what wrote it
        path.chmod(mode)
    flush_file(path)


def flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(folder: Path) -> None:
    """Flushes the names in a folder to the disk, where the system knows how."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
