"""The scale of a minibatch: what its rows' sites count for in the objective of the whole data set."""

from __future__ import annotations

__all__ = ["ScaledRows"]

from typing import Any

from pyro.poutine.messenger import Messenger

from pyro_probmix.fusing.rows import Batch, plates_of_rows, size_in


class ScaledRows(Messenger):
    """Scales the sites of the rows' plate from a minibatch to the data set; global latents are not scaled.

    Args:
        scale: rows of the data set for one of the minibatch.
        batch: the rows of the minibatch and their plates.
    """

    def __init__(self, scale: float, batch: Batch) -> None:
        super().__init__()
        self.scale, self.batch = scale, batch
        self._met: set[str] = set()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        missing = sorted(set(self.batch.plates) - self._met)
        if exc_type is None and missing:
            raise ValueError(
                f"ProbMix(plate={missing[0]!r}) met no such plate of {self.batch.size} rows, expected one of the density's. "
                "Try the name in its `with pyro.plate(name, len(x)):`."
            )

    def _pyro_sample(self, msg: Any) -> None:
        if msg["infer"].get("_deterministic"):
            return
        for frame in plates_of_rows(msg, self.batch):
            if self.batch.plates and size_in(msg, frame) != self.batch.size:
                continue
            if not self.batch.plates and self._met not in (set(), {frame.name}):
                # Another plate may have as many members by chance, and what is in it is not to be scaled.
                (other,) = self._met
                raise ValueError(
                    f"ProbMix met the plates {other!r} and {frame.name!r} of {self.batch.size} members each, expected one. "
                    f"Try plate={frame.name!r}, if that is the rows', or plate=[{other!r}, {frame.name!r}], if both are."
                )
            self._met.add(frame.name)
            msg["scale"] = msg["scale"] * self.scale
