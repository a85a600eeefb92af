"""Writing: whole or not at all wherever a process is killed, by one at a time, through no link, with the umask's mode."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_probmix.files import UnwritableError, reading, regular, write_file, write_files
from pyro_probmix.moves import UnfinishedError, inodes_of
from pyro_probmix.names import printable, shown
from pyro_probmix.unfinished import alone, settle

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


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_a_device_is_never_replaced(linked: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    place = tmp_path / ("link" if linked else "pipe")
    if linked:
        place.symlink_to(tmp_path / "pipe")
    before = os.lstat(place).st_ino
    with pytest.raises(UnwritableError, match=rf"'{place.name}' is a pipe or a device, expected a file.*Try"):
        write_file(place, lambda path: path.write_text("new"))
    with pytest.raises(UnwritableError, match=rf"'{place.name}' is a pipe or a device, expected a file.*Try"):
        write_files(tmp_path, {place.name: lambda path: path.write_text("new")})
    assert os.lstat(place).st_ino == before and not contents(tmp_path)
    with pytest.raises(OSError, match="is no regular file"):
        regular(place)  # to open it would wait for somebody who writes


@pytest.mark.parametrize("name", ["../precious.txt", "/precious.txt", ""])
def test_a_foreign_manifest_moves_nothing_out_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    committed = tmp_path / "folder" / f".commit-{'0' * 32}"
    (committed / "files").mkdir(parents=True)
    manifest = {"files": [name], "stale": [name], "inodes": inodes_of(committed)}
    (committed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OSError, match="leads out"), reading(tmp_path / "folder"):
        pass
    assert (tmp_path / "precious.txt").read_text() == "mine"


def commit(folder: Path, **files: str) -> Path:
    """What a command leaves that was killed right after it had committed."""
    committed = folder / f".commit-{'0' * 32}"
    (committed / "files").mkdir(parents=True)
    for name, text in files.items():
        (committed / "files" / name).write_text(text)
    manifest = {"files": sorted(files), "stale": [], "inodes": inodes_of(committed)}
    (committed / "manifest.json").write_text(json.dumps(manifest))
    return committed


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("link", ["the folder of the files", "a folder in it", "a file"])
def test_no_file_from_elsewhere_is_moved_by_a_committed_folder(link: str, sealed: bool, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "key").write_text("mine")
    committed = commit(tmp_path / "model", key="theirs")
    manifest = json.loads((committed / "manifest.json").read_text())
    inside = committed / "files"
    if link == "the folder of the files":
        (inside / "key").unlink()
        inside.rmdir()
        inside.symlink_to(tmp_path / "home")
    elif link == "a file":
        (inside / "key").unlink()
        (inside / "key").symlink_to(tmp_path / "home" / "key")
    else:
        manifest["files"] = ["sub/key"]
        (inside / "sub").symlink_to(tmp_path / "home")
    if not sealed:
        manifest["inodes"] = [0, 0]
    (committed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnfinishedError, match="Try"), reading(tmp_path / "model"):
        pass
    with pytest.warns(UserWarning, match=r"\.commit-.* expected .* Try"):
        write_files(tmp_path / "model", {"a.txt": lambda path: path.write_text("new")})
    assert (tmp_path / "home" / "key").read_text() == "mine" and not (tmp_path / "model" / "key").exists()


def test_a_copied_folder_is_not_finished(tmp_path: Path) -> None:
    commit(tmp_path / "a", **{"a.txt": "new"})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with reading(tmp_path / "a"):
        assert contents(tmp_path / "a") == {"a.txt": "new"}
    with pytest.raises(UnfinishedError, match=r"was copied or unpacked .* Try removing it"), reading(tmp_path / "b"):
        pass
    write_file(
        tmp_path / "b" / "a.txt", lambda path: path.write_text("mine")
    )  # is never replaced by what does not count
    assert (tmp_path / "b" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "{", "\xff", None])
def test_a_manifest_that_is_none_is_a_sentence(text: str | None, tmp_path: Path) -> None:
    committed = commit(tmp_path)
    if text is None:
        (committed / "manifest.json").unlink()
        os.mkfifo(committed / "manifest.json")
    else:
        (committed / "manifest.json").write_text(text, "latin-1")
    with pytest.raises(UnfinishedError, match="is damaged"), reading(tmp_path):
        pass


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


def test_an_obstacle_that_comes_after_the_commit_is_named_and_blocks_its_own_file_alone(tmp_path: Path) -> None:
    commit(tmp_path, **{"a.txt": "new", "b.txt": "new"})
    (tmp_path / "a.txt").mkdir()
    with (
        pytest.raises(UnfinishedError, match=r"a.txt' is written, .* \(Is a directory\).* Try moving away"),
        reading(tmp_path),
    ):
        pass
    assert (tmp_path / "b.txt").read_text() == "new"
    with pytest.raises(UnwritableError, match=r"a.txt' is written") as caught:  # would be of two commands
        write_files(tmp_path, {"a.txt": lambda path: path.write_text("newer"), "c.txt": lambda path: path.touch()})
    assert "stays" not in str(caught.value)
    with pytest.raises(UnwritableError, match=r"a.txt' is written"):
        write_files(tmp_path, {"c.txt": lambda path: path.touch()}, stale=lambda: ["b.txt"])
    assert not (tmp_path / "c.txt").exists()
    with pytest.warns(UserWarning, match=r"a.txt' is written, in '\.commit-.* cannot be put .* Try moving away"):
        write_files(tmp_path, {"c.txt": lambda path: path.write_text("new")})
    write_file(tmp_path / "c.txt", lambda path: path.write_text("newer"))
    with reading(tmp_path, ["c.txt"]):
        pass
    (tmp_path / "a.txt").rmdir()
    with reading(tmp_path):
        assert contents(tmp_path) == {"a.txt": "new", "b.txt": "new", "c.txt": "newer"}


def test_a_folder_on_another_disk_is_found_before_anything_is_moved(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "sub").mkdir()
    command = ["mount", "--bind", str(tmp_path / "sub"), str(tmp_path / "sub")]
    code = (
        "import subprocess, sys; from pathlib import Path; from pyro_probmix.files import write_files\n"
        f"if subprocess.run({command!r}).returncode: sys.exit(3)\n"
        f"write_files({str(tmp_path)!r}, {{n: lambda p: p.write_text('new') for n in ('a.txt', 'sub/b.txt')}})"
    )
    unshare = ["unshare", "--mount", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("the system lets nobody mount")
    done = subprocess.run([*unshare, sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("the system lets nobody mount")
    assert "could not be written" in done.stderr and "what was there before stays" in done.stderr, done.stderr
    assert contents(tmp_path) == {"a.txt": "old"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files to another user")
def test_what_another_user_left_unfinished_is_a_sentence(tmp_path: Path) -> None:
    committed = commit(tmp_path, **{"a.txt": "theirs"})
    os.chown(committed, 12345, 12345)
    with pytest.raises(UnfinishedError, match=r"left unfinished by another user.* Try"), reading(tmp_path):
        pass
    with pytest.raises(UnwritableError, match="left unfinished by another user"):
        write_file(tmp_path / "a.txt", lambda path: path.write_text("mine"))
    tmp_path.chmod(0o1777)  # where nobody can replace another's files
    write_file(tmp_path / "a.txt", lambda path: path.write_text("mine"))
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_who_reads_a_folder_waits_for_no_writer_there(tmp_path: Path) -> None:
    def save(path: Path) -> None:
        path.write_text("new")
        with reading(tmp_path), alone(tmp_path, shared=True):
            settle(tmp_path)  # would wait for itself

    write_files(tmp_path, {"a.txt": save})
    assert contents(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EWOULDBLOCK, errno.EIO])
def test_a_private_folder_that_cannot_be_locked_is_a_sentence_and_no_litter(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(descriptor: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuses)
    with pytest.raises(UnwritableError, match="could not be written"):
        write_file(tmp_path / "a.txt", lambda path: path.write_text("new"))
    assert not os.listdir(tmp_path)


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "a\ud800"):
        with pytest.raises(UnwritableError, match="expected a path of characters"):
            write_file(tmp_path / name, lambda path: path.write_text("new"))
        with pytest.raises(UnwritableError, match="expected a path of characters"):
            write_files(tmp_path / name, {})
    with pytest.raises(UnwritableError, match="has a null character"):
        write_files(tmp_path, {"a\0b": lambda path: path.write_text("new")})
    with pytest.raises(TypeError, match="3 is a int, expected a path"):
        write_file(3, lambda path: path.write_text("new"))  # type: ignore[arg-type]
    written = write_file(os.fsencode(tmp_path / "a.txt"), lambda path: path.write_text("new"))  # type: ignore[arg-type]
    assert written == tmp_path / "a.txt" and contents(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("several", [True, False])
def test_ctrl_c_after_the_commit_says_what_is_written(
    several: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, pressed = os.replace, []

    def replace(path: Path, target: Path) -> None:
        inner(path, target)
        pressed.append(path)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", replace)
    names = ("a.txt", "b.txt") if several else ("a.txt",)
    former = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell starts what runs in the background without it
    try:
        with pytest.raises(KeyboardInterrupt, match="is written"):
            if several:
                write_files(tmp_path, {name: lambda path: path.write_text("new") for name in names})
            else:
                write_file(tmp_path / "a.txt", lambda path: path.write_text("new"))
    finally:
        signal.signal(signal.SIGINT, former)
    assert len(pressed) == len(names) and contents(tmp_path) == dict.fromkeys(names, "new")
    assert os.listdir(tmp_path) and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_file_that_the_system_keeps_is_found_before_anything_is_moved(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("old")
    if (
        not shutil.which("chattr")
        or subprocess.run(["chattr", "+i", tmp_path / "b.txt"], capture_output=True).returncode
    ):
        pytest.skip("the system keeps no files")
    try:
        with pytest.raises(UnwritableError, match=r"'b.txt' may not be changed.*; what was there before stays"):
            write_files(tmp_path, {name: lambda path: path.write_text("new") for name in ("a.txt", "b.txt")})
    finally:
        subprocess.run(["chattr", "-i", tmp_path / "b.txt"], check=True)
    assert contents(tmp_path) == {"a.txt": "old", "b.txt": "old"}
