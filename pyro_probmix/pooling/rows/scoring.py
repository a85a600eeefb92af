"""Which class a distribution has its density from."""

from __future__ import annotations

__all__ = ["scores_as"]

from typing import Any


def scores_as(p: Any, *classes: type[Any]) -> bool:
    """Return whether ``p`` is of one of the classes and has the ``log_prob`` of that class, not another one of a subclass."""
    return any(isinstance(p, cls) and type(p).log_prob is cls.log_prob for cls in classes)
