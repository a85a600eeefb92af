"""Paired differences as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

import pandas as pd

from pyro_probmix.experiments.report.claims.evidence import diverged_as_worst
from pyro_probmix.experiments.report.claims.paired import SHARED_ROWS, Difference, Paired, by_medians
from pyro_probmix.experiments.report.claims.verdicts import LEVEL
from pyro_probmix.experiments.report.numbers.paper import scaled
from pyro_probmix.experiments.report.numbers.tidy import counterpart, groups, in_order, settings_of, tabulated
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text, diverged, number, spread
from pyro_probmix.experiments.report.tables.beside import row_name
from pyro_probmix.experiments.report.tables.scores import LABELS

__all__ = ["paired_tables"]

_PLACE = ("experiment", "dataset", "network", "setting")
#: Experiments whose runs are splits of one table, in words.
_OF_ONE_TABLE = {"uci": "UCI sets", "table": "Tables of yours"}
#: A method, and what it is compared with.
Pair = tuple[str, str]
#: At experiment, data set, network and setting, the pairs that have runs in common.
Differences = Mapping[tuple[str, ...], Mapping[Pair, Difference]]


def paired_tables(results: pd.DataFrame) -> list[Block]:
    """Paired differences over the runs: each method against ERM, and against its counterpart."""
    rows = diverged_as_worst(scaled(tabulated(results)))
    methods = in_order(rows["method"])
    against_erm = [(name, "ERM") for name in methods if name != "ERM"]
    counterparts = [(name, other) for name in methods if (other := counterpart(name)) in methods and other != "ERM"]
    tables: list[Block] = []
    shown: list[tuple[str, Difference]] = []
    for metric, label in LABELS.items():
        for pairs, what in (
            (against_erm, "each method minus ERM"),
            (counterparts, "each method minus its counterpart"),
        ):
            found = _differences(rows, metric, pairs)
            if found:
                caption = f"{label}, {what}"
                tables.append(_paired(found, pairs, settings_of(rows), caption, with_reference=pairs is counterparts))
                shown += [(experiment, gap) for (experiment, *_), gaps in found.items() for gap in gaps.values()]
    if not tables:
        return [Text("Left out: these runs hold no two methods on the same splits.")]
    return [*(Text(note) for note in _notes(shown)), *tables]


def _differences(rows: pd.DataFrame, metric: str, pairs: Sequence[Pair]) -> Differences:
    found = {}
    for key, part in groups(rows[rows["metric"] == metric], _PLACE):
        both = Paired(part.pivot(index="split", columns="method", values="value"), key[0], metric)
        gaps = {pair: gap for pair in pairs if (gap := both.difference(*pair)) is not None}
        if gaps:
            found[key] = gaps
    return found


def _notes(shown: Sequence[tuple[str, Difference]]) -> Iterator[str]:
    """What stands in the tables, and what its marks mean."""
    yield " ".join(_of_numbers({experiment for experiment, _ in shown}))
    tested = sum(gap.runs > 1 for _, gap in shown)
    chance = number(LEVEL * tested, 0 if LEVEL * tested >= 10 else 1)
    yield (
        f"● ahead, ○ behind: p < {LEVEL:g}, two-sided, in this comparison by itself. Nothing allows for their number: of the "
        f"{tested} comparisons in these tables about {chance} would be marked by chance, if all methods were alike."
    )


def _of_numbers(experiments: Set[str]) -> Iterator[str]:
    """What the numbers of each kind of experiment are."""
    splits = [name for key, name in _OF_ONE_TABLE.items() if key in experiments]
    seeds = sorted(name for name in experiments if not by_medians(name) and name not in SHARED_ROWS)
    yield "A difference is over the runs that both methods have."
    if any(map(by_medians, experiments)):
        yield (
            "Toys: the difference of the medians and its 95 % bootstrap interval, since a few runs have an NLL many times the "
            "others' and decide any mean; a run that diverged counts as the worst. p is by the bootstrap, and of few runs "
            "larger than the interval says."
        )
    if splits:
        yield (
            f"{' and '.join(splits)}: the mean over the splits of the paired difference ± its standard error, which allows for "
            "the rows that splits share (Nadeau and Bengio, 2003), and p by Student's t."
        )
    if seeds:
        yield (
            f"{', '.join(seeds).capitalize()}: the mean over the seeds of the paired difference ± its standard error, and p by "
            "Student's t."
        )
    if splits or seeds:
        yield "Behind a mean, (n of m): over the n of m runs on which both have a number."
    if "uci" in experiments:
        yield "RMSE of kin8nm and naval x 100, as in Table 3."
    if "stocks" in experiments:
        yield (
            "All seeds of a stock have one span of time: an error tells of the training, not of other years. RMSE of stocks in "
            "dollars."
        )


def _paired(
    found: Differences, pairs: Sequence[Pair], settings: Sequence[str], caption: str, *, with_reference: bool
) -> Table:
    columns = [pair for pair in pairs if any(pair in gaps for gaps in found.values())]
    shown = [setting for setting in settings if any(key[3] == setting for key in found)]
    rows = []
    for experiment, dataset, network in dict.fromkeys(key[:3] for key in found):
        here = {setting: found.get((experiment, dataset, network, setting), {}) for setting in shown}
        for k, (setting, gaps) in enumerate((setting, gaps) for setting, gaps in here.items() if gaps):
            head = Cell(row_name(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            line = (_cell(gaps[pair]) if pair in gaps else Cell("") for pair in columns)
            rows.append(Row((*head, *line), first=k == 0))
    for k, setting in enumerate(shown):
        head = Cell("data sets ahead, behind" if k == 0 else "", kind="head"), Cell(setting, kind="head")
        own = [gaps for key, gaps in found.items() if key[3] == setting]
        line = (_tally([gaps[pair].side for gaps in own if pair in gaps]) for pair in columns)
        rows.append(Row((*head, *line), first=k == 0))
    names = [f"{a}\n- {b}" if with_reference else a for a, b in columns]
    return Table(("data set", "setting", *names), tuple(rows), caption, heads=2)


def _tally(sides: Sequence[str]) -> Cell:
    return Cell(f"● {sides.count('ahead')}  ○ {sides.count('behind')}", f"of {len(sides)}")


def _cell(gap: Difference) -> Cell:
    digits = 3 if abs(gap.value) < 1 else 2
    sign = "+" if round(gap.value, digits) > 0 else ""
    small = spread(gap.error, digits) + diverged(gap.runs, gap.of)
    if gap.interval:
        small = "[{}, {}]".format(*(number(end, digits) for end in gap.interval))
    kind, mark = {"ahead": ("ahead", "●"), "behind": ("behind", "○"), "open": ("", "")}[gap.side]
    return Cell(f"{sign}{number(gap.value, digits)}", small.strip(), mark=mark, kind=kind)
