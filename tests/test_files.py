"""Writing: whole or not at all wherever a process is killed, by one at a time, through no link, with the umask's mode."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_probmix.files import UnwritableError, reading, write_file, write_files
from pyro_probmix.names import printable, shown

# Kills the process just before its k-th change to files; prints the number of changes otherwise.
KILLED = """
import os, signal, sys
from pathlib import Path
at, changes = int(sys.argv[1]), 0
def counted(name):
    inner = getattr(os, name)
    def call(*args, **kwargs):
        global changes
        if changes == at:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1
        return inner(*args, **kwargs)
    setattr(os, name, call)
for name in ("replace", "rename", "mkdir", "rmdir", "unlink", "open", "fsync"):
    counted(name)
from pyro_probmix import files
folder, value = Path(sys.argv[2]), sys.argv[3]
"""
ONE = KILLED + "files.write_file(folder / 'a.txt', lambda path: path.write_text(value))\nprint(changes)"
SEVERAL = (
    KILLED
    + """
names = ["a.txt", "sub/b.txt", f"sub/{value}.txt"]
stale = lambda: [f"sub/{p.name}" for p in (folder / "sub").glob("*.txt") if p.name not in ("b.txt", f"{value}.txt")]
files.write_files(folder, {name: lambda path: path.write_text(value) for name in names}, stale=stale)
print(changes)
"""
)


def run(code: str, at: int, folder: Path, value: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(at), str(folder), value]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("code", "names"), [(ONE, ["a.txt"]), (SEVERAL, ["a.txt", "sub/b.txt", "sub/{}.txt"])], ids=["one file", "several"]
)
def test_killed_before_any_change_it_leaves_the_old_or_the_new_files_and_the_next_command_no_left_over(
    code: str, names: list[str], tmp_path: Path
) -> None:
    done = run(code, 10_000, tmp_path, "old")
    assert done.returncode == 0, done.stderr
    changes = int(done.stdout)
    seen = set()
    for at in range(changes + 3):  # cleaning up takes some more
        value = f"new{at}"
        before = contents(tmp_path)
        done = run(code, at, tmp_path, value)
        with reading(tmp_path):
            after = contents(tmp_path)
        assert after in (before, {name.format(value): value for name in names})
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
        seen.add((done.returncode != 0, after == before))
    assert {
        (True, True),
        (True, False),
    } <= seen  # killed before and after the moment from which the new files are the ones


def test_what_a_living_command_is_writing_stays(tmp_path: Path) -> None:
    def save(path: Path) -> None:
        path.write_text("outer")
        write_file(tmp_path / "b.txt", lambda inner: inner.write_text("inner"))  # another command, meanwhile

    write_file(tmp_path / "a.txt", save)
    assert contents(tmp_path) == {"a.txt": "outer", "b.txt": "inner"}


def _write_many(folder: str, value: str) -> None:
    for _ in range(30):
        write_files(folder, {name: lambda path: path.write_text(value) for name in ("a.txt", "b.txt", "c/d.txt")})


def test_two_at_once_and_a_reader_see_no_mixture(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), value)) for value in ("one", "two")]
    for writer in writers:
        writer.start()
    seen: set[str] = set()
    names = ("a.txt", "b.txt", "c/d.txt")
    while any(writer.is_alive() for writer in writers):
        with reading(tmp_path):
            found = {name: (tmp_path / name).read_text() for name in names if (tmp_path / name).exists()}
        assert len(found) in (0, 3) and len(set(found.values())) <= 1
        seen |= set(found.values())
        time.sleep(0.001)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen == {"one", "two"}


def test_no_link_is_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").symlink_to(precious)
    write_file(folder / "a.txt", lambda path: path.write_text("new"))
    assert precious.read_text() == "mine"
    assert not (folder / "a.txt").is_symlink()
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(UnwritableError, match="leads out of the folder"):
        write_files(folder, {"sub/precious.txt": lambda path: path.write_text("new")})
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["../precious.txt", "/precious.txt", ""])
def test_a_foreign_manifest_moves_nothing_out_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    committed = tmp_path / "folder" / f".commit-{'0' * 32}"
    (committed / "files").mkdir(parents=True)
    (committed / "manifest.json").write_text(json.dumps({"files": [name], "stale": [name]}))
    with pytest.raises(OSError, match="leads out"), reading(tmp_path / "folder"):
        pass
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_folders_of_other_names_stay(tmp_path: Path) -> None:
    for name in (".partial-1-a.txt", ".partial-notes", f".partial-{'g' * 32}"):
        (tmp_path / name).mkdir()
    write_file(tmp_path / "a.txt", lambda path: path.write_text("new"))
    assert len(os.listdir(tmp_path)) == 4


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_the_umasks(umask: int, tmp_path: Path) -> None:
    def replaced(path: Path) -> None:
        other = path.with_name("other")
        other.write_text("by another file")
        other.chmod(0o600)
        os.replace(other, path)

    former = os.umask(umask)
    try:
        write_file(tmp_path / "a.txt", lambda path: path.write_text("new"))
        write_file(tmp_path / "b.txt", replaced)
        write_files(tmp_path / "new", {"c/d.txt": lambda path: path.write_text("new")})
    finally:
        os.umask(former)
    for name in ("a.txt", "b.txt", "new/c/d.txt"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o777 & ~umask


def test_only_a_new_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", lambda path: path.write_text("first"), new=True)
    write_file(tmp_path / "a.txt", lambda path: path.write_text("second"), new=True)
    assert contents(tmp_path) == {"a.txt": "first"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_each_error_of_the_system_is_a_sentence_and_leaves_what_was_there(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"a.txt": lambda path: path.write_text("old"), "b.txt": lambda path: path.write_text("old")})

    def fails(path: Path) -> None:
        path.write_text("ha")
        raise OSError(code, os.strerror(code))

    def refuses(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    said = rf"a.txt' could not be written \({os.strerror(code)}\); what was there before stays. Try --out."
    with pytest.raises(UnwritableError, match=said) as caught:
        write_file(tmp_path / "a.txt", fails, advice="Try --out.")
    assert caught.value.errno == code
    with pytest.raises(UnwritableError, match="could not be written"):
        write_files(tmp_path, {"b.txt": lambda path: path.write_text("new"), "a.txt": fails})
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(UnwritableError, match="could not be written"):
        write_file(tmp_path / "a.txt", lambda path: path.write_text("new"))
    assert contents(tmp_path) == {"a.txt": "old", "b.txt": "old"}


def test_no_folder_and_errors_of_a_library(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match=r"could not be written \(No such file or directory\)"):
        write_file(tmp_path / "none" / "a.txt", lambda path: path.write_text("new"))

    def fails(path: Path) -> None:
        raise RuntimeError("no\nroom")

    with pytest.raises(UnwritableError, match=r"\(no room\)"):
        write_file(tmp_path / "a.txt", fails, errors=(RuntimeError,))
    with pytest.raises(RuntimeError):
        write_file(tmp_path / "a.txt", fails)
    assert not os.listdir(tmp_path)


def test_a_function_writes_all_files(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("new")
        (folder / "b.txt").write_text("new")

    write_files(tmp_path / "new", fill)
    assert contents(tmp_path / "new") == {"b.txt": "new", "sub/a.txt": "new"}

    def fails(folder: Path) -> None:
        fill(folder)
        write_file(folder / "c.txt", lambda path: path.write_text("\ud800"), errors=(UnicodeEncodeError,))

    with pytest.raises(UnwritableError, match=r"/none/here' could not be written \('utf-8' codec"):
        write_files(tmp_path / "none" / "here", fails)
    assert os.listdir(tmp_path) == ["new"]  # a folder that was made for nothing goes


@pytest.mark.parametrize("obstacle", ["a folder", "a file for a folder"])
def test_an_obstacle_is_found_before_anything_is_moved(obstacle: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    if obstacle == "a folder":
        (tmp_path / "sub" / "b.txt").mkdir(parents=True)
    else:
        (tmp_path / "sub").write_text("old")
    before = contents(tmp_path)
    with pytest.raises(UnwritableError, match="could not be written"):
        write_files(tmp_path, {name: lambda path: path.write_text("new") for name in ("a.txt", "sub/b.txt")})
    with reading(tmp_path):
        assert contents(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "sub"]


def test_an_old_file_that_cannot_go_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    write_files(tmp_path, {"a.txt": lambda path: path.write_text("new")}, stale=lambda: ["old", "gone.txt"])
    assert contents(tmp_path) == {"a.txt": "new"} and sorted(os.listdir(tmp_path)) == ["a.txt", "old"]


def test_names_in_messages() -> None:
    assert shown("a\nb\x1b[31m") == "'a\\nb\\x1b[31m'"
    assert len(shown("x" * 5000)) < 130
    assert "..." in shown(Path("y" * 300))
    assert len(shown({"a": ["x" * 5000]})) < 130 and shown(3) == "3"
    assert printable("a\nb\x1b[31m\u202e") == "a b\\x1b[31m\\u202e" and len(printable("x " + "y" * 5000)) < 130
