"""Files on their way to their places: private folders, locks, and what a killed command left, which the next one finishes."""

from __future__ import annotations

__all__ = [
    "FILES",
    "MANIFEST",
    "UNFINISHED",
    "Save",
    "UnfinishedError",
    "alone",
    "committed_in",
    "finish",
    "flush",
    "flush_file",
    "inodes_of",
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
from collections.abc import Callable, Collection, Iterable, Iterator
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
#: How often a private folder is made anew, if another command takes it for a left-over one.
_TRIES = 20


class UnfinishedError(OSError, ValueError):
    """Files that are written, and from now on the ones, could not be put in their places; the message is one sentence."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EIO, text)

    def __str__(self) -> str:
        return str(self.args[-1])


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


def settle(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> set[str]:
    """Finishes what killed commands had committed in a folder, and removes what they had not.

    Waits for others only where something is committed, so that one that reads several folders never waits for itself.

    Args:
        folder: which.
        names: of the files that are going to be read or written, all by default; an obstacle of others is none.

    Returns:
        the names of the committed folders that are left, since they have nothing to do with the names.

    Raises:
        UnfinishedError: if something committed cannot be finished.
        OSError: if the folder cannot be read.
    """
    path = Path(folder)
    for name in os.listdir(path):
        if _PARTIAL.fullmatch(name) and _is_ours(path / name):
            _remove_if_dead(path / name)
    if not committed_in(path):
        return set()
    with alone(path):
        return settle_locked(path, names)


def settle_locked(folder: Path, names: Collection[str] | None = None) -> set[str]:
    return {name for name in sorted(committed_in(folder)) if not _completed(folder, folder / name, names)}


def committed_in(folder: Path) -> set[str]:
    """The names of the folders of committed files."""
    return {name for name in os.listdir(folder) if _COMMITTED.fullmatch(name)}


def _completed(folder: Path, committed: Path, names: Collection[str] | None) -> bool:
    """Finishes what was committed, unless it was not here and has nothing to do with the names."""
    try:
        status = committed.lstat()
    except FileNotFoundError:
        return True
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        around = folder.stat()
        if around.st_mode & stat.S_ISVTX and around.st_uid != status.st_uid:
            return False  # as in /tmp, where nobody replaces another's files
        raise UnfinishedError(
            f"the files in {shown(committed)}, which belong into the folder above it, were left unfinished by another user, "
            "expected to be put in their places by that one. Try again after that user's next command there, or remove it."
        )
    manifest = _manifest(committed)
    if manifest is None:
        if names is not None:
            return False
        raise UnfinishedError(
            f"{shown(committed)} is damaged or was copied or unpacked from elsewhere, expected files that were committed in "
            "this folder. Try removing it, or the folder that this one is a copy of."
        )
    try:
        finish(folder, committed, *manifest)
    except UnfinishedError:
        if names is None or not {*names}.isdisjoint({*manifest[0], *manifest[1]}):
            raise
        return False
    return True


def _manifest(committed: Path) -> tuple[list[str], list[str]] | None:
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


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that nobody else can write to, removed at the end; locked as long as its maker lives."""
    for _ in range(_TRIES):
        private = parent / f".partial-{secrets.token_hex(16)}"
        private.mkdir(mode=0o700)
        try:
            private.chmod(0o700)  # whatever the umask is
            descriptor = _try_lock(private)
        except FileNotFoundError:  # another command took it for a left-over one
            continue
        except BaseException:
            with suppress(OSError):
                private.rmdir()
            raise
        if descriptor is not None:
            break
        with suppress(OSError):
            private.rmdir()
    else:
        raise OSError(errno.EBUSY, "other commands removed or locked each new folder in it")
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _remove_if_dead(private: Path) -> None:
    """Removes a private folder whose maker is dead, as far as can be known."""
    try:
        descriptor = _try_lock(private)
    except OSError:
        return
    if descriptor is not None and descriptor >= 0:
        shutil.rmtree(private, ignore_errors=True)
        os.close(descriptor)


def _try_lock(folder: Path) -> int | None:
    """The descriptor of a folder that is locked now, -1 where there are no locks, None if it is another's or gone."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        return -1
    return descriptor


def _is_ours(path: Path) -> bool:
    """Whether it is a folder of this user, and not a link to one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def prepare(folder: Path, private: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Makes the folders of files, and raises OSError where a file could not be moved to its place, or an old one not go."""
    device = folder.stat().st_dev
    for name in names:
        place = place_of(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if _source(private, name) is None:
            raise OSError(errno.ENOENT, f"{shown(name)} was not made")
        _expect_replaceable(place, name)
        with suppress(FileNotFoundError):  # the system compares the two folders before it misses the file
            os.rename(private / "none", place.parent / private.name)
        if place.parent.stat().st_dev != device:
            raise OSError(errno.EXDEV, f"{shown(place.parent)} is on another disk or mount than the folder")
    for parent in {place_of(folder, name).parent for name in (*names, *stale)}:
        if parent.exists() and not os.access(parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _expect_replaceable(place: Path, name: str) -> None:
    """Raises OSError if what is at a place can never be replaced by a file."""
    try:
        status = place.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, f"{shown(name)} is a folder")
    if not stat.S_ISREG(status.st_mode):
        return
    try:
        os.close(os.open(place, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)))
    except (
        OSError
    ) as error:  # a file that may not be written to may be replaced, but not one that is kept by the system
        if error.errno == errno.EPERM:
            raise OSError(errno.EPERM, f"{shown(name)} may not be changed") from None


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
