"""Paired differences as tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pyro_probmix.experiments.report.numbers.paper import scaled
from pyro_probmix.experiments.report.numbers.tidy import (
    counterpart,
    groups,
    in_order,
    lower_is_better,
    paired,
    settings_of,
    tabulated,
)
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text, number, spread
from pyro_probmix.experiments.report.tables.beside import row_name
from pyro_probmix.experiments.report.tables.scores import LABELS

__all__ = ["paired_tables"]


def paired_tables(results: pd.DataFrame) -> list[Block]:
    """Paired differences over the splits: each method against ERM, and against its counterpart."""
    rows = scaled(tabulated(results))
    methods = in_order(rows["method"])
    against_erm = [(name, "ERM") for name in methods if name != "ERM"]
    counterparts = [(name, other) for name in methods if (other := counterpart(name)) in methods and other != "ERM"]
    blocks: list[Block] = []
    for metric, label in LABELS.items():
        for pairs, what in (
            (against_erm, "each method minus ERM"),
            (counterparts, "each method minus its counterpart"),
        ):
            found = paired(rows, metric, [(a, str(b)) for a, b in pairs])
            if len(found):
                columns = [
                    pair for pair in pairs if (found["method"].eq(pair[0]) & found["reference"].eq(pair[1])).any()
                ]
                blocks.append(_paired(found, columns, metric, f"{label}, {what}", with_reference=pairs is counterparts))
    if not blocks:
        return [Text("Left out: these runs hold no two methods on the same splits.")]
    note = (
        "Mean over the splits of the paired difference, and its standard error. ● ahead, ○ behind, by more than two standard "
        "errors. Published splits share most of their training rows, so that the standard errors are on the small side. RMSE "
        "of kin8nm and naval x 100, as in Table 3; of stocks in dollars."
    )
    return [Text(note), *blocks]


def _paired(
    found: pd.DataFrame, pairs: Sequence[tuple[str, str]], metric: str, caption: str, *, with_reference: bool
) -> Table:
    tally = {setting: {pair: [0, 0, 0] for pair in pairs} for setting in settings_of(found)}
    rows = []
    for (_, dataset, network), group in groups(found, ["experiment", "dataset", "network"]):
        for k, setting in enumerate(s for s in tally if s in set(group["setting"])):
            part = group[group["setting"] == setting]
            keys = list(zip(part["method"], part["reference"], strict=True))
            gaps = dict(zip(keys, zip(part["difference"], part["error"], strict=True), strict=True))
            line = []
            for pair in pairs:
                cell = _difference(*gaps[pair], metric) if pair in gaps else Cell("")
                line.append(cell)
                for k_th, hit in enumerate((cell.kind == "ahead", cell.kind == "behind", pair in gaps)):
                    tally[setting][pair][k_th] += int(hit)
            head = Cell(row_name(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            rows.append(Row((*head, *line), first=k == 0))
    for k, (setting, tallied) in enumerate(tally.items()):
        line = [Cell(f"● {ahead}  ○ {behind}", f"of {total}") for ahead, behind, total in tallied.values()]
        head = Cell("data sets ahead, behind" if k == 0 else "", kind="head"), Cell(setting, kind="head")
        rows.append(Row((*head, *line), first=k == 0))
    names = [f"{a}\n- {b}" if with_reference else a for a, b in pairs]
    return Table(("data set", "setting", *names), tuple(rows), caption, heads=2)


def _difference(gap: float, error: float, metric: str) -> Cell:
    gain = -gap if lower_is_better(metric) else gap
    kind, mark = "", ""
    if gain > 2 * error:
        kind, mark = "ahead", "●"
    elif gain < -2 * error:
        kind, mark = "behind", "○"
    digits = 3 if metric == "accuracy" or abs(gap) < 1 else 2
    sign = "+" if round(gap, digits) > 0 else ""
    return Cell(f"{sign}{number(gap, digits)}", spread(error, digits), mark=mark, kind=kind)
