"""What is made when it is first asked for, and kept."""

from __future__ import annotations

__all__ = ["Once"]

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Once(Generic[T]):
    """The result of a function, which is called when it is first asked for.

    It has gradients if they were taken where this was made, whoever asks first.

    Args:
        make: the function.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._with_grad = make, torch.is_grad_enabled()
        self._made: T | None = None

    def __call__(self) -> T:
        """The result."""
        if self._made is None:
            with torch.set_grad_enabled(self._with_grad):
                self._made = self._make()
        return self._made
