"""Tables of the runs, their options, and the verdicts on the claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pyro_probmix.experiments.config.comparison import DEFAULTS
from pyro_probmix.experiments.config.config import OF_SETTINGS, PAPER
from pyro_probmix.experiments.report.claims import CLAIMS, paper_verdicts
from pyro_probmix.experiments.report.claims.resampling import FEW, RESAMPLES, RESAMPLES_OF_FEW
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, Verdict
from pyro_probmix.experiments.report.numbers.reading import Run
from pyro_probmix.experiments.report.numbers.tidy import settings_of
from pyro_probmix.experiments.report.pages.page import Block, Cell, Row, Table, Text
from pyro_probmix.experiments.report.tables.beside import row_name

__all__ = ["choices_table", "claims_table", "runs_table"]


def runs_table(runs: Sequence[Run]) -> list[Block]:
    """The table of the runs, one row for each folder."""
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
                    Cell(run.name, kind="head"),
                    Cell(", ".join(results["experiment"].unique())),
                    Cell("; ".join(row_name(d, n) for d, n in _distinct(results, ["dataset", "network"]))),
                    Cell(", ".join(settings)),
                    Cell(str(results["method"].nunique())),
                    Cell(str(results["split"].nunique())),
                    Cell(_epochs(config)),
                    Cell(str(config.get("ran_on", "–"))),
                    Cell(", ".join(f"{k} {versions[k]}" for k in ("pyro_probmix", "torch") if k in versions) or "–"),
                )
            )
        )
    head = ("run", "experiment", "data sets", "settings", "methods", "splits", "epochs", "device", "versions")
    blocks: list[Block] = [Table(head, tuple(rows), "The runs of this report.", wrap=True)]
    bare = [run.name for run in runs if run.config is None]
    if bare:
        blocks.append(Text(f"No config.json: {', '.join(bare)}; its entries are left out."))
    blocks += [Text(note) for run in runs if (note := _own_choices(run))]
    return blocks


def _own_choices(run: Run) -> str:
    """A sentence on the entries in which a run is not what the setting, its column in the tables, stands for."""
    config = run.config or {}
    setting = str(config.get("setting", DEFAULTS["setting"]))
    expected = {name: DEFAULTS[name] for name in PAPER} | OF_SETTINGS.get(setting, {})
    found = {name: config.get(name, DEFAULTS[name]) for name in expected}
    own = ", ".join(f"{name} {found[name]}" for name in expected if found[name] != expected[name])
    return own and f"{run.name} has, under the setting {setting}, choices of its own: {own}."


def _epochs(config: Mapping[str, Any]) -> str:
    patience = config.get("patience")
    ended = "" if patience is None else f", or {patience} without a better validation NLL"
    return f"{config.get('epochs', '–')}{ended}"


def claims_table(found: Mapping[str, Sequence[Verdict]]) -> list[Block]:
    """The table of the claims: the verdict by the paper's tables, and by ours under each setting.

    Args:
        found: setting -> verdicts, from :func:`~pyro_probmix.experiments.report.claims.claims.verdicts`.
    """
    rows, left_out = [], []
    for claim, theirs, *ours in zip(CLAIMS, paper_verdicts(), *found.values(), strict=True):
        if not any(verdict.numbers for verdict in (theirs, *ours)):
            left_out.append(claim.id)
            continue
        rule = (f"Decided by: {claim.rule}.",) if claim.rule else ()
        paper = _verdict(theirs) if theirs.numbers else Cell("no numbers", kind="open")
        head = Cell(claim.id, claim.where, kind="head")
        rows.append(Row((head, Cell(claim.text, lines=rule), paper, *map(_verdict, ours))))
    lines: list[Block] = []
    for setting, verdicts in found.items():
        counter = Counter(verdict.outcome for verdict in verdicts)
        lines.append(
            Text(
                f"Setting {setting}: {counter['supported']} of {len(CLAIMS)} claims supported, {counter['contradicted']} "
                f"contradicted, {counter['undecided']} undecided, {counter['not measured']} not measured. "
                f"As the numbers stand, however uncertain, {sum(verdict.holds is True for verdict in verdicts)} hold and "
                f"{sum(verdict.holds is False for verdict in verdicts)} do not."
            )
        )
    if left_out:
        lines.append(Text(f"Left out, since these runs hold no numbers for them: {', '.join(left_out)}."))
    note = Text(
        "A claim is a statement on medians over the runs (of Tables 1 to 4, U and S, on means over the splits, as there). "
        f"It is supported if it holds on so many of {RESAMPLES} bootstrap resamples of the runs ({RESAMPLES_OF_FEW} of "
        f"{FEW.start} to {FEW.stop - 1} runs), the same for all methods, and contradicted if it fails on so many, that the "
        f"probability of any wrong verdict in a column is at most {LEVEL:.0%} (by Student's t, since few runs do not know "
        "their spread, and Holm's procedure over the claims). A comparison is of the runs that all of its methods have; one "
        "that diverged counts as the worst. Undecided: more runs could still turn it, or data sets are missing whose numbers "
        "could. "
        "Beside it stand the runs it rests on, and about how many would decide it, were the effect as it was found. Splits of "
        "a UCI set share rows, for which the test allows (Nadeau and Bengio, 2003). "
        "The paper's column checks each claim against the paper's Tables 1 to 4; it gives no numbers for the toys. "
        "Verdicts by the grids of the ablations are under the first setting. "
        "Brackets hold the 95 % bootstrap interval of a difference."
    )
    columns = ("", "claim", "the paper's tables", *(f"ours, {setting}" for setting in found))
    return [note, *lines, Table(columns, tuple(rows), "The paper's claims.", wrap=True)]


def _verdict(verdict: Verdict) -> Cell:
    kinds = {
        "supported": ("ahead", "✓"),
        "contradicted": ("behind", "✗"),
        "undecided": ("", "?"),
        "not measured": ("open", ""),
    }
    kind, mark = kinds[verdict.outcome]
    runs = () if verdict.needed is None else (_runs(verdict, verdict.needed),)
    return Cell(verdict.outcome, lines=(*verdict.numbers, *runs), kind=kind, mark=mark)


def _runs(verdict: Verdict, needed: float) -> str:
    """How many runs there are, and would be needed."""
    if verdict.runs < FEW.start:
        return f"{verdict.runs} runs; {FEW.start} or more tell how many would decide it"
    told = (
        f"{'at most' if verdict.at_most else 'about'} {needed:.0f} needed"
        if needed < float("inf")
        else "no number would do"
    )
    return f"{verdict.runs} runs; {told}"


def choices_table(runs: Sequence[Run]) -> list[Block]:
    """The options of every run, from its ``config.json``."""
    left_out = {"methods", "splits", "methods_in_full", "versions"}
    records = {run.name: _flat(run.config, left_out) for run in runs if run.config}
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
