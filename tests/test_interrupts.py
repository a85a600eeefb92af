"""Ctrl-C at any line of what writes: nothing is lost, mixed or left over, and the next command goes on as if nothing had been.

Some lines by default; ``pytest -m slow tests/test_interrupts.py`` takes each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pyro_probmix import Checkpoint, ProbMixRegressor, load
from pyro_probmix import files as files_module
from pyro_probmix import interrupts as interrupts_module
from pyro_probmix import moves as moves_module
from pyro_probmix import unfinished as unfinished_module
from pyro_probmix.experiments.report import writing
from pyro_probmix.files import reading, write_file, write_files
from pyro_probmix.inference import sealed as sealed_module
from pyro_probmix.interrupts import held_back, let_through

MODULES = (files_module, interrupts_module, moves_module, unfinished_module, sealed_module, writing, contextlib, shutil)
TRACED = {module.__file__ for module in MODULES}
#: Raised out of the blue, as no Ctrl-C is while it is held back, an error in there may close a descriptor twice.
TRACED_ALWAYS = TRACED - {shutil.__file__}
FEW = 8


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def fall() -> None:
    raise KeyboardInterrupt


def interrupted(action: Callable[[], object], at: int, how: Callable[[], None]) -> tuple[int, str | None]:
    """The lines of the writer, and what a KeyboardInterrupt says that came; Ctrl-C is pressed before one of the lines."""
    lines, caught = 0, None

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in (TRACED_ALWAYS if how is fall else TRACED):
            return None
        if how is fall and "__del__" in (frame.f_code.co_name, frame.f_back and frame.f_back.f_code.co_name):
            return None  # Python prints what is raised in there, and goes on
        if event == "line":
            lines += 1
            if lines == at:
                how()
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt as error:
        caught = str(error)
    finally:
        sys.settrace(former)
    return lines, caught


class Place:
    """A thing that is written, and what is read of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, value: str) -> None:
        raise NotImplementedError

    def read(self) -> str:
        raise NotImplementedError


class OneFile(Place):
    def write(self, value: str) -> None:
        write_file(self.folder / "a.txt", lambda path: path.write_text(value))

    def read(self) -> str:
        assert os.listdir(self.folder) == ["a.txt"]
        return (self.folder / "a.txt").read_text()


class Files(Place):
    def write(self, value: str) -> None:
        names = ("a.txt", "sub/b.txt", f"sub/only-{value}.txt")
        sub = self.folder / "sub"
        write_files(
            self.folder,
            {name: lambda path: path.write_text(value) for name in names},
            stale=lambda: [f"sub/{path.name}" for path in sub.glob("only-*")],
        )

    def read(self) -> str:
        with reading(self.folder):
            (value,) = {path.read_text() for path in self.folder.rglob("*.txt")}
            found = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*"))
        assert found == ["a.txt", "sub", "sub/b.txt", f"sub/only-{value}.txt"]
        return value


@cache
def models() -> dict[str, ProbMixRegressor]:
    return {
        value: ProbMixRegressor(ensemble=1, epochs=1, random_state=seed).fit(np.eye(24), np.arange(24.0))
        for seed, value in enumerate(("old", "new", "next"))
    }


class Saved(Place):
    def write(self, value: str) -> None:
        models()[value].save(self.folder / "model")

    def read(self) -> str:
        assert os.listdir(self.folder) == ["model"]
        found = load(self.folder / "model").predict(np.eye(24))
        (value,) = [v for v, model in models().items() if (model.predict(np.eye(24)) == found).all()]
        return value


class Kept(Place):
    epochs: ClassVar = {"old": 1, "new": 2, "next": 3}

    def write(self, value: str) -> None:
        epoch = self.epochs[value]
        Checkpoint(self.folder / "fit").write({"w": torch.full((3,), float(epoch))}, epoch, {"fit": 1})

    def read(self) -> str:
        assert os.listdir(self.folder) == ["fit"]
        found = Checkpoint(self.folder / "fit").read({"fit": 1})
        assert found is not None and (found[0]["w"] == found[1]).all()
        (value,) = [v for v, epoch in self.epochs.items() if epoch == found[1]]
        return value


