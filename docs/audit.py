"""Writes the tables and figures of docs/audit.md from results/, between the page's marks.

python docs/audit.py
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.effects import Audited, audits
from pyro_probmix.experiments.audit.markdown import escaped, table
from pyro_probmix.experiments.audit.pictures import draw
from pyro_probmix.experiments.audit.summary import summary
from pyro_probmix.experiments.audit.tables import tables
from pyro_probmix.experiments.audit.whole import whole
from pyro_probmix.experiments.report.claims import CLAIMS, verdicts
from pyro_probmix.experiments.report.claims.evidence import SHARED, Evidence
from pyro_probmix.experiments.report.claims.paired import of_mean
from pyro_probmix.experiments.report.claims.verdicts import Verdict
from pyro_probmix.experiments.report.numbers.paper import PROBABILISTIC, paper_tables, scaled
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
    lines = []
    for claim, one, two in zip(CLAIMS, *found.values(), strict=True):
        text = claim.text.rstrip(".")
        cells = [cell for verdict in (one, two) for cell in (_said(verdict), str(verdict.runs or "–"))]
        lines.append((f"{claim.id}: {text}", *cells))
    verdicts_of = table(("claim", "ours", "runs", "--setting paper", "runs"), lines)
    parts = [_counted(*found.values()), _again(runs), verdicts_of, *_on_uci(scaled(runs))]
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


def _on_uci(runs: pd.DataFrame) -> Iterator[str]:
    """The NLLs of the UCI sets that have run under both settings, beside the paper's."""
    paper = paper_tables().query("table == 1").pivot_table("mean", "dataset", "method", sort=False)
    nll = runs[(runs["experiment"] == "uci") & (runs["metric"] == "nll") & runs["method"].isin(paper.columns)]
    wide = nll.pivot_table("value", ["setting", "dataset", "split"], "method", sort=False)
    both = [name for name in paper.index if all((setting, name) in wide.index for setting in SETTINGS)]
    if not both:
        return
    beside = ("M-ProbMix", "LocM-ProbMix")
    lines = []
    counts = dict.fromkeys(["in the paper", *(f"under {name}" for name in SETTINGS.values())], 0)
    for name in both:
        owners = [paper.loc[[name]], *(wide.loc[(setting, name)] for setting in SETTINGS)]
        for label, own in zip(counts, owners, strict=True):
            means = own.mean()
            lowest = str(means.idxmin())
            counts[label] += lowest in PROBABILISTIC
            gaps = (_gap(own[method] - own["ERM"]) for method in beside)
            lines.append((name, label, f"{means[lowest]:.2f} ({escaped(lowest)})", f"{means['ERM']:.2f}", *gaps))
    counted = ", ".join(f"{label} on {count}" for label, count in counts.items())
    yield f"The {len(both)} UCI sets that have run under both. A probabilistic method has the lowest mean NLL {counted}:"
    yield table(("set", "", "lowest mean NLL", "ERM", *(f"{name}, less ERM's" for name in beside)), lines)


def _gap(each: pd.Series[float]) -> str:
    """A mean, with the standard error of splits that share rows (Nadeau and Bengio, 2003); the paper has no pairs."""
    mean, error, _ = of_mean(each, SHARED)
    return f"{round(mean, 2) + 0.0:.2f}" + (f" ± {error:.2f}" if error == error else "")


def _said(verdict: Verdict) -> str:
    holds = {True: "holds", False: "does not hold", None: "some sets have not run"}[verdict.holds]
    return {"undecided": f"undecided ({holds})", "not measured": "–"}.get(verdict.outcome, verdict.outcome)


def page(text: str, found: Sequence[Audited], results: Path = RESULTS) -> str:
    """The page's text with its tables as the runs have them now."""
    blocks = {"summary": summary(found), "claims": claims(results), "whole": whole(found), "tables": tables(found)}
    for name, written in blocks.items():
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
