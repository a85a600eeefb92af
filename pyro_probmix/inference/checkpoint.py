"""A fit's state on disk: an interrupted fit goes on from there and ends with the same weights, bit for bit."""

from __future__ import annotations

__all__ = ["Checkpoint", "DamagedCheckpoint", "ForeignCheckpoint", "as_checkpoint"]

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_probmix.arguments import checked
from pyro_probmix.files import reading
from pyro_probmix.inference.sealed import DamagedFile, read_sealed, write_sealed
from pyro_probmix.names import shown

#: Raised when a file written by this version could not be read by the one before.
FORMAT = 2
#: The entry of the file's header that holds all but the tensors.
ENTRY = "checkpoint"


class ForeignCheckpoint(ValueError):
    """Raised when a checkpoint belongs to another fit or version, or is damaged."""


class DamagedCheckpoint(ForeignCheckpoint):
    """Raised when a checkpoint is damaged."""


class Checkpoint:
    """Where a fit keeps its state: weights, optimizer, random numbers, best weights, curves; a safetensors file.

    Args:
        path: of the file; its folder has to be there.
        seconds: how often to write it, after the first epoch that ends so long after the last time; 0 writes after each.

    Example:
        >>> import tempfile, torch
        >>> from pyro_probmix import Checkpoint, ProbMix, fit
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> def train(path):
        ...     _ = torch.manual_seed(0)
        ...     density = build_density(METHODS["ProbMix"], num_features=1, likelihood=Gaussian, widths=(4,))
        ...     kept = None if path is None else Checkpoint(path, seconds=0)
        ...     return fit(ProbMix(density, at="y"), x, x**3, epochs=5, checkpoint=kept)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = train(f"{folder}/fit.safetensors")  # if it is killed, the same call goes on from its last epoch
        ...     again = train(f"{folder}/fit.safetensors")  # takes all from the file
        >>> torch.equal(again.train_loss, train(None).train_loss)
        True
    """

    @checked(least={"seconds": 0})
    def __init__(self, path: str | os.PathLike[str], seconds: float = 60.0) -> None:
        self.path, self.seconds = Path(path), seconds
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to write it again."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, tensors: Mapping[str, Tensor], epoch: int, identity: Mapping[str, Any]) -> None:
        """Writes the state after an epoch, whole or not at all.

        Raises:
            OSError: if it cannot be written; what was there before stays.
        """
        record = {"format": FORMAT, "epoch": epoch, "identity": identity}
        write_sealed(self.path, ENTRY, record, tensors, advice="Try a checkpoint at another path.")
        self._written = time.monotonic()

    def read(self, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], int] | None:
        """The state and its epoch; None if there is no file.

        Args:
            identity: what decides the fit; that of the file has to be the same.

        Raises:
            DamagedCheckpoint: if the file is not as it was written, in any part of it.
            ForeignCheckpoint: if it is another fit's, or of another version, or cannot be read.
            FileNotFoundError: if its folder is not there.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(self._sentence("has no folder", "one that is there", "making it first"))
        try:
            with reading(self.path.parent, [self.path.name]):  # finishes what a killed fit left there
                if not self.path.exists():
                    return None
                if not self.path.is_file():
                    raise self.refused("is no file", "the file of a fit")
                record, tensors = read_sealed(self.path, ENTRY)
        except DamagedFile as error:
            raise self.damaged("or was never a checkpoint of this version") from error
        except OSError as error:
            raise self.refused(f"cannot be read ({error.strerror or error})", "a file that can be") from None
        version, found, epoch = (record.get(name) for name in ("format", "identity", "epoch"))
        if version != FORMAT:
            raise self.refused(f"has format {shown(version)}", f"{FORMAT}")
        if not isinstance(found, dict) or not isinstance(epoch, int) or isinstance(epoch, bool):
            raise self.damaged("since its record is that of no fit")
        for name, value in json.loads(json.dumps(identity)).items():
            if found.get(name) != value:
                raise self.refused(f"is of another fit, with {name} {shown(found.get(name))}", shown(value))
        return tensors, epoch

    def damaged(self, why: str) -> DamagedCheckpoint:
        """The error for a file that is not as it was written."""
        return DamagedCheckpoint(self._sentence(f"is damaged, {why}", "the file of a fit"))

    def refused(self, what: str, expected: str) -> ForeignCheckpoint:
        """The error for another file."""
        return ForeignCheckpoint(self._sentence(what, expected))

    def _sentence(self, what: str, expected: str, way: str = "another path, or delete it to start anew") -> str:
        return f"the checkpoint {shown(self.path)} {what}, expected {expected}. Try {way}."


def as_checkpoint(given: Checkpoint | str | os.PathLike[str] | None) -> Checkpoint | None:
    """The checkpoint, or the one at a path."""
    if given is None or isinstance(given, Checkpoint):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ValueError(
            f"fit got a checkpoint of type {type(given).__name__}, expected a Checkpoint or a path. "
            "Try Checkpoint('fit.safetensors')."
        )
    return Checkpoint(given)
