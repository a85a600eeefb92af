"""Runs the audit: a folder for each setting of a method that differs from the others, as any run's, which is resumed."""

from __future__ import annotations

__all__ = ["Plan", "numbers_in", "plan", "run_plan"]

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pyro_probmix.experiments.audit.design import Part, canonical, design, methods_of
from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.run.jobs import LAST_EPOCH, list_jobs
from pyro_probmix.experiments.run.record import recorded_config
from pyro_probmix.experiments.run.results import RunFolder
from pyro_probmix.experiments.run.runner import choose_device
from pyro_probmix.experiments.run.sweep import run

#: What follows the name of a setting's folder where further methods were run later, with a number.
_FURTHER = "@"


@dataclass(frozen=True)
class Plan:
    """One folder of the audit.

    Attributes:
        folder: its place in the audit's.
        config: what is run there.
    """

    folder: str
    config: Config


def plan(name: str, part: Part, methods: Sequence[str], splits: Sequence[int], *, full: bool = False) -> list[Plan]:
    """The runs of a data set: one for each set of levels that a method depends on, the methods of equal ones together.

    Args:
        name: of the data set, the name of its folder.
        part: the data set.
        methods: names; none for all.
        splits: the seeds, or published splits; none for those of the experiment.
        full: all combinations, not the fraction.
    """
    config = replace(part.config, splits=tuple(splits) or part.config.splits)
    found: dict[str, Config] = {}
    for point in design(part, full=full):
        for method in methods_of(part, methods):
            folder, changes = canonical(part, point, method)
            one = found.setdefault(folder, replace(config, **changes, methods=()))
            if method not in one.methods:
                found[folder] = replace(one, methods=(*one.methods, method))
    return [Plan(f"{name}/{folder}", one) for folder, one in found.items()]


def run_plan(plans: Sequence[Plan], out: Path, data_dir: str | None = None, device: str = "auto") -> None:
    """Runs what the folders do not hold yet.

    Raises:
        ValueError: for a configuration that cannot run, before any does, or a folder that holds another run.
    """
    plans = [replace(one, config=replace(one.config, data_dir=data_dir, device=device)) for one in plans]
    _check(plans)
    bar = tqdm(plans, unit="setting", mininterval=30.0)
    for one in bar:
        bar.set_description(one.folder)
        for place, config, asked in _places(out / one.folder, one.config):
            jobs = list_jobs(config)
            config = replace(config, **{name: getattr(jobs[0].config, name) for name in ("task", "beta", "labels")})
            folder = RunFolder(place, config, str(choose_device(device)))
            run([job for job in folder.unfinished(jobs) if job.config.methods[0] in asked], folder)


def _check(plans: Sequence[Plan]) -> None:
    """Raises ValueError for a configuration, method or data set with which a later setting would fail."""
    of_data: dict[tuple[str, str], Config] = {}
    for one in plans:
        check_config(one.config)
        first = of_data.setdefault((one.config.experiment, one.config.dataset), one.config)
        methods = tuple(dict.fromkeys((*first.methods, *one.config.methods)))
        of_data[one.config.experiment, one.config.dataset] = replace(first, methods=methods)
    for config in of_data.values():
        list_jobs(config)


def _places(place: Path, config: Config) -> Iterator[tuple[Path, Config, set[str]]]:
    """The folders of a setting, the run in each, and the methods that are asked for there.

    A run's methods are fixed when it begins: those that no folder of the setting has yet get a further one beside it.
    """
    left = list(config.methods)
    for count in itertools.count(1):
        path = place if count == 1 else place.with_name(f"{place.name}{_FURTHER}{count}")
        recorded = recorded_config(path)
        if recorded is None:
            break
        there = tuple(recorded.get("methods", ()))
        yield path, replace(config, methods=there), {method for method in left if method in there}
        left = [method for method in left if method not in there]
    if left:
        yield path, replace(config, methods=tuple(left)), set(left)


def numbers_in(out: Path, data: str, setting: str = "*") -> Iterator[tuple[str, pd.DataFrame]]:
    """The name and the numbers of each folder of a setting.

    Args:
        out: the folder of all.
        data: the folder of a data set in it.
        setting: a folder in that.

    Returns:
        pairs of a setting's folder and a run's results, with a column ``epoch``, "validation" or "last".
    """
    names = (setting, f"{setting}{_FURTHER}*")
    for file in sorted({file for name in names for file in out.glob(f"{data}/{name}/results.parquet")}):
        rows = pd.read_parquet(file)
        epoch = rows["setting"].str.endswith(LAST_EPOCH).map({True: "last", False: "validation"})
        yield file.parent.name.partition(_FURTHER)[0], rows.assign(epoch=epoch)
