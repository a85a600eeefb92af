"""Which class a distribution has its density from."""

from __future__ import annotations

__all__ = ["scores_as"]

from typing import Any


def scores_as(p: Any, *classes: type[Any]) -> bool:
    """Whether ``p`` is of one of the classes and has the ``log_prob`` of that class, not another one of a subclass."""
    own = type(p)
    # isinstance would go through the metaclass of Pyro's distributions, several times in each step.
    return any([cls in own.__mro__ and own.log_prob is cls.log_prob for cls in classes])
