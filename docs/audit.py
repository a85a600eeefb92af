"""Writes the tables and figures of docs/audit.md from results/, between the page's marks.

python docs/audit.py
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.effects import Audited, audits
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.tables import summary, tables
from pyro_probmix.experiments.report.claims import CLAIMS, verdicts
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Verdict
from pyro_probmix.experiments.report.numbers.paper import scaled
from pyro_probmix.experiments.report.tables.again import flips, twice

PAGE = Path(__file__).with_name("audit.md")
RESULTS = Path(__file__).parents[1] / "results"
END = "<!-- end -->"
#: The settings whose verdicts are compared, and the folders of runs under them.
SETTINGS = {"fixed": "ours", "paper": "--setting paper"}
RUNS = (
    *(f"toy-{task}{more}" for task in ("regression", "classification") for more in ("", "-again", "-paper")),
    *("ablation-regression", "ablation-classification", "uci", "uci-paper", "stocks"),
)


def claims(results: Path) -> str:
    """The verdicts on all claims under our setting and under the paper's, and how many hold under which."""
    folders = [results / name for name in RUNS if (results / name / "results.parquet").exists()]
    runs = pd.concat([pd.read_parquet(folder / "results.parquet") for folder in folders])
    # A grid is of our setting.
    found = {
        setting: verdicts(Evidence(scaled(runs if setting == "fixed" else runs[runs["setting"] == setting]), setting))
        for setting in SETTINGS
    }
    lines = ["| claim | ours | runs | --setting paper | runs |", "| --- | --- | --- | --- | --- |"]
    for claim, one, two in zip(CLAIMS, *found.values(), strict=True):
        text = claim.text.rstrip(".")
        lines.append(f"| {claim.id}: {text} | {_said(one)} | {one.runs or '–'} | {_said(two)} | {two.runs or '–'} |")
    parts = [_counted(*found.values()), _again(runs), "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _counted(ours: list[Verdict], papers: list[Verdict]) -> str:
    """How many claims hold under either setting, by the centres as they are."""
    total = len(CLAIMS)
    alone = {
        name: [v.holds for v in own if v.holds is not None]
        for name, own in zip(SETTINGS.values(), (ours, papers), strict=True)
    }
    each = "; ".join(
        f"under {name} {sum(held)} of the {len(held)} that its runs tell of" for name, held in alone.items()
    )
    kinds: dict[str, list[str]] = {name: [] for name in ("both", "ours alone", "the paper's alone", "neither")}
    for claim, one, two in zip(CLAIMS, ours, papers, strict=True):
        if one.holds is not None and two.holds is not None:
            kind = {(True, True): "both", (True, False): "ours alone", (False, True): "the paper's alone"}
            kinds[kind.get((one.holds, two.holds), "neither")].append(claim.id)
    both = sum(map(len, kinds.values()))
    counted = "; ".join(
        f"under {name} {len(ids)}{' (' + ', '.join(ids) + ')' if ids else ''}" for name, ids in kinds.items()
    )
    decided = {
        name: Counter(v.outcome for v in own) for name, own in zip(SETTINGS.values(), (ours, papers), strict=True)
    }
    words = "; ".join(
        f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(own.items()))}"
        for name, own in decided.items()
    )
    return (
        f"Of the paper's {total} claims there hold, by the medians or means as they are, {each}. Of the {both} that both tell "
        f"of: {counted}. With regard to chance, {words}."
    )


def _again(runs: pd.DataFrame) -> str:
    """Whether verdicts on the toys come out again from other seeds."""
    lines = []
    for setting, name in SETTINGS.items():
        pairs = twice(runs, setting)
        if not pairs:
            continue
        alike = sum(a.outcome == b.outcome for _, a, b in pairs)
        seeds = sorted({one.runs for _, one, _ in pairs}, reverse=True)
        lines.append(
            f"{name}, {' or '.join(map(str, seeds))} seeds in each half: {len(pairs)} claims, {alike} with one verdict, "
            f"{len(flips(pairs))} supported by one half and contradicted by the other"
        )
    return f"Decided twice, by two halves of the seeds that share neither data nor weights: {'; '.join(lines)}."


def _said(verdict: Verdict) -> str:
    holds = {True: "holds", False: "does not hold", None: ""}[verdict.holds]
    return {"undecided": f"undecided ({holds})", "not measured": "–"}.get(verdict.outcome, verdict.outcome)


def page(text: str, found: Sequence[Audited], results: Path = RESULTS) -> str:
    """The page's text with its tables as the runs have them now."""
    for name, written in (("summary", summary(found)), ("claims", claims(results)), ("tables", tables(found))):
        begin = f"<!-- written by docs/audit.py: {name} -->\n"
        before, rest = text.split(begin)
        text = before + begin + "\n" + written + "\n" + END + rest.split(END, 1)[1]
    return text


def read(results: Path = RESULTS) -> list[Audited]:
    """The audit as its runs have it now."""
    return audits(pd.read_parquet(results / "audit" / "audit.parquet"))


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    found = read(folder)
    PAGE.write_text(page(PAGE.read_text("utf-8"), found, folder), "utf-8")
    for name, save in draw(found).items():
        save(PAGE.with_name(f"audit-{name}.png"))
