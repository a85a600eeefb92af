"""Ctrl-C held back while files are on their way, and let through while a content is made or another command waited for."""

from __future__ import annotations

__all__ = ["Interrupts", "held_back", "let_through"]

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: The one that is pressed so often goes through in any case, as where a disk no longer answers; it is like a kill.
_TOO_OFTEN = 3


class Interrupts:
    """What becomes of Ctrl-C in the main thread.

    Attributes:
        note: what a ``KeyboardInterrupt`` says that was held back, such as which file is written.
    """

    note = ""

    def __init__(self, former: Callable[[int, FrameType | None], Any]) -> None:
        self.former = former
        self.holding = True
        self.pressed: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.holding and len(self.pressed) < _TOO_OFTEN - 1:
            self.pressed.append((number, frame))
            return
        # Held again before it is raised, so that no second one can reach the clean-up that the first one brings about.
        self.holding = True
        self.former(number, frame)
        self.holding = False

    def deliver(self) -> None:
        """Raises what was held back, if that is what Ctrl-C does here."""
        if self.pressed:
            number, frame = self.pressed[0]
            self.pressed.clear()
            if self.note and self.former is signal.default_int_handler:
                raise KeyboardInterrupt(self.note)
            self.former(number, frame)


#: Those that hold Ctrl-C back in the main thread, the innermost last.
_HELD: list[Interrupts] = []


@contextmanager
def held_back() -> Iterator[Interrupts]:
    """Holds Ctrl-C back until the end, unless :func:`let_through`; an error that comes before goes first."""
    former = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts(former if callable(former) else signal.default_int_handler)
    if threading.current_thread() is not threading.main_thread() or not callable(former):
        yield interrupts  # Ctrl-C does not end up here
        return
    try:
        signal.signal(signal.SIGINT, interrupts)
        _HELD.append(interrupts)
        yield interrupts
    finally:
        if interrupts in _HELD:
            _HELD.remove(interrupts)
        signal.signal(signal.SIGINT, former)
    interrupts.deliver()


@contextmanager
def let_through() -> Iterator[None]:
    """Lets Ctrl-C through that the innermost :func:`held_back` holds, one that was pressed before, too."""
    if threading.current_thread() is not threading.main_thread() or not _HELD:
        yield
        return
    interrupts = _HELD[-1]
    interrupts.deliver()
    interrupts.holding = False
    try:
        yield
    finally:
        interrupts.holding = True
