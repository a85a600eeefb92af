"""Tensors and a record of settings in one safetensors file, sealed as a whole: what is read is what was written, or refused."""

from __future__ import annotations

__all__ = ["DamagedFile", "read_sealed", "under", "write_sealed"]

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save_file
from torch import Tensor

from pyro_probmix.files import write_file
from pyro_probmix.inference.data.digests import digest


class DamagedFile(ValueError):
    """A file is not as :func:`write_sealed` wrote it, or something else."""


def write_sealed(
    path: str | os.PathLike[str], entry: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor], *, advice: str
) -> None:
    """Writes a record and tensors, whole or not at all.

    Args:
        path: of the file.
        entry: the name of the record in the file's header, which says what kind of file it is.
        record: as JSON holds it, without the entries ``names`` and ``digest``.
        tensors: by name; copied, since a file holds no two tensors that share memory.
        advice: what to try if the file cannot be written, a sentence.

    Raises:
        OSError: if it cannot be written; what was there before stays.
    """
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    whole = {**record, "names": list(copies)}
    # One entry: the order of several in the file is not fixed.
    header = {entry: json.dumps(whole | {"digest": seal(whole, copies)})}
    write_file(path, lambda place: save_file(copies, place, header), advice=advice, errors=(SafetensorError,))


def read_sealed(path: str | os.PathLike[str], entry: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what :func:`write_sealed` wrote; takes memory in proportion to the file's size, whatever it holds.

    The seal finds damage. It is no signature: whoever writes a file can seal it.

    Returns:
        the record, whose values may still be anything, and the tensors by name.

    Raises:
        DamagedFile: unless the record and the tensors are those that were written.
        OSError: if there is no such file, or it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        record = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][entry])
        sealed = record.pop("digest")
        tensors = dict(sorted(tensors_of(data).items()))
        intact = sealed == seal(record, tensors) and record.pop("names") == list(tensors)
    except Exception as error:  # whatever the readers of JSON and of tensors say about bytes that may be anything
        raise DamagedFile(str(error)) from error
    if not intact:
        raise DamagedFile("its digest is another")
    return record, tensors


def seal(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A checksum of a record and of tensors in the order of their names."""
    return hashlib.sha256((json.dumps(record) + digest(*tensors.values())).encode()).hexdigest()


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
