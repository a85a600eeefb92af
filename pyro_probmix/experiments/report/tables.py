"""The report's other tables: runs, scores, paired differences, claims, the embedding's mean, cost, choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.experiments.report.beside import place
from pyro_probmix.experiments.report.claims import CLAIMS, paper_evidence, verdicts
from pyro_probmix.experiments.report.evidence import Verdict
from pyro_probmix.experiments.report.numbers import (
    cells,
    counterpart,
    in_order,
    lower_is_better,
    paired,
    settings_of,
    tabulated,
)
from pyro_probmix.experiments.report.page import Block, Cell, Row, Table, Text, number, spread
from pyro_probmix.experiments.report.paper import paper_tables, scaled
from pyro_probmix.experiments.report.reading import KEYS, Run

__all__ = [
    "choices_table",
    "claims_table",
    "cost_table",
    "embedding_table",
    "other_scores",
    "paired_tables",
    "runs_table",
]

LABELS = {"nll": "NLL", "rmse": "RMSE", "accuracy": "accuracy"}


def runs_table(runs: Sequence[Run]) -> list[Block]:
    """What was run: one row for each folder."""
    rows = []
    for run in runs:
        config, results = run.config or {}, run.results
        versions = config.get("versions") or {}
        named = [setting for setting in settings_of(results)]
        grid = results["setting"].nunique() - len(named)
        settings = [*named, *([f"a grid of {grid}"] if grid else [])]
        rows.append(
            Row(
                (
                    Cell(run.path.resolve().name, kind="head"),
                    Cell(", ".join(results["experiment"].unique())),
                    Cell("; ".join(place(d, n) for d, n in _distinct(results, ["dataset", "network"]))),
                    Cell(", ".join(settings)),
                    Cell(str(results["method"].nunique())),
                    Cell(str(results["split"].nunique())),
                    Cell(str(config.get("epochs", "–"))),
                    Cell(str(config.get("ran_on", "–"))),
                    Cell(", ".join(f"{k} {versions[k]}" for k in ("pyro_probmix", "torch") if k in versions) or "–"),
                )
            )
        )
    head = ("run", "experiment", "data sets", "settings", "methods", "splits", "epochs", "device", "versions")
    blocks: list[Block] = [Table(head, tuple(rows), "The runs of this report.", wrap=True)]
    bare = [run.path.resolve().name for run in runs if run.config is None]
    if bare:
        blocks.append(Text(f"No config.json: {', '.join(bare)}; what it says is left out."))
    return blocks


def other_scores(results: pd.DataFrame) -> list[Block]:
    """Scores of the data sets that the paper has no table for: the toys, and users' tables."""
    known = set(zip(paper_tables()["dataset"], paper_tables()["network"], strict=True))
    rows = tabulated(results)
    rows = rows[rows["metric"].isin(LABELS)]
    new = [pair not in known for pair in zip(rows["dataset"], rows["network"], strict=True)]
    rows = rows[np.array(new, dtype=bool)]
    if rows.empty:
        return [Text("Left out: no run of a toy or of a table of your own is among these.")]
    methods = in_order(rows["method"])
    lines = []
    summed = cells(rows)
    for (_, dataset, network), group in summed.groupby(["experiment", "dataset", "network"], sort=False):
        first = True
        for metric in (name for name in LABELS if name in set(group["metric"])):
            for setting in settings_of(group):
                part = group[(group["metric"] == metric) & (group["setting"] == setting)].set_index("method")
                if len(part):
                    head = (
                        Cell(place(dataset, network) if first else "", kind="head"),
                        Cell(f"{LABELS[metric]}, {setting}", kind="head"),
                    )
                    lines.append(Row((*head, *_scores(part, methods, metric)), first=first))
                    first = False
    caption = "Scores, mean and standard deviation over the splits or seeds; ★ best of its row."
    return [Table(("data set", "numbers", *methods), tuple(lines), caption, heads=2)]


def _scores(part: pd.DataFrame, methods: list[str], metric: str) -> list[Cell]:
    digits = 3 if metric == "accuracy" else 2
    rounded = part["mean"].round(digits)
    best = rounded.min() if lower_is_better(metric) else rounded.max()
    return [
        Cell(number(part["mean"][name], digits), spread(part["std"][name], digits), best=rounded[name] == best)
        if name in part.index
        else Cell("")
        for name in methods
    ]