class Report(Place):
    """The writing of a report, whose text and figures are made up, since drawing them takes a second each time."""

    value = ""

    def write(self, value: str) -> None:
        self.value = value
        writing.write_report([self.folder], self.folder)

    def make_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def figures_of(page: Any) -> list[Any]:
            return [type("Figure", (), {"name": "one", "png": page.text.encode()})]

        for name, function in {
            "read_runs": list,
            "build_page": lambda runs: SimpleNamespace(text=self.value, title=""),
            "figures_of": figures_of,
            "to_html": lambda page: page.text,
            "to_markdown": lambda page, place: f"{page.text} ![one]({place}/one.png)",
        }.items():
            monkeypatch.setattr(writing, name, function)

    def read(self) -> str:
        with reading(self.folder):
            text, value = ((self.folder / name).read_text() for name in ("report.md", "report.html"))
            figures = list((self.folder / "report-figures").rglob("*.png"))
            assert [path.read_text() for path in figures] == [value]
        assert text == f"{value} ![one]({figures[0].relative_to(self.folder).as_posix()})"
        return value


PLACES = {"write_file": OneFile, "write_files": Files, "save": Saved, "checkpoint": Kept, "report": Report}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [FEW, pytest.param(0, marks=pytest.mark.slow, id="each line")])
@pytest.mark.parametrize("how", [press, fall])
@pytest.mark.parametrize("name", PLACES)
def test_an_interrupt_at_any_line_leaves_the_old_or_the_new_and_the_next_command_nothing_else(
    name: str, how: Callable[[], None], times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = PLACES[name](tmp_path)
    if isinstance(place, Report):
        place.make_up(monkeypatch)
    place.write("old")
    lines, _ = interrupted(lambda: place.write("new"), 0, how)
    assert lines > 50 and place.read() == "new"
    seen = []
    for k, at in enumerate(np.linspace(1, lines, times or lines).astype(int).tolist()):
        place.write("old")
        _, said = interrupted(lambda: place.write("new"), at, how)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler or how is fall
        signal.signal(signal.SIGINT, signal.default_int_handler)
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert not left or how is fall  # where Ctrl-C is really pressed, not even the next command is needed
        assert said is not None
        again = k % 3 == 2
        if again:
            place.write("next")
        elif name in ("write_file", "save", "checkpoint"):
            unfinished_module.settle(tmp_path)  # as the next command does
        value = place.read()
        assert value == "next" if again else value in ("old", "new")
        if how is press and not again:
            assert (value == "new") == ("is written" in said) or (value == "new" and not said)
            seen.append(value)
    assert how is fall or (seen[0] == "old" and seen[-1] == "new" and seen == sorted(seen, reverse=True))


def test_it_is_held_back_until_the_end_and_let_through_where_one_waits() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt, match="is written"), held_back() as interrupts:
        press()
        done.append("held")
        interrupts.note = "a.txt is written"
        press()
        done.append("held again")
    assert done == ["held", "held again"]
    with pytest.raises(KeyboardInterrupt), held_back():
        try:
            with let_through():
                press()
                done.append("never")
        finally:
            press()  # while that is cleaned up
            done.append("cleaned up")
    with pytest.raises(KeyboardInterrupt), held_back():
        press()
        with let_through():
            done.append("never")
    assert done == ["held", "held again", "cleaned up"]


def test_writers_within_writers() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held_back(), let_through(), held_back():
        press()
        done.append("the inner one is done")
    with pytest.raises(KeyboardInterrupt), held_back():
        with held_back(), let_through():
            press()
        done.append("the outer one, too")
    assert done == ["the inner one is done", "the outer one, too"]


def test_the_third_time_goes_through_and_an_error_goes_first() -> None:
    with pytest.raises(KeyboardInterrupt), held_back():
        press()
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="first"), held_back():
        press()
        raise OSError("first")


def test_a_handler_of_the_users_is_called_once_at_the_end() -> None:
    called: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        with held_back():
            press()
            assert not called
            with let_through():
                press()
            assert len(called) == 2
            press()
        assert len(called) == 3
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with held_back(), let_through():
            press()
    finally:
        signal.signal(signal.SIGINT, former)


def test_other_threads_leave_it_as_it_is() -> None:
    def write() -> None:
        with held_back(), let_through():
            found.append(signal.getsignal(signal.SIGINT))

    found: list[Any] = []
    with held_back():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert found == [signal.getsignal(signal.SIGINT)] != [signal.default_int_handler]
