"""What a user has to decide on a table before a model can be fitted, all of it in one message."""

from __future__ import annotations

__all__ = ["Decision", "NeedsDecision"]

from collections.abc import Sequence

from pyro_probmix.tables.names import listed


class Decision(ValueError):
    """A decision on one column.

    Args:
        name: of the column.
        what: what is the matter, from "holds" on; or the whole sentence of an error.
        option: that settles it; empty for an error.
        error: whether ``what`` is a whole sentence.
    """

    def __init__(self, name: str, what: str, option: str = "", *, error: bool = False) -> None:
        super().__init__(what if error else f"column {listed([name])} {what}. Try {option}.")
        self.name, self.what, self.option, self.error = name, what, option, error


class NeedsDecision(ValueError):
    """All decisions on a table: those that one option settles are told together, of the first column in full.

    Example:
        >>> dates = [Decision(name, "holds '1/2/2024'", "--dates dmy") for name in ("a", "b")]
        >>> print(NeedsDecision([*dates, Decision("d", "dust", "--leave-out d")]))
        columns 'a', 'b' need a decision: column 'a' holds '1/2/2024'. Try --dates dmy. column 'd' dust. Try --leave-out d.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = tuple(decisions)
        alike: dict[str, list[Decision]] = {}
        for decision in decisions:
            alike.setdefault(str(decision) if decision.error else decision.option, []).append(decision)
        parts = []
        for group in alike.values():
            names = [one.name for one in group]
            parts.append(f"columns {listed(names)} need a decision: {group[0]}" if len(group) > 1 else str(group[0]))
        super().__init__(" ".join(parts))
