"""How the tests of the checks look at what is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyro_probmix.testing import BrokenInvariant


def assert_breaks(invariant: str, name: str, check: Callable[[], None]) -> None:
    """Assert that a check names this invariant, and says in one line what was found and what was expected."""
    with pytest.raises(BrokenInvariant) as caught:
        check()
    said = str(caught.value)
    assert caught.value.invariant == invariant, said
    assert said.startswith(f"{name} breaks the invariant {invariant!r} (")
    assert ": found " in said and ", expected " in said and "\n" not in said
