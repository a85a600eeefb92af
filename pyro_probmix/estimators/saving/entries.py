"""Checks of one entry of a saved model's record; each error says what the file has."""

from __future__ import annotations

__all__ = ["has_entries", "integer", "is_number", "need", "one_of"]

from collections.abc import Iterable

LARGEST = 2**53


def need(truth: bool, what: str, given: object, expected: str) -> None:
    """Raises ValueError with what the file has, and what was expected, unless that is true."""
    if not truth:
        text = repr(given)
        raise ValueError(f"its {what} is {text if len(text) <= 60 else text[:57] + '...'}, expected {expected}")


def is_number(value: object) -> bool:
    """Whether a value is a number of moderate size, not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST  # and not NaN


def integer(what: str, value: object, least: int, most: int = LARGEST) -> None:
    """Raises ValueError for all but an integer of a range."""
    truth = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    need(truth, what, value, f"an integer from {least} to {most}")


def one_of(what: str, value: object, options: Iterable[object]) -> None:
    """Raises ValueError for a value that is none of the options."""
    choices = list(options)
    need(isinstance(value, str | None) and value in choices, what, value, f"one of {', '.join(map(str, choices))}")


def has_entries(what: str, value: object, names: Iterable[str]) -> None:
    """Raises ValueError for all but a record with entries of exactly these names."""
    need(isinstance(value, dict), what, value, "a record")
    assert isinstance(value, dict)
    other = sorted(set(value) ^ set(names))
    need(not other, what, other, "a record with neither more nor fewer entries than save() writes")
