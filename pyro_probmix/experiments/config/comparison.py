"""In which options two recorded runs differ, whatever versions recorded them."""

from __future__ import annotations

__all__ = ["DEFAULTS", "PLACES", "as_json", "differences", "same_method"]

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from pyro_probmix.experiments.config.config import Config

#: Options of where a run computes and reads from, which may differ when it is resumed.
PLACES = ("device", "data_dir")


def as_json(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it is read back, with lists for tuples."""
    read: dict[str, Any] = json.loads(json.dumps(record))
    return read


DEFAULTS = as_json({one.name: one.default for one in fields(Config) if one.default is not MISSING})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The options in which two records of runs differ, with the value in each; one that a record lacks came later.

    Args:
        one, other: as ``config.json`` holds them.
    """
    for name in (field.name for field in fields(Config) if field.name not in PLACES):
        own, theirs = (record.get(name, DEFAULTS.get(name)) for record in (one, other))
        if own != theirs:
            yield name, own, theirs


def same_method(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether a method of a name is the same in two records, as far as the first one describes it."""
    method, told = ((record.get("methods_in_full") or {}).get(name) or {} for record in (other, one))
    return all(method.get(k) == v for k, v in told.items())
