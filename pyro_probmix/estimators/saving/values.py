"""Parameters and attributes of a model as JSON holds them, and back."""

from __future__ import annotations

__all__ = ["OWN", "OWN_CODE", "plain_value", "python_value"]

import re
from dataclasses import asdict
from typing import Any

import numpy as np

from pyro_probmix.columns.schema import Schema
from pyro_probmix.estimators.saving.entries import has_entries, need
from pyro_probmix.estimators.saving.fields import check_method
from pyro_probmix.models import Method

#: Stands for a Python object of the user's, which has to be given again.
OWN = {"own": True}
#: Parameters that may be code.
OWN_CODE = ("encoder", "likelihood")
#: Bytes of an array of names or classes, whatever is in it; and for each character.
ARRAY, ARRAY_OF_EACH = 2**24, 64


def python_value(name: str, value: Any) -> Any:
    """The value of a parameter or attribute that a record holds.

    Raises:
        ValueError: for what save() does not write, such as lists in lists.
    """
    if isinstance(value, list):
        need(all(isinstance(entry, str | bool | int | float | None) for entry in value), name, value, "a flat list")
        return tuple(value)
    if isinstance(value, dict) and list(value) == ["method"]:
        check_method(value["method"])
        fields: Any = {field: tuple(v) if isinstance(v, list) else v for field, v in value["method"].items()}
        return Method(**fields)
    if isinstance(value, dict) and list(value) == ["columns"]:
        need(isinstance(value["columns"], list), name, value, "a list of columns")
        return Schema.from_record(value["columns"])
    if isinstance(value, dict):
        return _array(name, value)
    return value


def _array(name: str, value: dict[str, Any]) -> Any:
    has_entries(name, value, ("array", "type"))
    entries, kind = value["array"], value["type"]
    flat = isinstance(entries, list) and all(isinstance(entry, str | bool | int | float) for entry in entries)
    need(flat, name, entries, "a flat list")
    need(
        isinstance(kind, str) and bool(re.fullmatch(r"[<>|=]?[biufUO][0-9]{0,9}", kind)),
        name,
        kind,
        "a type of NumPy's",
    )
    try:
        dtype = np.dtype(kind)
        room = ARRAY + ARRAY_OF_EACH * sum(len(str(entry)) for entry in entries)
        need(dtype.itemsize * len(entries) <= room, name, kind, "a type that fits the entries")
        found = np.array(entries, dtype=dtype)
        # As wide as the longest text: predictions repeat an entry for each row, whatever width the file asks for.
        return found.astype(f"U{max(map(len, found.tolist()), default=1) or 1}") if dtype.kind == "U" else found
    except (TypeError, OverflowError) as error:
        raise ValueError(f"its {name} cannot be an array of {kind}: {error}") from None


def plain_value(name: str, value: Any) -> Any:
    """A value as JSON holds it; lists stand for tuples, and arrays say their type."""
    if name == "callbacks":
        return []
    if name == "random_state":
        return int(value) if isinstance(value, int | np.integer) else None
    if name in OWN_CODE and not isinstance(value, str | None):
        return OWN
    if isinstance(value, Method):
        return {"method": asdict(value)}
    if isinstance(value, Schema):
        return {"columns": value.record()}
    if isinstance(value, np.ndarray):
        entries = value.tolist()
        if value.dtype.kind in "biufUO" and all(isinstance(entry, str | bool | int | float) for entry in entries):
            return {"array": entries, "type": value.dtype.str}
    elif isinstance(value, np.generic):
        return value.item()
    elif isinstance(value, list | tuple):
        return [plain_value(name, entry) for entry in value]
    elif value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(
        f"the model cannot be saved with {name} of type {type(value).__name__}, expected numbers or text. "
        "Try joblib.dump, which keeps any Python object."
    )
