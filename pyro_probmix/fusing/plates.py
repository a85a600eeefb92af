"""Which plate of a site holds the rows: the one that is named, or the only one that it can be."""

from __future__ import annotations

__all__ = ["Batch", "find_rows", "plates_of_rows", "refuse_enumerated_rows"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyro_probmix.fusing.rows import Rows


@dataclass(frozen=True)
class Batch:
    """What is known of the rows' plate before a site is met.

    Attributes:
        plates: names of plates, one of which holds the rows of a site; none if they are not named.
        size: number of rows, None if it is not known.
        replicas: name of a plate that is none of rows, whatever its size; None if there is none.
    """

    plates: tuple[str, ...] = ()
    size: int | None = None
    replicas: str | None = None


def plates_of_rows(frames: Iterable[Any], batch: Batch) -> list[Any]:
    """The plates of a site that may be the rows', outermost first, as frames of Pyro's conditional-independence stack."""
    found = [frame for frame in frames if frame.vectorized and frame.name != batch.replicas]
    if batch.plates:
        return [frame for frame in found if frame.name in batch.plates]
    return found if batch.size is None else [frame for frame in found if frame.size == batch.size]


def find_rows(msg: Any, batch: Batch, num_fused: int, add_unfused_rows: bool) -> Rows:
    """The rows of a site that is to be fused.

    Raises:
        ValueError: if no plate of the site may be that of the rows, or several may be, or the rows are no k equal parts.
    """
    site, frames = msg["name"], msg["cond_indep_stack"]
    found = plates_of_rows(frames, batch)
    if not found:
        wanted = "a plate of rows" if batch.size is None else f"one of the batch's {batch.size} rows"
        if batch.plates:
            wanted = "the plate " + " or ".join(map(repr, batch.plates))
        raise ValueError(
            f"site {site!r} is in the plates {_names(frames)}, expected {wanted}. "
            "Try `with pyro.plate('data', batch_size):` around it, or name its plate, plate=..."
        )
    if len(found) > 1:
        raise ValueError(
            f"site {site!r} is in the plates {_names(found)}, each of which may be that of the rows, expected one that is "
            f"named. Try plate={found[0].name!r}."
        )
    (frame,) = found
    size = msg["fn"].batch_shape[frame.dim] if frame.size == -1 else frame.size  # a plate of any size
    check_parts(site, size, num_fused)
    return Rows(frame.name, frame.dim, size, num_fused, add_unfused_rows)


def check_parts(site: str, size: int, num_fused: int) -> None:
    """Raises ValueError unless the rows are k equal parts."""
    if size % num_fused and num_fused == 2:
        raise ValueError(
            f"site {site!r} has an odd batch of {size} rows, expected two halves that are each "
            "other's partners. Try an even batch size."
        )
    if size % num_fused:
        raise ValueError(
            f"site {site!r} has a batch of {size} rows, expected {num_fused} equal parts that are each other's partners. "
            f"Try a batch of {-(-size // num_fused) * num_fused} rows."
        )


def refuse_enumerated_rows(msg: Any, rows: Rows, enumerated: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError if the site that is to be fused depends on an enumerated one upstream that varies from row to row."""
    for latent in enumerated:
        if all(frame.name != rows.plate for frame in latent["cond_indep_stack"]):
            continue
        dim, shape = latent["infer"].get("_enumerate_dim"), msg["fn"].batch_shape
        if dim is None or (-dim <= len(shape) and shape[dim] > 1):
            raise ValueError(
                f"site {msg['name']!r} cannot be fused: site {latent['name']!r} upstream is enumerated in each row, and one "
                "enumeration dimension would tie the values of the two rows, expected it sampled or global. Try "
                f"infer={{'enumerate': None}} for {latent['name']!r}, or marginalise it in closed form."
            )


def _names(frames: Iterable[Any]) -> str:
    return ", ".join(repr(frame.name) for frame in frames if frame.vectorized) or "none"
