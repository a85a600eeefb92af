"""Commands that are killed before any of their changes to files, and two at once: nothing is lost, mixed or left over.

Some places of each by default; ``pytest -m slow tests/test_kills.py`` kills each command forty times.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.experiments.report import cases

# Imports all once, then runs each command that it is told in a process of its own, which is killed, or stopped until another
# command has ended, just before one of its changes to files.
DRIVER = """
import json, os, signal, sys, tempfile, time
import torch
torch.set_num_threads(1)
import matplotlib.backends.backend_agg, matplotlib.figure
import pyro_probmix.experiments.command, pyro_probmix.experiments.report, pyro_probmix.tabular.checking
from pyro_probmix.cli import main
from pyro_probmix.inference.checkpoint import Checkpoint
Checkpoint.__init__.__defaults__ = (0.0,)  # after each epoch
NAMES = ("replace", "rename", "link", "mkdir", "rmdir", "unlink", "open", "fsync")

def begin(arguments, at, how, said):
    process = os.fork()
    if process:
        return process
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    changes = 0
    def counted(inner):
        def call(*args, **kwargs):
            nonlocal changes
            changes += 1
            if changes == at:
                os.kill(os.getpid(), how)
            return inner(*args, **kwargs)
        return call
    for name in NAMES:
        setattr(os, name, counted(getattr(os, name)))
    try:
        code = main(arguments)
        print("changes", changes, flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
        code = 99
    sys.stdout.flush()
    os._exit(code)

for line in sys.stdin:
    task = json.loads(line)
    said = tempfile.TemporaryFile("w+")
    how = signal.SIGSTOP if task["beside"] else signal.SIGKILL
    first = begin(task["arguments"], task["at"], how, said)
    if task["beside"]:
        stopped = os.WIFSTOPPED(os.waitpid(first, os.WUNTRACED)[1])
        second, deadline = begin(task["beside"], 0, how, said), time.monotonic() + 3
        left = second
        while left and time.monotonic() < deadline:  # it may wait for a lock that the first one holds
            time.sleep(0.01)
            left = 0 if os.waitpid(second, os.WNOHANG)[0] else second
        if stopped:
            os.kill(first, signal.SIGCONT)
            os.waitpid(first, 0)
        if left:
            os.waitpid(second, 0)
        code = 0
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    said.seek(0)
    print(json.dumps([code, said.read()]), flush=True)
"""
RUN = ["run", "toy-regression", "--method", "ERM,Mix", "--seeds", "1", "--epochs", "2", "--out"]
FEW = 3
pytestmark = pytest.mark.timeout(600)  # it is some seconds' work, of which a busy machine makes minutes
MANY = pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])


class Commands:
    """Runs commands in processes that are quick to start, and can be killed at a place."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *arguments: object, at: int = 0, beside: list[object] | None = None) -> int:
        """The number of changes to files; runs the command to its end, or kills it before one of these."""
        task = {"arguments": [*map(str, arguments)], "at": at, "beside": beside and [*map(str, beside)]}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        code, said = json.loads(self.process.stdout.readline())
        counts = re.findall(r"changes (\d+)", said)
        assert code == (-9 if at and not beside and not counts else 0), said
        assert len(counts) == (0 if code else 2 if beside else 1), said
        return int(counts[0]) if counts else 0


@pytest.fixture(scope="module")
def command() -> Iterator[Commands]:
    commands = Commands()
    with commands.process:
        yield commands


@pytest.fixture(scope="module")
def kept(command: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with two models of it, their predictions and pages, and two runs with their reports."""
    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "k": rng.choice(["p", "q"], 40), "y": rng.normal(size=40)})
    frame.to_csv(folder / "t.csv", index=False)
    for seed in (1, 2):
        command(*fit(folder, seed), folder / f"model{seed}")
        command(*predict(folder, seed), folder / f"p{seed}.csv")
        (folder / f"page{seed}").mkdir()  # in the place of a page, which takes some seconds
        (folder / f"page{seed}" / "check.html").write_text('<meta name="probmix-files" content="pit.png">')
        (folder / f"page{seed}" / "pit.png").write_text(str(seed))
    for k, methods in enumerate((("ERM", "Mix"), ("ERM", "ProbMix")), 1):
        results = cases.ablation("regression", 3, methods, settings=["alpha=0.1 beta=0", "alpha=1 beta=0"][:k])
        cases.write_run(folder / f"run{k}", results)
        command("report", folder / f"run{k}", "--out", folder / f"report{k}")
    return folder


def fit(kept: Path, seed: int) -> list[object]:
    return ["fit", kept / "t.csv", "--target", "y", "--epochs", 1, "--ensemble", 1, "--seed", seed, "--out"]


def predict(kept: Path, seed: int) -> list[object]:
    return ["predict", kept / f"model{seed}", kept / "t.csv", "--out"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def places(changes: int, times: int) -> list[int]:
    """Of the changes, from the first to the last, evenly; each several times if there are fewer."""
    return [1 + k for k in np.linspace(0, changes - 1, times).round().astype(int).tolist()]


def model_is(kept: Path, folder: Path, command: Commands) -> int:
    """Which of the two models a folder holds; the page beside it is of the same."""
    command("predict", folder, kept / "t.csv", "--out", folder.with_name("p.csv"))
    (seed,) = [k for k in (1, 2) if folder.with_name("p.csv").read_bytes() == (kept / f"p{k}.csv").read_bytes()]
    page = folder / "check"
    assert not page.exists() or (seed == 1 and files(page) == files(kept / "page1"))
    assert {name.partition("-")[0] for name in map(str, (p.name for p in folder.iterdir()))} <= {
        "model",
        "table.json",
        "check",
    }
    return seed


def file_is(kept: Path, path: Path, command: Commands) -> int:
    (seed,) = [k for k in (1, 2) if path.read_bytes() == (kept / f"p{k}.csv").read_bytes()]
    return seed


def report_is(kept: Path, folder: Path, command: Commands) -> int:
    """Which report's text a folder holds; its figures are those, whatever else is on its way."""
    expected = {k: files(kept / f"report{k}") for k in (1, 2)}
    (seed,) = [k for k in (1, 2) if (folder / "report.md").read_bytes() == expected[k]["report.md"]]
    for name in re.findall(r"\]\((report-figures/[^)]+)\)", (folder / "report.md").read_text("utf-8")):
        assert (folder / name).read_bytes() == expected[seed][name]
    assert (folder / "report.html").read_bytes() in [one["report.html"] for one in expected.values()]
    return seed


def page_is(kept: Path, folder: Path, command: Commands) -> int:
    texts = [(kept / f"page{k}" / "check.html").read_bytes() for k in (1, 2)]
    return 1 + texts.index((folder / "check.html").read_bytes())


#: Command -> its arguments but the place, the name of what it writes, and which of two there is at a place.
COMMANDS: dict[str, tuple[Callable[[Path, int], list[object]], str, Callable[[Path, Path, Commands], int]]] = {
    "fit": (fit, "model{}", model_is),
    "predict": (predict, "p{}.csv", file_is),
    "report": (lambda kept, k: ["report", kept / f"run{k}", "--out"], "report{}", report_is),
    "check": (lambda kept, k: ["check", kept / f"model{k}", kept / "t.csv", "--out"], "page{}", page_is),
}


def copy(kept: Path, name: str, place: Path) -> None:
    if (kept / name).is_file():
        shutil.copy(kept / name, place)
    else:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(kept / name, place)
    if name == "model1":
        shutil.copytree(kept / "page1", place / "check")


@pytest.fixture(scope="module")
def pages(kept: Path, command: Commands) -> None:
    """The pages of the two models."""
    for seed in (1, 2):
        shutil.rmtree(kept / f"page{seed}")
        command("check", kept / f"model{seed}", kept / "t.csv", "--out", kept / f"page{seed}")


def same(kept: Path, name: str, place: Path) -> bool:
    if place.is_file():
        return place.read_bytes() == (kept / name).read_bytes() and len(list(place.parent.iterdir())) == 1
    return files(place) == files(kept / name)


@pytest.mark.parametrize("times", [FEW, MANY])
@pytest.mark.parametrize(
    "name", [*[n for n in COMMANDS if n != "check"], pytest.param("check", marks=pytest.mark.slow)]
)
def test_killed_it_leaves_the_old_or_the_new_and_the_next_command_nothing_else(
    name: str, times: int, kept: Path, command: Commands, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arguments, made, which = COMMANDS[name]
    if name == "check":
        request.getfixturevalue("pages")
    place = tmp_path / "folder" / made.format("")
    place.parent.mkdir()
    copy(kept, made.format(1), place)
    changes = command(*arguments(kept, 2), place)
    assert same(kept, made.format(2), place)
    seen = []
    for at in places(changes, times):
        copy(kept, made.format(1), place)
        command(*arguments(kept, 2), place, at=at)
        seen.append(which(kept, place, command))
        if name == "fit":
            (tmp_path / "folder" / "p.csv").unlink()
        command(*arguments(kept, 2), place)
        assert same(kept, made.format(2), place)
    assert seen == sorted(seen) and seen[0] == 1 and seen[-1] == 2  # once the new one is there, it stays


@pytest.mark.parametrize("times", [FEW, MANY])
@pytest.mark.parametrize(
    "name", [*[n for n in COMMANDS if n != "check"], pytest.param("check", marks=pytest.mark.slow)]
)
def test_of_two_at_once_one_is_there(
    name: str, times: int, kept: Path, command: Commands, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arguments, made, which = COMMANDS[name]
    if name == "check":
        request.getfixturevalue("pages")
    place = tmp_path / "folder" / made.format("")
    place.parent.mkdir()
    copy(kept, made.format(1), place)
    changes = command(*arguments(kept, 1), place)
    for at in places(changes, times):
        command(*arguments(kept, 1), place, at=at, beside=[*arguments(kept, 2), place])
        seed = which(kept, place, command)
        if name == "fit":
            (tmp_path / "folder" / "p.csv").unlink()
            shutil.rmtree(place / "check", ignore_errors=True)
        assert same(kept, made.format(seed), place)


def numbers(folder: Path) -> tuple[Any, ...]:
    """What a run leaves, but for the time that it took."""
    tables = [pd.read_parquet(folder / f"{name}.parquet") for name in ("results", "curves", "calibration")]
    tables[0] = tables[0][tables[0]["metric"] != "seconds"]
    left = {name: data for name, data in files(folder).items() if name.startswith(("models", "figures", "config"))}
    names = {name for name in files(folder)}
    return [table.to_csv() for table in tables], left, names


@pytest.mark.parametrize("times", [2, MANY])
def test_a_run_goes_on_wherever_it_was_killed(times: int, command: Commands, tmp_path: Path) -> None:
    changes = command(*RUN, tmp_path / "alone")
    expected = numbers(tmp_path / "alone")
    for k, at in enumerate(places(changes, times + 2)[1:-1]):
        command(*RUN, tmp_path / f"run{k}", at=at)
        command(*RUN, tmp_path / f"run{k}")
        assert numbers(tmp_path / f"run{k}") == expected
        command(*RUN, tmp_path / f"two{k}", at=at, beside=[*RUN, tmp_path / f"two{k}"])
        assert numbers(tmp_path / f"two{k}") == expected
