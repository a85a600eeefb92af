"""Folders of unfinished files: private ones, their locks, and what a killed command left, which the next one finishes."""

from __future__ import annotations

__all__ = [
    "UNFINISHED",
    "Save",
    "alone",
    "committed_in",
    "private_folder",
    "save_file",
    "settle",
    "settle_locked",
]

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyro_probmix.interrupts import held_back, let_through
from pyro_probmix.moves import NO_LOCKS, UnfinishedError, finish, flush_file, manifest_of
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
#: How often a private folder is made anew, if another command takes it for a left-over one.
_TRIES = 20


@contextmanager
def alone(folder: str | os.PathLike[str], shared: bool = False) -> Iterator[None]:
    """Waits for others that are alone in a folder or write several files to it; for its readers too, unless shared."""
    if fcntl is None:
        yield
        return
    lock = _Lock([os.open(folder, os.O_RDONLY | os.O_DIRECTORY)])
    try:
        try:
            with let_through():
                fcntl.flock(lock[0], fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        lock.release()


class _Lock(list[int]):
    """The descriptor of a locked folder, if there is one; released at the latest when nobody knows it any longer."""

    def release(self) -> None:
        while self:
            os.close(self.pop())

    def __del__(self) -> None:
        self.release()


def settle(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, str]:
    """Finishes what killed commands had committed in a folder, and removes what they had not.

    Waits for others only where something is committed, so that one that reads several folders never waits for itself.

    Args:
        folder: which.
        names: of the files that are going to be read or written, all by default; an obstacle of others is none.

    Returns:
        the committed folders that are left, since they have nothing to do with the names: name -> why, a sentence.

    Raises:
        UnfinishedError: if something committed cannot be finished.
        OSError: if the folder cannot be read.
    """
    path = Path(folder)
    for name in os.listdir(path):
        if _PARTIAL.fullmatch(name) and _is_ours(path / name):
            _remove_if_dead(path / name)
    if not committed_in(path):
        return {}
    with alone(path):
        return settle_locked(path, names)


def settle_locked(folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
    found = {name: _obstacle(folder, folder / name, names) for name in sorted(committed_in(folder))}
    return {name: reason for name, reason in found.items() if reason is not None}


def committed_in(folder: Path) -> set[str]:
    """The names of the folders of committed files."""
    return {name for name in os.listdir(folder) if _COMMITTED.fullmatch(name)}


def _obstacle(folder: Path, committed: Path, names: Collection[str] | None) -> str | None:
    """Finishes what was committed; why not, if it has nothing to do with the names."""
    try:
        status = committed.lstat()
    except FileNotFoundError:
        return None
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        error = UnfinishedError(
            f"the files in {shown(committed)}, which belong into the folder above it, were left unfinished by another user, "
            "expected to be put in their places by that one. Try again after that user's next command there, or remove it."
        )
        around = folder.stat()
        if around.st_mode & stat.S_ISVTX and around.st_uid != status.st_uid:
            return str(error)  # as in /tmp, where nobody replaces another's files
        raise error
    manifest = manifest_of(committed)
    if manifest is None:
        error = UnfinishedError(
            f"{shown(committed)} is damaged or was copied or unpacked from elsewhere, expected files that were committed in "
            "this folder. Try removing it, or the folder that this one is a copy of."
        )
        if names is None:
            raise error
        return str(error)  # what it holds is never put in a place
    try:
        finish(folder, committed, *manifest)
    except UnfinishedError as error:
        if names is None or not {*names}.isdisjoint({*manifest[0], *manifest[1]}):
            raise
        return str(error)
    return None


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that nobody else can write to, removed at the end; locked as long as its maker lives.

    Within :func:`~pyro_probmix.interrupts.held_back`, so that no Ctrl-C comes between making and removing it.
    """
    for _ in range(_TRIES):
        private = parent / f".partial-{secrets.token_hex(16)}"
        private.mkdir(mode=0o700)
        try:
            private.chmod(0o700)  # whatever the umask is
            lock = _try_lock(private)
        except FileNotFoundError:  # another command took it for a left-over one
            continue
        except BaseException:
            with suppress(OSError):
                private.rmdir()
            raise
        if lock is not None:
            break
        with suppress(OSError):
            private.rmdir()
    else:
        raise OSError(errno.EBUSY, "other commands removed or locked each new folder in it")
    try:
        yield private
    finally:
        try:
            shutil.rmtree(private, ignore_errors=True)
        finally:
            lock.release()


def _remove_if_dead(private: Path) -> None:
    """Removes a private folder whose maker is dead, as far as can be known."""
    with held_back():
        try:
            lock = _try_lock(private)
        except OSError:
            return
        if lock:
            shutil.rmtree(private, ignore_errors=True)
            lock.release()


def _try_lock(folder: Path) -> _Lock | None:
    """The lock of a folder, an empty one where there are no locks, None if it is another's or gone."""
    if fcntl is None:
        return _Lock()
    try:
        lock = _Lock([os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)])
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except (BlockingIOError, FileNotFoundError):
        lock.release()
        return None
    except OSError as error:
        lock.release()
        if error.errno not in NO_LOCKS:
            raise
        return _Lock()
    return lock


def _is_ours(path: Path) -> bool:
    """Whether it is a folder of this user, and not a link to one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def save_file(path: Path, save: Save) -> None:
    """Makes a file, with the mode that the umask gives, lets it be written, and flushes it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    with let_through():
        save(path)
        if stat.S_IMODE(path.stat().st_mode) != mode:  # replaced by what wrote it
            path.chmod(mode)
        flush_file(path)
