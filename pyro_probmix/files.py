"""The one way in which files are written: whole or not at all, by one process at a time, past kills and full disks.

A file is made in a private folder beside its target, flushed to the disk and renamed. Several files that belong together are
made so too; then the private folder is renamed once, which is the moment from which the new files are the ones, and they are
moved to their places. A command that is killed before that moment leaves what was there; one that is killed after it leaves
the move to be finished by the next command that writes there, or reads through :func:`reading`.
"""

from __future__ import annotations

__all__ = ["UnwritableError", "reading", "write_file", "write_files"]

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_probmix.names import printable, shown
from pyro_probmix.unfinished import (
    FILES,
    MANIFEST,
    Save,
    alone,
    finish,
    flush,
    flush_file,
    place_of,
    prepare,
    private_folder,
    save_file,
    settle,
    settle_locked,
)

#: Files by their names, or a function that writes them to an empty folder.
Files = Mapping[str, Save] | Callable[[Path], object]


class UnwritableError(OSError, ValueError):
    """A file could not be written; the message is one sentence with what to try, and what was there before stays.

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
    target = Path(path)
    with _sentence(target, advice, errors):
        if not target.name:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        settle(target.parent)
        with private_folder(target.parent) as private:
            save_file(private / target.name, save)
            if new:
                _link(private / target.name, target)
            else:
                os.replace(private / target.name, target)
            flush(target.parent)
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
    target = Path(folder)
    with _sentence(target, advice, errors), _made(target):
        settle(target)
        with private_folder(target) as private:
            names = _fill(private / FILES, files)
            with alone(target):
                settle_locked(target)
                manifest = {"files": names, "stale": sorted(set(stale()) - set(names))}
                save_file(private / MANIFEST, lambda path: path.write_text(json.dumps(manifest), "utf-8"))
                prepare(target, names, manifest["stale"])
                committed = target / private.name.replace(".partial-", ".commit-")
                os.rename(private, committed)  # from here on the new files are the ones
                flush(target)
                finish(target, committed)
    return target


@contextmanager
def reading(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Keeps those that write to a folder by :func:`write_files` away while its files are read.

    What a killed command left unfinished there is finished first.

    Raises:
        OSError: if that cannot be done, or the folder not be read.
    """
    path = Path(folder)
    settle(path)
    with alone(path, shared=True):
        yield path


@contextmanager
def _sentence(path: Path, advice: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Errors of the system as one sentence."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *errors)):
            raise
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
