"""The record of a run in its ``config.json``, and the comparison of a folder's run with another."""

from __future__ import annotations

__all__ = ["check_same", "digest_of", "record_of", "recorded_config", "versions_of_packages"]

import hashlib
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pyro_probmix import __version__
from pyro_probmix.experiments.config import PROVENANCE, Config
from pyro_probmix.experiments.config.comparison import DEFAULTS, PLACES, as_json, differences, same_method
from pyro_probmix.experiments.run.runner import CHOICES, graph_name
from pyro_probmix.files import regular
from pyro_probmix.models import find_method
from pyro_probmix.names import shown


def record_of(config: Config, device: str) -> dict[str, Any]:
    """The configuration as JSON, with its provenance: device, fixed choices, methods in full, versions, digest of the file."""
    named = {name: find_method(name) for name in config.methods}
    methods = {name: {**asdict(one), "graph": graph_name(config, one)} for name, one in named.items()}
    provenance = dict(
        zip(PROVENANCE, (device, CHOICES, methods, versions_of_packages(), _file_digest(config)), strict=True)
    )
    return as_json(asdict(config) | provenance)


def check_same(path: Path, recorded: dict[str, Any], record: dict[str, Any]) -> None:
    """Raises ValueError if a folder's run is another one: with other options, other methods of the same names, another file."""
    for name, had, wanted in differences(recorded, record):
        raise ValueError(
            f"the folder {shown(path)} holds another run, with {name} {shown(had)}, not {shown(wanted)}. Try another --out."
        )
    for name in record["methods_in_full"]:
        if not same_method(recorded, record, name):
            raise ValueError(f"the folder {shown(path)} holds a run of another method {name}. Try another --out.")
    if recorded.get("sha256", record["sha256"]) != record["sha256"]:
        raise ValueError(
            f"the folder {shown(path)} holds a run on {shown(record['dataset'])} as it was before it changed. Try "
            "another --out."
        )


def recorded_config(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The configuration of the run that a folder holds; None if it holds none.

    Raises:
        ValueError: if its ``config.json`` is not a run's.
    """
    file = Path(path) / "config.json"
    try:
        recorded = json.loads(regular(file).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"{shown(file)} cannot be read ({error.strerror}). Try another --out.") from None
    except (ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict) or "experiment" not in recorded:
        raise ValueError(f"{shown(file)} is not a run's configuration. Try another --out.")
    return recorded


def _file_digest(config: Config) -> str | None:
    """The digest of a user's table; None where there is no such file."""
    file = Path(config.dataset)
    if config.experiment != "table" or not file.is_file():
        return None
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{shown(config.dataset)} could not be read ({error.strerror}). Try another file.") from None


def digest_of(config: Config) -> str:
    """The digest of the options that a run's numbers depend on, by which its cells are recognised."""
    # Options that a later version adds leave the digest as it is while they have their defaults.
    deciding = {
        k: v for k, v in as_json(asdict(config)).items() if k not in PLACES and (k not in DEFAULTS or v != DEFAULTS[k])
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def versions_of_packages() -> dict[str, str]:
    """The versions of Python and of the packages that a run's numbers depend on."""
    packages = ("pyro-ppl", "numpy", "pandas", "scikit-learn")
    # As torch says it, which includes the build, such as +cu130.
    versions = {"pyro_probmix": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    return versions | {name: version(name) for name in packages}
