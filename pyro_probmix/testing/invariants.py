"""Named invariants, run one after the other; the first that is broken is reported in one sentence."""

from __future__ import annotations

__all__ = ["BrokenInvariant", "Invariants", "demand", "demand_close", "refuse"]

from collections.abc import Callable, Collection
from typing import Generic, NoReturn, TypeVar

import pyro
import torch
from torch import Tensor

from pyro_probmix.random_state import own_random_state

Subject = TypeVar("Subject")


class BrokenInvariant(AssertionError):
    """Raised by a check: names the invariant, what was found and what was expected.

    Attributes:
        invariant: its name, which the check's argument ``skip`` takes.
    """

    def __init__(self, message: str, invariant: str) -> None:
        super().__init__(message)
        self.invariant = invariant


class _Broken(Exception):
    """What was found and what was expected, before it is known of which invariant."""


class Invariants(Generic[Subject]):
    """The invariants of one kind of class, by name, in the order in which they are checked.

    Args:
        kind: for messages, such as "graph".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.all: dict[str, tuple[str, Callable[[Subject], None]]] = {}

    def add(self, name: str, statement: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Adds a function that calls :func:`demand` to the invariants, with a sentence that states what it demands."""

        def added(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self.all[name] = statement, function
            return function

        return added

    def hold(self, name: str, subject: Subject, skip: Collection[str] = ()) -> None:
        """Raises the first broken invariant.

        Each runs with the same random numbers, whose use leaves no trace, and with arguments of distributions validated.

        Args:
            name: of the class that is checked, for messages.
            subject: what the invariants are about.
            skip: names of invariants that are left out.

        Raises:
            BrokenInvariant: names the invariant, what was found and what was expected.
            ValueError: if a name in ``skip`` is that of no invariant.
        """
        unknown = sorted({skip} - set(self.all) if isinstance(skip, str) else set(skip) - set(self.all))
        if unknown or isinstance(skip, str):
            raise ValueError(
                f"check_{self.kind} got skip={skip!r}, expected a list of names among {', '.join(self.all)}. Try skip=()."
            )
        for invariant, (statement, function) in self.all.items():
            if invariant in skip:
                continue
            try:
                with own_random_state(torch.device("cpu"), seed=0), pyro.validation_enabled(True):
                    function(subject)
            except _Broken as broken:
                message = f"{name} breaks the invariant {invariant!r} ({statement}): {broken}"
                raise BrokenInvariant(message, invariant) from None
            except Exception as error:
                said = str(error).strip().partition("\n")[0]
                message = (
                    f"{name} breaks the invariant {invariant!r} ({statement}): found {type(error).__name__}: {said}, "
                    "expected no error"
                )
                raise BrokenInvariant(message, invariant) from error


def refuse(found: str, expected: str) -> NoReturn:
    """Says that the invariant is broken."""
    raise _Broken(f"found {found}, expected {expected}")


def demand(holds: bool | Tensor, found: str, expected: str) -> None:
    """Says that the invariant is broken unless it holds."""
    if not bool(holds):
        refuse(found, expected)


def demand_close(actual: Tensor, expected: Tensor, what: str, of: str, rtol: float = 1e-7, atol: float = 1e-7) -> None:
    """Demands that two tensors are equal up to rounding, equal infinities included.

    Args:
        actual, expected: of one shape.
        what: what ``actual`` is, as in "a log density".
        of: what ``expected`` is, as in "that of the member".
        rtol, atol: as in ``torch.allclose``.
    """
    if actual.shape != expected.shape:
        refuse(f"{what} of shape {_shape(actual)}", f"{of}, of shape {_shape(expected)}")
    close = torch.isclose(actual, expected.to(actual), rtol=rtol, atol=atol)
    if not bool(close.all()):
        place = tuple((~close).nonzero()[0].tolist())
        where = f" at index {list(place)}" if place else ""
        refuse(f"{what} of {actual[place].item():.6g}{where}", f"{of}, {expected[place].item():.6g}")


def _shape(x: Tensor) -> str:
    return str(list(x.shape))
