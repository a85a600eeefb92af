"""The one way in which files are written: whole or not at all, by one process at a time, past kills and full disks.

A file is made in a private folder beside its target, flushed to the disk and renamed. Several files that belong together are
made so too; then the private folder is renamed once, which is the moment from which the new files are the ones, and they are
moved to their places. A command that is killed before that moment leaves what was there; one that is killed after it leaves
the move to be finished by the next command that writes there, or reads through :func:`reading`.
"""

from __future__ import annotations

__all__ = [
    "UNFINISHED",
    "Save",
    "UnwritableError",
    "alone",
    "printable",
    "reading",
    "settle",
    "shown",
    "write_file",
    "write_files",
]

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # no such locks on Windows: two commands at once are not kept apart there
    fcntl = None

#: Writes a file's content to a path; the file is there, empty.
Save = Callable[[Path], object]
#: Files by their names, or a function that writes them to an empty folder.
Files = Mapping[str, Save] | Callable[[Path], object]

#: How the names begin of folders with files in the making, and of those with whole ones on their way to their places.
UNFINISHED = (".partial-", ".commit-")
_PARTIAL, _COMMITTED = (re.compile(re.escape(start) + "[0-9a-f]{32}") for start in UNFINISHED)
_MANIFEST = "manifest.json"
_FILES = "files"
#: What a file system says that has no locks, or none of folders, as NFS.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_LONGEST = 120
_WITHOUT_SPACES = re.compile(r"\S{250,}")


class UnwritableError(OSError, ValueError):
    """A file could not be written; the message is one sentence with what to try, and what was there before stays.

    Attributes:
        reason: what the system said.
    """

    reason = ""

    def __str__(self) -> str:
        return str(self.args[-1])


def shown(value: object) -> str:
    """A name or value from outside for a message: names quoted, no control characters, and a long one cut in its middle.

    Example:
        >>> print(shown("red\\x1b[31m"), shown(b"=" * 10**6)[:8], len(shown(10**200)))
        'red\\x1b[31m' b'====== 123
    """
    if isinstance(value, (str, os.PathLike)):
        return repr(_cut(str(os.fspath(value))))
    return _cut(printable(repr(value)))


def printable(text: object) -> str:
    """A text in one line for a terminal or a page: control characters spelled out, and what nobody would read cut.

    Example:
        >>> printable("one\\ntwo \\x1b[31m")
        'one two \\\\x1b[31m'
    """
    line = " ".join(str(text).splitlines())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return _WITHOUT_SPACES.sub(lambda found: _cut(found[0]), line)


def _cut(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


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
        settle(target.parent)
        with _private_folder(target.parent) as private:
            _save(private / target.name, save)
            if new:
                _link(private / target.name, target)
            else:
                os.replace(private / target.name, target)
            _flush(target.parent)
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
        with _private_folder(target) as private:
            names = _fill(private / _FILES, files)
            with alone(target):
                _settle_locked(target)
                manifest = {"files": names, "stale": sorted(set(stale()) - set(names))}
                _save(private / _MANIFEST, lambda path: path.write_text(json.dumps(manifest), "utf-8"))
                _prepare(target, names, manifest["stale"])
                committed = target / private.name.replace(".partial-", ".commit-")
                os.rename(private, committed)  # from here on the new files are the ones
                _flush(target)
                _finish(target, committed)
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
            _settle_locked(Path(folder))


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


@contextmanager
def _private_folder(parent: Path) -> Iterator[Path]:
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


def _settle_locked(folder: Path) -> None:
    for name in sorted(os.listdir(folder)):
        if _COMMITTED.fullmatch(name) and _is_ours(folder / name):
            _finish(folder, folder / name)
        elif _PARTIAL.fullmatch(name) and _is_ours(folder / name):
            descriptor = _try_lock(folder / name)
            if descriptor is not None and descriptor >= 0:  # its maker is dead
                shutil.rmtree(folder / name, ignore_errors=True)
                os.close(descriptor)


def _is_ours(path: Path) -> bool:
    """Whether it is a folder of this user, and not a link to one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def _finish(folder: Path, committed: Path) -> None:
    """Moves committed files to their places; as often as it takes."""
    try:
        manifest = json.loads((committed / _MANIFEST).read_text("utf-8"))
        names, stale = [*map(str, manifest["files"])], [*map(str, manifest["stale"])]
    except (ValueError, KeyError, TypeError):
        raise OSError(
            errno.EIO, f"{shown(committed)} is damaged, expected files on their way to their places"
        ) from None
    for name in names:
        place = _place(folder, name)
        if (committed / _FILES / name).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(committed / _FILES / name, place)
            _flush(place.parent)
    for name in stale:
        place = _place(folder, name)
        with suppress(OSError):  # the new files are the ones, whatever somebody has done to an old one since
            place.unlink(missing_ok=True)
            for parent in place.parents[: len(PurePosixPath(name).parts) - 1]:
                parent.rmdir()  # if it is empty now
    _flush(folder)
    # Under a name that is removed at any later time, since its manifest may be gone before the rest.
    done = folder / f".partial-{secrets.token_hex(16)}"
    os.rename(committed, done)
    shutil.rmtree(done, ignore_errors=True)


def _fill(folder: Path, files: Files) -> list[str]:
    """Writes files to a new folder, flushes them to the disk, and returns their names."""
    folder.mkdir()
    if isinstance(files, Mapping):
        for name, save in files.items():
            _place(folder, name).parent.mkdir(parents=True, exist_ok=True)
            _save(folder / name, save)
        return list(files)
    files(folder)
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in found:
        _flush_file(path)
    return [path.relative_to(folder).as_posix() for path in found]


def _prepare(folder: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Makes the folders of files, and raises OSError where a file could not be moved to its place, or an old one not go."""
    for name in names:
        place = _place(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            raise OSError(errno.EISDIR, f"{shown(name)} is a folder")
    for parent in {_place(folder, name).parent for name in (*names, *stale)}:
        if parent.exists() and not os.access(parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _place(folder: Path, name: str) -> Path:
    """The path of a file in a folder; raises OSError for a name that leads out of it."""
    parts = PurePosixPath(name).parts
    place = folder.joinpath(*parts)
    outside = not parts or PurePosixPath(name).is_absolute() or ".." in parts
    if outside or any((folder.joinpath(*parts[:k])).is_symlink() for k in range(1, len(parts))):
        raise OSError(errno.EPERM, f"{shown(name)} leads out of the folder")
    return place


def _save(path: Path, save: Save) -> None:
    """Makes a file, with the mode that the umask gives, lets it be written, and flushes it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    save(path)
    if stat.S_IMODE(path.stat().st_mode) != mode:  # replaced by what wrote it
        path.chmod(mode)
    _flush_file(path)


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
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


def _link(path: Path, target: Path) -> None:
    """Gives a file a second name, unless that is taken."""
    try:
        os.link(path, target)
    except FileExistsError:
        pass
    except OSError:  # not every file system has links
        if not target.exists():
            os.replace(path, target)