def paired_tables(results: pd.DataFrame) -> list[Block]:
    """Paired differences over the splits: each method against ERM, and against its counterpart."""
    rows = scaled(tabulated(results))
    methods = in_order(rows["method"])
    against_erm = [(name, "ERM") for name in methods if name != "ERM"]
    counterparts = [(name, other) for name in methods if (other := counterpart(name)) in methods and other != "ERM"]
    blocks: list[Block] = []
    for metric, label in LABELS.items():
        for pairs, what in ((against_erm, "each method minus ERM"), (counterparts, "each method minus its counterpart")):
            found = paired(rows, metric, [(a, str(b)) for a, b in pairs])
            if len(found):
                columns = [pair for pair in pairs if (found["method"].eq(pair[0]) & found["reference"].eq(pair[1])).any()]
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
    found: pd.DataFrame, pairs: Sequence[tuple[str, str | None]], metric: str, caption: str, *, with_reference: bool
) -> Table:
    sign = -1 if lower_is_better(metric) else 1
    tally = {setting: {pair: [0, 0, 0] for pair in pairs} for setting in settings_of(found)}
    rows = []
    for (_, dataset, network), group in found.groupby(["experiment", "dataset", "network"], sort=False):
        for k, setting in enumerate(s for s in tally if s in set(group["setting"])):
            part = group[group["setting"] == setting].set_index(["method", "reference"])
            line = []
            for pair in pairs:
                if pair not in part.index:
                    line.append(Cell(""))
                    continue
                gap, error = part.loc[pair, "difference"], part.loc[pair, "error"]
                ahead, behind = sign * gap > 2 * error, -sign * gap > 2 * error
                for place_of, hit in enumerate((ahead, behind, True)):
                    tally[setting][pair][place_of] += int(hit)
                kind, mark = ("ahead", "●") if ahead else ("behind", "○") if behind else ("", "")
                digits = 3 if metric == "accuracy" or abs(gap) < 1 else 2
                sign_shown = "+" if round(gap, digits) > 0 else ""
                line.append(Cell(f"{sign_shown}{number(gap, digits)}", spread(error, digits), mark=mark, kind=kind))
            head = Cell(place(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            rows.append(Row((*head, *line), first=k == 0))
    for k, (setting, tallied) in enumerate(tally.items()):
        line = [Cell(f"● {ahead}  ○ {behind}", f"of {total}") for ahead, behind, total in tallied.values()]
        head = Cell("data sets ahead, behind" if k == 0 else "", kind="head"), Cell(setting, kind="head")
        rows.append(Row((*head, *line), first=k == 0))
    names = [f"{a}\n- {b}" if with_reference else a for a, b in pairs]
    return Table(("data set", "setting", *names), tuple(rows), caption, heads=2)


def claims_table(found: Mapping[str, Sequence[Verdict]]) -> list[Block]:
    """Each claim, what the paper's own tables say to it, and what ours do under each setting.

    Args:
        found: setting -> :func:`verdicts`.
    """
    rows, left_out = [], []
    for claim, theirs, *ours in zip(CLAIMS, verdicts(paper_evidence()), *found.values(), strict=True):
        if not any(verdict.numbers for verdict in (theirs, *ours)):
            left_out.append(claim.id)
            continue
        rule = (f"Decided by: {claim.rule}.",) if claim.rule else ()
        paper = _verdict(theirs) if theirs.numbers else Cell("no numbers", kind="open")
        head = Cell(claim.id, claim.where, kind="head")
        rows.append(Row((head, Cell(claim.text, lines=rule), paper, *map(_verdict, ours))))
    lines: list[Block] = []
    for setting, ours in found.items():
        counter = Counter(verdict.outcome for verdict in ours)
        lines.append(
            Text(
                f"Setting {setting}: {counter['supported']} of {len(CLAIMS)} claims supported, {counter['contradicted']} "
                f"contradicted, {counter['not measured']} not measured or not in full."
            )
        )
    if left_out:
        lines.append(Text(f"Left out, since these runs hold no numbers for them: {', '.join(left_out)}."))
    note = Text(
        "A claim over several data sets is decided once enough of them are measured that the others cannot change the outcome. "
        'The paper\'s column holds each claim against the paper\'s own Tables 1 to 4; it gives no numbers for the toys. '
        "What the grids of the ablations say stands under the first setting. "
        '"±" is the standard error of a paired difference.'
    )
    columns = ("", "claim", "the paper's tables", *(f"ours, {setting}" for setting in found))
    return [note, *lines, Table(columns, tuple(rows), "The paper's claims.", wrap=True)]


def _verdict(verdict: Verdict) -> Cell:
    kinds = {"supported": ("ahead", "✓"), "contradicted": ("behind", "✗"), "not measured": ("open", "")}
    kind, mark = kinds[verdict.outcome]
    return Cell(verdict.outcome, lines=verdict.numbers, kind=kind, mark=mark)


def embedding_table(results: pd.DataFrame) -> list[Block]:
    """Drawn embeddings beside their means, for the methods that have both."""
    rows = scaled(tabulated(results))
    summed = cells(rows)
    blocks: list[Block] = []
    for metric, label in LABELS.items():
        both = summed[summed["metric"] == metric].merge(
            summed[summed["metric"] == f"{metric} (plug-in)"], on=KEYS, suffixes=("", "_mean")
        )
        if both.empty:
            continue
        methods = in_order(both["method"])
        digits = 3
        lines = []
        for (_, dataset, network), group in both.groupby(["experiment", "dataset", "network"], sort=False):
            for k, setting in enumerate(settings_of(group)):
                part = group[group["setting"] == setting].set_index("method")
                line = [
                    Cell(f"{number(part['mean'][name], digits)} / {number(part['mean_mean'][name], digits)}")
                    if name in part.index
                    else Cell("")
                    for name in methods
                ]
                head = Cell(place(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
                lines.append(Row((*head, *line), first=k == 0))
        caption = f"{label}: the mixture over draws of the embedding / its mean passed on; mean over the splits."
        blocks.append(Table(("data set", "setting", *methods), tuple(lines), caption, heads=2))
    return blocks or [Text("Left out: these runs hold no method with a drawn embedding.")]


def cost_table(results: pd.DataFrame) -> list[Block]:
    """Seconds a split and the epoch whose weights were kept, medians over the splits."""
    rows = results[results["metric"].isin(["seconds", "best epoch"])]
    rows = tabulated(rows)
    if rows.empty:
        return [Text('Left out: these runs hold no "seconds" and no "best epoch".')]
    methods = in_order(rows["method"])
    medians = rows.groupby([*KEYS, "metric"], sort=False)["value"].median().unstack("metric").reset_index()
    medians = medians.reindex(columns=[*KEYS, "seconds", "best epoch"])
    lines = []
    for (_, dataset, network), group in medians.groupby(["experiment", "dataset", "network"], sort=False):
        for k, setting in enumerate(settings_of(group)):
            part = group[group["setting"] == setting].set_index("method")
            line = [
                Cell(f"{number(part['seconds'][name], 1)} s", f"epoch {number(part['best epoch'][name], 0)}")
                if name in part.index
                else Cell("")
                for name in methods
            ]
            head = Cell(place(dataset, network) if k == 0 else "", kind="head"), Cell(setting, kind="head")
            lines.append(Row((*head, *line), first=k == 0))
    caption = "Seconds a split (training and measuring all splits together, divided by their number), and the median best epoch."
    return [Table(("data set", "setting", *methods), tuple(lines), caption, heads=2)]


def choices_table(runs: Sequence[Run]) -> list[Block]:
    """Every option of every run, as ``config.json`` has it."""
    left_out = {"methods", "splits", "methods_in_full", "versions"}
    records = {run.path.resolve().name: _flat(run.config, left_out) for run in runs if run.config}
    if not records:
        return [Text("Left out: no run has a config.json.")]
    keys = dict.fromkeys(key for record in records.values() for key in record)
    rows = [
        Row((Cell(key, kind="head"), *(Cell(record.get(key, "–")) for record in records.values())), first=False)
        for key in keys
    ]
    return [Table(("option", *records), tuple(rows), "The options of each run, from its config.json.", wrap=True)]


def _flat(record: dict[str, Any], left_out: set[str], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in record.items():
        if key in left_out:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, left_out, f"{prefix}{key}: ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            flat[prefix + key] = shown
    return flat


def _distinct(frame: pd.DataFrame, columns: list[str]) -> list[tuple[str, ...]]:
    return list(frame[columns].drop_duplicates().itertuples(index=False, name=None))
