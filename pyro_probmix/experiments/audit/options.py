"""The options of ``probmix run`` that an experiment of many runs takes."""

from __future__ import annotations

__all__ = ["Options", "options_of"]

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_probmix.models import find_method
from pyro_probmix.names import shown

#: What its runs set themselves, or what is for other data sets.
_MEANINGLESS = (
    "target", "task", "network", "epochs", "patience", "alpha", "beta", "graph", "criterion", "particles", "jobs", "backend",
    "address", "chunk",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        datasets, methods: names, each once; none for the experiment's own.
        setting: a name; None for the experiment's own.
        out: the folder.
        data_dir: the folder with the data sets.
        device: where it runs.
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    setting: str | None
    out: Path
    data_dir: str | None
    device: str


def options_of(arguments: argparse.Namespace, settings: Sequence[str] = ()) -> Options:
    """The options of a command, checked before anything runs.

    Args:
        arguments: of ``probmix run``.
        settings: the names that ``--setting`` may have, first the default; none if there is nothing to set.

    Raises:
        ValueError: for an option that has no meaning for the experiment, an unknown method or setting, or no folder.
    """
    name = arguments.experiment
    meaningless = _MEANINGLESS if settings else (*_MEANINGLESS, "setting")
    given = [option for option in meaningless if getattr(arguments, option) is not None]
    if given:
        further = f", --method or --setting {settings[-1]}" if settings else " or --method"
        raise ValueError(
            f"--{given[0].replace('_', '-')} has no meaning for {name}, expected none. Try --dataset, --seeds{further}."
        )
    if arguments.setting not in (None, *settings):
        default, *others = settings
        raise ValueError(
            f"--setting is {shown(arguments.setting)} for {name}, expected {default} (default) or {', '.join(others)}. Try "
            "leaving it out."
        )
    if arguments.out == "":
        raise ValueError("--out is empty, expected a folder. Try --out runs/mine, or leaving it out.")
    methods = _names(arguments.method or ())
    for method in methods:
        find_method(method)
    datasets = () if arguments.dataset is None else _names([arguments.dataset])
    out = Path(arguments.out or f"runs/{name}")
    return Options(datasets, methods, arguments.setting, out, arguments.data_dir, arguments.device or "auto")


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for names in given for name in names.split(",")))
