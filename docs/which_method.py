"""Writes the tables of docs/which_method.md from the runs in results/, between the page's two marks.

python docs/which_method.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.markdown import escaped
from pyro_probmix.experiments.audit.regimes import CHOSEN, METHODS_THERE, REGIMES, compared, together
from pyro_probmix.experiments.report.claims.paired import of_mean
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, holm
from pyro_probmix.models import METHODS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs import by_task
from docs.by_task import METRICS, listed, table_row

PAGE = Path(__file__).with_name("which_method.md")
RUNS = Path(__file__).parents[1] / "results"
BEGIN, END = "<!-- written by docs/which_method.py -->\n", "<!-- end -->"
BEGIN_REGIMES = "<!-- written by docs/which_method.py: where it pays -->\n"
#: What Holm's procedure says of the comparisons that it finds clear.
CHANCE = f"with a probability of {100 * LEVEL:.0f} % at most of any wrong one among them; the others are open"
#: Runs of the UCI sets with all rows: their folder in results/, their setting, what stands before a method's name there, and
#: what they are called. The end of the learning curve, and two more regimes.
ALL_ROWS = (
    ("uci", "fixed", "", "all rows"),
    ("uci-chosen", "chosen", "", "all rows, α and β chosen"),
    ("uci-ensembles", "fixed", "5x", "all rows, five networks"),
)


def tables(runs: Path = RUNS) -> str:
    """All tables of the page, in Markdown."""
    read = [pd.read_parquet(path) for path in sorted(runs.glob("*/results.parquet"))]
    results = pd.concat([frame[frame["metric"].isin(METRICS) & frame["method"].isin(METHODS)] for frame in read])
    single = results[~results["setting"].str.startswith("alpha=") & (results["setting"] != "paper")]
    parts = by_task.tables(single)
    parts += [_by_alpha(own, str(data)) for data, own in _grids(results)]
    return "\n\n".join(parts) + "\n"


def _grids(results: pd.DataFrame) -> Iterator[tuple[object, pd.DataFrame]]:
    found = results["setting"].str.extract(r"^alpha=(?P<alpha>\S+) beta=(?P<beta>\S+)$").astype(float)
    grid = results.assign(**found)[found["alpha"].notna() & (results["metric"] == "nll")]
    yield from grid.groupby("dataset", sort=False)


def _by_alpha(grid: pd.DataFrame, data: str) -> str:
    """Median NLL for each alpha and beta, the lowest of a method in bold."""
    medians = grid.groupby(["method", "beta", "alpha"])["value"].median().unstack("alpha")
    fused = [name for name in METHODS if name in medians.index and METHODS[name].site]
    lines = [
        table_row("method", "β", *(f"α = {alpha:g}" for alpha in medians)),
        table_row(*["---"] * (len(medians.columns) + 2)),
    ]
    for method in fused:
        lowest = medians.loc[method].min(axis=None)
        for beta, own in medians.loc[method].iterrows():
            cells = [f"**{value:.2f}**" if value == lowest else f"{value:.2f}" for value in own]
            lines.append(table_row(escaped(method), f"{beta:g}", *cells))
    erm = medians.loc["ERM"].median(axis=None)
    runs = grid["split"].nunique()
    return f"**Which α and β, {data}**, median NLL over {runs} runs (ERM: {erm:.2f}):\n\n" + "\n".join(lines)


def where_it_pays(runs: Path = RUNS) -> str:
    """Where a method is better than ERM, by the regimes: in words, then each regime and method in a table."""
    numbers = pd.read_parquet(runs / "regimes" / "regimes.parquet")
    cells = numbers.groupby("regime", sort=False)[["dataset", "method"]].apply(lambda own: len(own.drop_duplicates()))
    numbers = numbers[numbers["regime"].map(cells == cells.max())]  # a regime that has run in part would count for less
    all_rows = [_with_all_rows(runs, *one) for one in ALL_ROWS]
    table = compared(pd.concat([numbers, *all_rows]))
    sums = together(table)
    parts = [*_of_images(runs), _verdicts(table, numbers), _on_all_sets(sums), _of_ensembles(all_rows[0], all_rows[2])]
    for epoch, title in (("validation", "The best epoch by the validation rows"), ("last", "The last of 500 epochs")):
        parts.append(_gains_by_regime(sums[sums["epoch"] == epoch], title))
    return "\n\n".join(parts) + "\n"


def _with_all_rows(runs: Path, folder: str, setting: str, before: str, regime: str) -> pd.DataFrame:
    """The NLLs of a run of the UCI sets, as those of a regime."""
    rows = pd.read_parquet(runs / folder / "results.parquet")
    rows = rows[(rows["metric"] == "nll") & (rows["setting"] == setting) & rows["method"].str.startswith(before)]
    rows = rows.assign(method=rows["method"].str.removeprefix(before), regime=regime, epoch="validation")
    columns = ["dataset", "regime", "epoch", "method", "split", "value"]
    return rows.loc[rows["method"].isin(METHODS_THERE), columns]


def _of_ensembles(single: pd.DataFrame, five: pd.DataFrame) -> str:
    """In words what five networks trained by maximum likelihood gain on one, beside what a method gains."""
    erm = [own[own["method"] == "ERM"] for own in (single, five)]
    both = pd.concat([erm[0], erm[1].assign(method="five")]).assign(regime="all rows")
    gains = compared(both)
    clear = int((gains["verdict"] == "better").sum())
    return (
        f"**Several networks** do help: five networks trained by maximum likelihood have a lower NLL than one on "
        f"{int((gains['gain'] > 0).sum())} of {len(gains)} sets, by {gains['gain'].min():.2f} to {gains['gain'].max():.2f}, "
        f"clearly on {clear} of them."
    )


def _of_images(runs: Path) -> list[str]:
    """In words and a table whether fusing helps a convolutional network on digits; nothing where they have not been run."""
    place = runs / "digits" / "classes.parquet"
    if not place.exists():
        return []
    numbers = pd.read_parquet(place)
    wide = numbers.pivot_table("NLL", ["images", "seed"], "method", sort=False)
    others = [name for name in wide if name.startswith("ERM")]
    fused = wide.drop(columns=others)
    tested = pd.DataFrame(_image_gains(wide, others), columns=["reference", "gain", "p"])
    clear = tested[holm(tested["p"])]
    told = []
    for name in others:
        own = clear[clear["reference"] == name]["gain"]
        told.append(f"with {name}, {(own > 0).sum()} are better and {(own < 0).sum()} worse")
    means = wide.groupby("images", sort=False).mean()
    lines = [
        table_row("NLL, test images", *others, "lowest of those that fuse"),
        table_row(*["---"] * (len(others) + 2)),
    ]
    for kind, row in means.iterrows():
        best = row[fused.columns].idxmin()
        cells = (f"{value:.2f}" for value in (*row[others], row[best]))
        lines.append(table_row(str(kind), *cells).removesuffix(" |") + f" ({best}) |")
    count = (
        f"{numbers['seed'].nunique()} seeds, {len(fused.columns)} methods that fuse, {len(means)} kinds of test images"
    )
    return [
        f"**On images.** A [convolutional network on digits](tutorials/images.md), {count}. "
        f"Of the {means[fused.columns].size} comparisons of the NLL {'; of as many '.join(told)}, {CHANCE}.",
        "\n".join(lines),
    ]


def _image_gains(wide: pd.DataFrame, references: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    """By how much each method that fuses is better than each that does not, on each kind of images, and p."""
    for name in references:
        for method in wide.columns.difference(list(references), sort=False):
            for _, losses in wide.groupby("images", sort=False):
                gain, _, p = of_mean(losses[name] - losses[method])
                yield name, gain, p


def _verdicts(table: pd.DataFrame, numbers: pd.DataFrame) -> str:
    counts = table["verdict"].value_counts()
    better, worse = counts.get("better", 0), counts.get("worse", 0)
    sets = listed(numbers["dataset"].unique())
    none = "**On small tables** fusing is nowhere clearly better than maximum likelihood. " if not better else ""
    ran = numbers["regime"].nunique()
    known = len([*REGIMES, CHOSEN])
    regimes = f"all {ran} regimes of few rows" if ran == known else f"{ran} of {known} regimes of few rows"
    few, more = numbers["split"].nunique(), table["splits"].max()
    start = (
        f"{none}On {sets}, in {regimes}, {few} splits each, and on {table['dataset'].nunique()} UCI sets with all "
        f"rows, {more} splits each: of {len(table)} paired comparisons with ERM {better} are better and {worse} worse, "
        f"{CHANCE}."
    )
    lines = [start, ""]
    for side, sign in (("better", -1), ("worse", 1)):
        own = table[table["verdict"] == side].sort_values("gain", ascending=sign > 0, kind="stable")
        each = "; ".join(
            f"{escaped(one.method)} on {one.dataset}, {one.regime}{_if_last(one.epoch)}, by {abs(one.gain):.2f} ± "
            f"{one.error:.2f}"
            for one in own.head(12).itertuples()
        )
        more = f"; and {len(own) - 12} more" if len(own) > 12 else ""
        lines.append(f"* {side}: {each or 'none'}{more}.")
    return "\n".join(lines)


def _if_last(epoch: str) -> str:
    return ", last epoch" if epoch == "last" else ""


def _on_all_sets(sums: pd.DataFrame) -> str:
    """What is clear on all data sets of a regime together, in words."""
    told = []
    for side in ("better", "worse"):
        own = sums[sums["verdict"] == side].sort_values("gain", ascending=side == "worse", kind="stable")
        each = (
            f"{escaped(one.method)}, {one.regime}{_if_last(one.epoch)}, by {abs(one.gain):.2f} ± {one.error:.2f}"
            for one in own.itertuples()
        )
        told.append(f"* {side}: {'; '.join(each) or 'none'}.")
    return f"On all data sets of a regime together, {len(sums)} comparisons with ERM, {CHANCE}:\n\n" + "\n".join(told)


def _gains_by_regime(sums: pd.DataFrame, title: str) -> str:
    """The mean gain over the data sets, and on how many it is above 0."""
    methods = list(dict.fromkeys(sums["method"]))
    lines = [table_row("regime", "data sets", *map(escaped, methods)), table_row(*["---"] * (len(methods) + 2))]
    for regime, own in sums.groupby("regime", sort=False):
        each = {one.method: one for one in own.itertuples()}
        cells = []
        for method in methods:
            one = each.get(method)
            mark = {"better": " ●", "worse": " ○"}.get(one.verdict if one else "", "")
            cells.append(
                f"{one.gain + 0.0:+.2f} ± {one.error:.2f} ({one.above} of {one.datasets}){mark}" if one else "–"
            )
        lines.append(table_row(str(regime), str(own["datasets"].max()), *cells))
    return (
        f"{title}: nats of NLL gained on ERM, mean over the data sets and its standard error (in brackets on how many it is "
        "above 0; ● clearly better, ○ clearly worse on all together):\n\n" + "\n".join(lines)
    )


def page(text: str, runs: Path = RUNS) -> str:
    """The page's text with its tables as the runs have them now."""
    for begin, written in ((BEGIN_REGIMES, where_it_pays), (BEGIN, tables)):
        before, rest = text.split(begin)
        text = before + begin + "\n" + written(runs) + "\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8"), *map(Path, sys.argv[1:])), "utf-8")
