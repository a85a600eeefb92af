"""Runs the audit: a folder for each setting of a method that differs from the others, as any run's, which is resumed."""

from __future__ import annotations

__all__ = ["Plan", "plan", "run_plan"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from pyro_probmix.experiments.audit.design import Part, canonical, design, methods_of
from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.run.jobs import list_jobs
from pyro_probmix.experiments.run.results import RunFolder
from pyro_probmix.experiments.run.runner import choose_device
from pyro_probmix.experiments.run.sweep import run


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
    """Runs what the folders do not hold yet."""
    bar = tqdm(plans, unit="setting", mininterval=30.0)
    for one in bar:
        bar.set_description(one.folder)
        config = replace(one.config, data_dir=data_dir, device=device)
        check_config(config)
        jobs = list_jobs(config)
        config = replace(config, **{name: getattr(jobs[0].config, name) for name in ("task", "beta", "labels")})
        folder = RunFolder(out / one.folder, config, str(choose_device(device)))
        run(folder.unfinished(jobs), folder)
