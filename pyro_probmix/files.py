"""The one way in which files are written: whole or not at all, by one process at a time, past kills and full disks.

A file is made in a private folder beside its target, flushed to the disk and renamed. Several files that belong together are
made so too; then the private folder is renamed once, which is the moment from which the new files are the ones, and they are
moved to their places. A command that is killed before that moment leaves what was there; one that is killed after it leaves
the move to be finished by the next command that writes there, or reads through :func:`reading`. Only what was committed in
the very folder is finished, by its inode numbers: a copy, or what an archive brings, is never acted on.
"""

from __future__ import annotations

__all__ = ["UnwritableError", "reading", "regular", "write_file", "write_files"]

import errno
import json
import os
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_probmix.interrupts import held_back, let_through
from pyro_probmix.moves import (
    FILES,
    MANIFEST,
    UnfinishedError,
    expect_replaceable,
    finish,
    flush,
    flush_file,
    inodes_of,
    place_of,
    prepare,
)
from pyro_probmix.names import printable, shown
from pyro_probmix.unfinished import Save, alone, committed_in, private_folder, save_file, settle, settle_locked

#: Files by their names, or a function that writes them to an empty folder.
Files = Mapping[str, Save] | Callable[[Path], object]


class UnwritableError(OSError, ValueError):
    """A file could not be written; the message is one sentence with what to try.

    What was there before stays, unless the message says that the new files are written.

    Attributes:
        reason: what the system said.
    """

    reason = ""

    def __str__(self) -> str:
        return str(self.args[-1])


def write_file(
    path: str | os.PathLike[str],
    save: Save,
    *,
    advice: str = "Try another path.",
    new: bool = False,
    errors: tuple[type[Exception], ...] = (),
) -> Path:
    """Writes a file whole or not at all; a former one of that name is replaced, a link of that name too.

    Args:
        path: of the file, in a folder that is there.
        save: writes the content to the path that it is given, whose name is the file's own.
        advice: what to try if the file cannot be written, a sentence.
        new: whether a file of that name that is there already stays, and this one is dropped.
        errors: further exceptions of ``save`` that say that the file could not be written.

    Returns:
        the path.

    Raises:
        UnwritableError: says why the file could not be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_file(f"{folder}/hello.txt", lambda path: path.write_text("hello"))
        ...     path.read_text()
        'hello'
    """
    target = _path(path, advice)
    with _sentence(target, advice, errors):
        if not target.name:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        expect_replaceable(target)
        settle(target.parent, [target.name])
        with held_back() as interrupts, private_folder(target.parent) as private:
            save_file(private / target.name, save)
            interrupts.deliver()
            if new:
                _link(private / target.name, target)
            else:
                os.replace(private / target.name, target)
            interrupts.note = f"{shown(target)} is written"
            _flush(target)
    return target


def write_files(
    folder: str | os.PathLike[str],
    files: Files,
    *,
    stale: Callable[[], Iterable[str]] = tuple,
    advice: str = "Try another folder.",
    errors: tuple[type[Exception], ...] = (),
) -> Path:
    """Writes files of a folder that belong together: all of them, or none.

    Two that write into one folder at the same time do so one after the other.

    Args:
        folder: made if it is not there.
        files: names in the folder, with ``/`` for a folder in it, and what writes each one's content to a path; or one
            function, which writes all of them to an empty folder.
        stale: the names of files of the folder that are removed with this, asked for once no other command writes there.
        advice: what to try if the files cannot be written, a sentence.
        errors: further exceptions of what writes a content that say that it could not be written.

    Returns:
        the folder's path.

    Raises:
        UnwritableError: says why the files could not be written.
    """
    target = _path(folder, advice)
    with _sentence(target, advice, errors), held_back() as interrupts, _made(target):
        with let_through():
            settle(target, files if isinstance(files, Mapping) else ())
        with private_folder(target) as private:
            names = _fill(private / FILES, files)
            with alone(target):
                old = _settled(target, names, stale)
                manifest = {"files": names, "stale": old, "inodes": inodes_of(private)}
                save_file(private / MANIFEST, lambda path: path.write_text(json.dumps(manifest), "utf-8"))
                interrupts.deliver()
                prepare(target, private, names, old)
                committed = target / private.name.replace(".partial-", ".commit-")
                os.rename(private, committed)  # from here on the new files are the ones
                interrupts.note = f"{shown(target)} is written"
                _flush(committed)
                finish(target, committed, names, old)
    return target


