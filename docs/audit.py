"""Writes the tables and figures of docs/audit.md from results/, between the page's marks.

python docs/audit.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.tables import summary, tables
from pyro_probmix.experiments.report.claims import CLAIMS, verdicts
from pyro_probmix.experiments.report.claims.evidence import Evidence
from pyro_probmix.experiments.report.claims.verdicts import Verdict
from pyro_probmix.experiments.report.tables.again import flips, twice

PAGE = Path(__file__).with_name("audit.md")
RESULTS = Path(__file__).parents[1] / "results"
END = "<!-- end -->"
#: The settings whose verdicts are compared, and the runs of the toys under them.
SETTINGS = {"fixed": "ours", "paper": "--setting paper"}
TOYS = ("toy-regression", "toy-classification", "ablation-regression", "ablation-classification")


def claims(results: Path) -> str:
    """The verdicts on the claims on the toys under our setting and under the paper's, and how many hold under which."""
    folders = [
        folder for name in TOYS for folder in sorted(results.glob(f"{name}*")) if (folder / "results.parquet").exists()
    ]
    runs = pd.concat([pd.read_parquet(folder / "results.parquet") for folder in folders])
    # A grid is of our setting.
    found = {
        setting: verdicts(Evidence(runs if setting == "fixed" else runs[runs["setting"] == setting], setting))
        for setting in SETTINGS
    }
    lines = ["| claim | ours | runs | --setting paper | runs |", "| --- | --- | --- | --- | --- |"]
    kinds: dict[str, list[str]] = {name: [] for name in ("both", "ours alone", "the paper's alone", "neither")}
    for claim, one, two in zip(CLAIMS, *found.values(), strict=True):
        if claim.id[0] not in "RC" or one.outcome == "not measured":
            continue
        lines.append(
            f"| {claim.id}: {claim.text.rstrip('.')} | {_said(one)} | {one.runs} | {_said(two)} | {two.runs or '–'} |"
        )
        if one.holds is not None and two.holds is not None:
            kind = {(True, True): "both", (True, False): "ours alone", (False, True): "the paper's alone"}
            kinds[kind.get((one.holds, two.holds), "neither")].append(claim.id)
    counted = "; ".join(
        f"under {name} {len(ids)}{' (' + ', '.join(ids) + ')' if ids else ''}" for name, ids in kinds.items()
    )
    again = {name: twice(runs, setting) for setting, name in SETTINGS.items()}
    alike = {name: sum(a.outcome == b.outcome for _, a, b in pairs) for name, pairs in again.items()}
    halves = "; ".join(
        f"{name} {len(pairs)} claims, {alike[name]} with one verdict, {len(flips(pairs))} turned"
        for name, pairs in again.items()
    )
    return (
        f"Of the claims on the toys that are measured under either setting, there hold, by the medians as they are: {counted}. "
        f"Decided twice, by two halves of the seeds that share neither data nor weights: {halves} from supported to "
        "contradicted or back.\n\n" + "\n".join(lines) + "\n"
    )


def _said(verdict: Verdict) -> str:
    holds = {True: "holds", False: "does not hold", None: ""}[verdict.holds]
    return {"undecided": f"undecided ({holds})", "not measured": "–"}.get(verdict.outcome, verdict.outcome)


def page(text: str, results: Path = RESULTS) -> str:
    """The page's text with its tables as the runs have them now."""
    gathered = pd.read_parquet(results / "audit" / "audit.parquet")
    for name, written in (("summary", summary(gathered)), ("claims", claims(results)), ("tables", tables(gathered))):
        begin = f"<!-- written by docs/audit.py: {name} -->\n"
        before, rest = text.split(begin)
        text = before + begin + "\n" + written + "\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    PAGE.write_text(page(PAGE.read_text("utf-8"), folder), "utf-8")
    for name, save in draw(pd.read_parquet(folder / "audit" / "audit.parquet")).items():
        save(PAGE.with_name(f"audit-{name}.png"))
