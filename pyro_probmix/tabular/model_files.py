"""The folder of a model: ``table.json``, which is checked before anything is read of it, and the estimator's file."""

from __future__ import annotations

__all__ = ["FORMAT", "OWN_MODEL", "Record", "digest", "is_record", "read_record", "told_of"]

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_probmix.files import regular
from pyro_probmix.moves import UnfinishedError
from pyro_probmix.names import printable, shown
from pyro_probmix.tabular.column import Column, restored
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.targets import Ends

#: The format of ``table.json``; a model of another one is refused.
FORMAT = 4
#: The names of files of estimators in a model's folder.
OWN_MODEL = re.compile(r"model-[0-9a-f]{16}\.safetensors")


@dataclass(frozen=True)
class Record:
    """The content of a model's ``table.json``; the fields are those of a :class:`~pyro_probmix.tabular.model.TableModel`.

    Attributes:
        model: the estimator's file.
    """

    columns: Columns
    targets: tuple[str, ...]
    meanings: tuple[Column, ...]
    impute: bool
    ranges: tuple[tuple[float, float], ...]
    ends: Ends | None
    model: Path


def read_record(path: Path) -> Record:
    """Reads ``table.json`` in a model's folder, and checks its digests.

    Raises:
        ValueError: if it is of another version, damaged, or was changed, or it cannot be read.
    """
    file, found = path / "table.json", None
    with told_of(path):
        record = json.loads(regular(file).read_text("utf-8"))
        version = record["format"]
        if version == FORMAT:
            found = _intact(record, path)
    if version != FORMAT:
        way = "fitting it again" if isinstance(version, int) and version < FORMAT else "a newer pyro_probmix"
        raise ValueError(f"{shown(file)} has format {shown(version)}, expected {FORMAT}. Try {way}.")
    if found is None:
        raise ValueError(f"{shown(path)} is damaged or was changed since probmix fit wrote it. Try fitting it again.")
    return found


def _intact(record: dict[str, Any], path: Path) -> Record | None:
    """The content of a record; None where a digest is not that of what is there."""
    if record.pop("digest") != digest(record):
        return None
    columns, meanings = Columns.from_record(record), Columns.from_record({"columns": record["meanings"], "notes": []})
    ranges = tuple((float(low), float(high)) for low, high in record["ranges"])
    ends = None if record["ends"] is None else Ends(restored(record["ends"]))
    if ends is not None and ends.column.kind not in ("number", "boolean"):
        raise ValueError("the ends of a target are neither numbers nor truth values")
    model = path / Path(record["model"]).name
    found = Record(columns, tuple(record["targets"]), meanings.columns, bool(record["impute"]), ranges, ends, model)
    whole = model.is_file() and hashlib.sha256(model.read_bytes()).hexdigest() == record["sha256"]
    return found if whole else None


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a model's folder is read into a ValueError that names it."""
    file = path / "table.json"
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{shown(path)} holds no model: there is no {shown(file)}. Try probmix fit first.") from None
    except UnfinishedError:
        raise
    except OSError as error:
        raise ValueError(
            f"the model in {shown(path)} cannot be read ({error.strerror or printable(error)}). "
            "Try another path, or a copy of the folder."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{shown(file)} is damaged, expected a model as probmix fit wrote it. Try fitting it again."
        ) from None


def is_record(path: Path, beside_model: bool) -> bool:
    """Whether a ``table.json`` is of a model of any format, or a damaged one beside a model."""
    try:
        record = json.loads(regular(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return beside_model
    return isinstance(record, dict) and {"format", "targets", "columns"} <= set(record)


def digest(record: dict[str, Any]) -> str:
    """The digest of all that ``table.json`` holds, which includes the digest of the estimator's file."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