def _settled(folder: Path, names: list[str], stale: Callable[[], Iterable[str]]) -> list[str]:
    """The names of old files, once all that is unfinished is, except what has nothing to do with them or the new ones."""
    settle_locked(folder, names)
    old = sorted(set(stale()) - set(names))
    for reason in settle_locked(folder, [*names, *old]).values():
        warnings.warn(reason, stacklevel=4)
    return old


@contextmanager
def reading(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> Iterator[Path]:
    """Keeps those that write to a folder by :func:`write_files` away while its files are read.

    What a killed command left unfinished there is finished first.

    Args:
        folder: which.
        names: of the files that are going to be read, all by default.

    Raises:
        UnfinishedError: if that cannot be done.
        OSError: if the folder cannot be read.
    """
    path = Path(folder)
    while True:
        left = settle(path, names)
        with alone(path, shared=True):
            if committed_in(path) <= left.keys():  # else a command was killed in between
                yield path
                return


def regular(path: Path) -> Path:
    """The path of a file that is there; raises OSError for a pipe or a device, which would be waited for without an end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return path


def _path(path: str | bytes | os.PathLike[str], advice: str) -> Path:
    """A path as the system knows it."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{shown(path)} is a {type(path).__name__}, expected a path. {advice}") from None
    try:
        if "\0" in text:
            raise ValueError
        os.fsencode(text)
    except ValueError:
        text = f"{shown(text)} could not be written, expected a path of characters that a name can have. {advice}"
        raise UnwritableError(errno.EINVAL, text) from None
    return Path(text)


def _flush(path: Path) -> None:
    """Flushes the name of a path that is in its place."""
    try:
        flush(path.parent)
    except OSError as error:
        raise UnfinishedError(
            f"{shown(path)} is written, but a power failure may still lose it ({error.strerror}), expected a disk that keeps "
            "it. Try the command again, or another disk."
        ) from None


@contextmanager
def _sentence(path: Path, advice: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Errors of the system as one sentence."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *errors)):
            raise
        if isinstance(error, UnfinishedError):  # says itself what is there
            raise UnwritableError(error.errno, str(error)) from None
        said = error.reason if isinstance(error, UnwritableError) else getattr(error, "strerror", None)
        reason = said or printable(error) or type(error).__name__
        text = f"{shown(path)} could not be written ({reason}); what was there before stays. {advice}"
        unwritable = UnwritableError(getattr(error, "errno", None) or errno.EIO, text)
        unwritable.reason = reason
        raise unwritable from None


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder that is there, made with those above it; those that were made are removed after a failure, if empty."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in missing:
                path.rmdir()
        raise


def _fill(folder: Path, files: Files) -> list[str]:
    """Writes files to a new folder, flushes them to the disk, and returns their names."""
    folder.mkdir()
    if isinstance(files, Mapping):
        for name, save in files.items():
            place_of(folder, name).parent.mkdir(parents=True, exist_ok=True)
            save_file(folder / name, save)
        return list(files)
    with let_through():
        files(folder)
        found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        for path in found:
            flush_file(path)
    return [path.relative_to(folder).as_posix() for path in found]


def _link(path: Path, target: Path) -> None:
    """Gives a file a second name, unless that is taken."""
    try:
        os.link(path, target)
    except FileExistsError:
        pass
    except OSError:  # not every file system has links
        if not target.exists():
            os.replace(path, target)
