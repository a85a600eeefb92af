"""The rows whose densities are fused: the plate they lie in, and what may not vary over it."""

from __future__ import annotations

__all__ = ["refuse_enumerated_rows", "row_frame"]

from collections.abc import Sequence
from typing import Any


def row_frame(msg: Any, at: str, plate: str | None) -> Any:
    """Return the plate frame of the rows at site ``at``: that of the named plate, by default the one at dim=-1.

    Raises:
        ValueError: if the site is in no such plate, or the number of rows is odd.
    """
    frames = [frame for frame in msg["cond_indep_stack"] if frame.vectorized]
    wanted = [frame for frame in frames if (frame.dim == -1 if plate is None else frame.name == plate)]
    names = ", ".join(repr(frame.name) for frame in frames) or "none"
    if not wanted:
        expected = "a plate of rows at dim=-1" if plate is None else f"the plate {plate!r}"
        raise ValueError(
            f"site {at!r} is in the plates {names}, expected {expected}. "
            "Try `with pyro.plate('data', batch_size):` around it, or name its plate in fuse(..., plate=...)."
        )
    if wanted[0].size % 2:
        raise ValueError(
            f"site {at!r} has an odd batch of {wanted[0].size} rows, expected two halves that are each "
            "other's partners. Try an even batch size."
        )
    return wanted[0]


def refuse_enumerated_rows(msg: Any, at: str, rows: Any, enumerated: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError if one of the enumerated sites upstream varies from row to row."""
    for site in enumerated:
        if all(frame.name != rows.name for frame in site["cond_indep_stack"]):
            continue
        dim, shape = site["infer"].get("_enumerate_dim"), msg["fn"].batch_shape
        if dim is None or (-dim <= len(shape) and shape[dim] > 1):
            raise ValueError(
                f"site {at!r} cannot be fused: site {site['name']!r} upstream is enumerated in each row, and one "
                "enumeration dimension would tie the values of the two rows, expected it sampled or global. Try "
                f"infer={{'enumerate': None}} for {site['name']!r}, or marginalise it in closed form."
            )
