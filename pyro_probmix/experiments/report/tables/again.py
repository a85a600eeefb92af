"""The claims on the toys decided twice, by two halves of the runs that share nothing."""

from __future__ import annotations

__all__ = ["again_table", "flips", "twice"]

from collections.abc import Iterator

import pandas as pd

from pyro_probmix.experiments.report.claims import CLAIMS, verdicts
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Verdict
from pyro_probmix.experiments.report.numbers.tidy import settings_of
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text

#: So many runs of a toy are divided in two; fewer decide too little.
FEWEST = 40
_TOYS = ("toy-regression", "toy-classification", "ablation-regression", "ablation-classification")
#: The letters that the claims on the toys begin with.
_OF_TOYS = ("R", "C")


def twice(results: pd.DataFrame, setting: str) -> list[tuple[str, Verdict, Verdict]]:
    """Each claim on the toys with its verdicts by the first and by the second half of the seeds; none for few seeds."""
    grids = results["experiment"].str.startswith("ablation") & (setting == "fixed")  # whose alpha and beta are ours
    toys = results[results["experiment"].isin(_TOYS) & ((results["setting"] == setting) | grids)]
    seeds = toys.groupby("experiment")["split"].nunique()
    large = seeds[seeds >= FEWEST].index
    toys = toys[toys["experiment"].isin(large)]
    if toys.empty:
        return []
    middle = toys["experiment"].map(
        {name: pd.Series(of.unique()).median() for name, of in toys.groupby("experiment")["split"]}
    )
    first, second = (
        verdicts(Evidence(half, setting)) for half in (toys[toys["split"] < middle], toys[toys["split"] >= middle])
    )
    return [
        (claim.id, one, two)
        for claim, one, two in zip(CLAIMS, first, second, strict=True)
        if claim.id.startswith(_OF_TOYS) and "not measured" not in (one.outcome, two.outcome)
    ]


def flips(pairs: list[tuple[str, Verdict, Verdict]]) -> list[str]:
    """The claims that one half supports and the other contradicts."""
    return [name for name, one, two in pairs if {one.outcome, two.outcome} == {"supported", "contradicted"}]


def again_table(results: pd.DataFrame) -> list[Block]:
    """Whether the verdicts on the toys would come out again."""
    found = {setting: pairs for setting in settings_of(results) if (pairs := twice(results, setting))}
    if not found:
        return [Text(f"Left out: no toy has {FEWEST} runs or more here. Try probmix run toy-regression --seeds 320.")]
    return [block for setting, pairs in found.items() for block in _of_setting(setting, pairs)]


def _of_setting(setting: str, pairs: list[tuple[str, Verdict, Verdict]]) -> Iterator[Block]:
    rows = tuple(
        Row((Cell(name, kind="head"), Cell(one.outcome), Cell(two.outcome)), first=False) for name, one, two in pairs
    )
    runs = max(one.runs for _, one, _ in pairs)
    turned = flips(pairs)
    same = sum(one.outcome == two.outcome for _, one, two in pairs)
    yield Text(
        f"Setting {setting}: of {len(pairs)} claims, {same} have the same verdict by either half; "
        + ("none is supported by one and contradicted by the other." if not turned else f"turned: {', '.join(turned)}.")
    )
    caption = (
        f"Verdicts by the first and by the second half of the seeds, {runs} at most in each, of other data and weights."
    )
    yield Table(("claim", "first half", "second half"), rows, caption)
