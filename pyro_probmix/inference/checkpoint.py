"""A fit's state on disk: an interrupted fit goes on from there and ends with the same weights, bit for bit."""

from __future__ import annotations

__all__ = ["Checkpoint", "ForeignCheckpoint"]

import json
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyro_probmix.inference.data.digests import digest_of

FORMAT = 1


class ForeignCheckpoint(ValueError):
    """The file is damaged, or the checkpoint of another fit."""


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
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        record = {"format": FORMAT, "epoch": epoch, "identity": identity, "digest": digest_of(copies)}
        partial = self.path.with_name(f".partial-{os.getpid()}-{self.path.name}")
        try:
            save_file(copies, partial, {"checkpoint": json.dumps(record)})
            os.replace(partial, self.path)
        except SafetensorError as error:  # it has no errno: say what the file system said
            raise OSError(f"the checkpoint {str(self.path)!r} could not be written ({error})") from None
        finally:
            partial.unlink(missing_ok=True)
        self._written = time.monotonic()

    def read(self, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], int] | None:
        """The state and its epoch; None if there is no file.

        Args:
            identity: what decides the fit; that of the file has to be the same.

        Raises:
            ForeignCheckpoint: if it is another fit's, of a newer version, or damaged.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                record = json.loads(file.metadata()["checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # the file is no mapping
            version, found, epoch = record["format"], record["identity"], int(record["epoch"])
            intact = record["digest"] == digest_of(tensors)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise self._foreign("is damaged, or no checkpoint", "the file of a fit") from error
        if version != FORMAT:
            raise self._foreign(f"has format {version}", f"{FORMAT}")
        if not intact:
            raise self._foreign("is damaged", "the digest that it was written with")
        for name, value in json.loads(json.dumps(identity)).items():
            if found.get(name) != value:
                raise self._foreign(f"is of another fit, with {name} {_short(found.get(name))}", _short(value))
        return tensors, epoch

    def _foreign(self, what: str, expected: str) -> ForeignCheckpoint:
        return ForeignCheckpoint(
            f"the checkpoint {str(self.path)!r} {what}, expected {expected}. Try another path, or delete it to start anew."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:36] + "...'"
