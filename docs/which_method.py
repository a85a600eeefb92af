"""Writes the tables of docs/which_method.md from the runs in results/, between the page's two marks.

python docs/which_method.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from pyro_probmix.experiments.audit.regimes import CHOSEN, METHODS_THERE, REGIMES, compared
from pyro_probmix.models import METHODS

PAGE = Path(__file__).with_name("which_method.md")
RUNS = Path(__file__).parents[1] / "results"
BEGIN, END = "<!-- written by docs/which_method.py -->\n", "<!-- end -->"
BEGIN_REGIMES = "<!-- written by docs/which_method.py: where it pays -->\n"
#: A difference of so many standard errors is called one.
LARGE = 2.0
#: The same where many comparisons stand together.
LARGE_OF_IMAGES = 3.0
#: Runs of the UCI sets with all rows: their folder in results/, their setting, what stands before a method's name there, and
#: what they are called. The end of the learning curve, and two more regimes.
ALL_ROWS = (
    ("uci", "fixed", "", "all rows"),
    ("uci-chosen", "chosen", "", "all rows, α and β chosen"),
    ("uci-ensembles", "fixed", "5x", "all rows, five networks"),
)
#: Metric -> what is better, its sign.
SIGNS = {"nll": -1, "rmse": -1, "accuracy": 1}


def tables(runs: Path = RUNS) -> str:
    """All tables of the page, in Markdown."""
    read = [pd.read_parquet(path) for path in sorted(runs.glob("*/results.parquet"))]
    results = pd.concat([frame[frame["metric"].isin(SIGNS) & frame["method"].isin(METHODS)] for frame in read])
    single = results[~results["setting"].str.startswith("alpha=") & (results["setting"] != "paper")]
    gains = pd.DataFrame(_gains(single))
    parts = [_by_method(gains), _in_words(gains), _by_data(gains, single)]
    parts += [_by_alpha(own, str(data)) for data, own in _grids(results)]
    return "\n\n".join(parts) + "\n"


def _gains(results: pd.DataFrame) -> Iterator[dict[str, object]]:
    """For each task, metric and method by how much it is better than ERM on the same splits, and the standard error."""
    for (data, network, setting, metric), own in results.groupby(
        ["dataset", "network", "setting", "metric"], sort=False
    ):
        scores = own.pivot_table("value", "split", "method", sort=False)
        # A task of which some methods are still to be run would be counted for those that are.
        if len(scores.columns) < len([m for m in METHODS if "*" not in m]):
            continue
        for method in scores.columns.drop("ERM"):
            gain = SIGNS[metric] * (scores[method] - scores["ERM"]).dropna()
            task = _task(data, network, setting)
            yield {"task": task, "metric": metric, "method": method, "gain": gain.mean(), "error": gain.sem()}


def _task(data: str, network: str, setting: str) -> str:
    words = [data] + [network.upper()] * (network != "mlp") + ["(chosen)"] * (setting == "chosen")
    return " ".join(words)


def _by_method(gains: pd.DataFrame) -> str:
    gains = gains.assign(errors=gains["gain"] / gains["error"])
    lines = [
        "| method | mean rank, NLL | NLL: better | as good | worse | RMSE or accuracy: better | as good | worse |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    # Those of the methods that all tasks have.
    nll = gains[gains["metric"] == "nll"].pivot_table("gain", "task", "method", sort=False)
    ranks = nll.assign(ERM=0.0).dropna(axis="columns").rank(axis="columns", ascending=False).mean()
    for method in (name for name in METHODS if name == "ERM" or name in set(gains["method"])):
        own = gains[gains["method"] == method]
        cells = [f"{ranks[method]:.1f}" if method in ranks else ""]
        for is_nll in (True, False):
            errors = own[(own["metric"] == "nll") == is_nll]["errors"]
            counts = ((errors > LARGE).sum(), (errors.abs() <= LARGE).sum(), (errors < -LARGE).sum())
            cells += [str(count) if len(own) else "" for count in counts]
        lines.append(_row(_name(method), *cells))
    count = gains["task"].nunique()
    title = f"**In how many of {count} tasks a method is better than ERM**, as good, or worse, by two standard errors:"
    return title + "\n\n" + "\n".join(lines)


def _in_words(gains: pd.DataFrame) -> str:
    """How many comparisons show a difference, and which methods they speak for and against."""
    nll = gains[gains["metric"] == "nll"]
    errors = nll["gain"] / nll["error"]
    sides = {"better": nll[errors > LARGE], "worse": nll[errors < -LARGE]}
    words = []
    for side, own in sides.items():
        counts = own["method"].value_counts(sort=False).reindex([m for m in METHODS if m in set(own["method"])])
        listed = ", ".join(f"{_name(method)} {count}" for method, count in counts.items())
        words.append(f"{len(own)} {'is' if len(own) == 1 else 'are'} {side}" + f" ({listed})" * bool(listed))
    by_chance = f"{0.0455 * len(nll):.0f}"
    return (
        f"Of {len(nll)} comparisons of the NLL with ERM's, {words[0]}, and {words[1]}. If all methods were equally good, "
        f"about {by_chance} would be better or worse by chance."
    )


def _by_data(gains: pd.DataFrame, results: pd.DataFrame) -> str:
    """For each task the lowest NLL and which methods are within two standard errors of it."""
    lines = [
        "| task | NLL, ERM | lowest NLL | of | as good, within two standard errors |",
        "| --- | --- | --- | --- | --- |",
    ]
    nll = results[results["metric"] == "nll"]
    for (data, network, setting), own in nll.groupby(["dataset", "network", "setting"], sort=False):
        task = _task(data, network, setting)
        if task not in set(gains["task"]):
            continue
        scores = own.pivot_table("value", "split", "method", sort=False)
        best = scores.mean().idxmin()
        others = [m for m in METHODS if m in scores.columns and m != best]
        above = {m: scores[m] - scores[best] for m in others}
        near = [_name(m) for m in others if above[m].mean() <= LARGE * above[m].sem()]
        lines.append(
            _row(task, _score(scores["ERM"]), _score(scores[best]), _name(str(best)), ", ".join(near) or "none")
        )
    return "**Task by task:**\n\n" + "\n".join(lines)


def _grids(results: pd.DataFrame) -> Iterator[tuple[object, pd.DataFrame]]:
    found = results["setting"].str.extract(r"^alpha=(?P<alpha>\S+) beta=(?P<beta>\S+)$").astype(float)
    grid = results.assign(**found)[found["alpha"].notna() & (results["metric"] == "nll")]
    yield from grid.groupby("dataset", sort=False)


def _by_alpha(grid: pd.DataFrame, data: str) -> str:
    """Median NLL for each alpha and beta, the lowest of a method in bold."""
    medians = grid.groupby(["method", "beta", "alpha"])["value"].median().unstack("alpha")
    fused = [name for name in METHODS if name in medians.index and METHODS[name].site]
    lines = [_row("method", "β", *(f"α = {alpha:g}" for alpha in medians)), _row(*["---"] * (len(medians.columns) + 2))]
    for method in fused:
        lowest = medians.loc[method].min(axis=None)
        for beta, own in medians.loc[method].iterrows():
            cells = [f"**{value:.2f}**" if value == lowest else f"{value:.2f}" for value in own]
            lines.append(_row(_name(method), f"{beta:g}", *cells))
    erm = medians.loc["ERM"].median(axis=None)
    return f"**Which α and β, {data}**, median NLL over the runs (ERM: {erm:.2f}):\n\n" + "\n".join(lines)


def _score(values: pd.Series[float]) -> str:
    return f"{round(values.mean(), 2) + 0.0:.2f} ± {values.sem():.2f}"


def _name(method: str) -> str:
    return method.replace("*", "\\*")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def where_it_pays(runs: Path = RUNS) -> str:
    """Where a method is better than ERM, by the regimes: in words, then each regime and method in a table."""
    numbers = pd.read_parquet(runs / "regimes" / "regimes.parquet")
    cells = numbers.groupby("regime", sort=False)[["dataset", "method"]].apply(lambda own: len(own.drop_duplicates()))
    numbers = numbers[numbers["regime"].map(cells == cells.max())]  # a regime that has run in part would count for less
    all_rows = [_with_all_rows(runs, *one) for one in ALL_ROWS]
    table = compared(pd.concat([numbers, *all_rows]))
    parts = [*_of_images(runs), _verdicts(table, numbers), _of_ensembles(all_rows[0], all_rows[2])]
    for epoch, title in (("validation", "The best epoch by the validation rows"), ("last", "The last of 500 epochs")):
        parts.append(_gains_by_regime(table[table["epoch"] == epoch], title))
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
    told = []
    for name in others:
        gains = fused.rsub(wide[name], axis=0).groupby("images", sort=False)
        errors = gains.mean() / gains.sem()
        better, worse = (int(sides.sum().sum()) for sides in (errors > LARGE_OF_IMAGES, errors < -LARGE_OF_IMAGES))
        told.append(
            f"with {name}, {better} are better by more than {LARGE_OF_IMAGES:.0f} standard errors and {worse} worse"
        )
    means = wide.groupby("images", sort=False).mean()
    lines = [_row("NLL, test images", *others, "lowest of those that fuse"), _row(*["---"] * (len(others) + 2))]
    for kind, row in means.iterrows():
        best = row[fused.columns].idxmin()
        cells = (f"{value:.2f}" for value in (*row[others], row[best]))
        lines.append(_row(str(kind), *cells).removesuffix(" |") + f" ({best}) |")
    count = (
        f"{numbers['seed'].nunique()} seeds, {len(fused.columns)} methods that fuse, {len(means)} kinds of test images"
    )
    return [
        f"**On images.** A [convolutional network on digits](tutorials/images.md), {count}. "
        f"Of the {means[fused.columns].size} comparisons {'; of as many '.join(told)}.",
        "\n".join(lines),
    ]


def _verdicts(table: pd.DataFrame, numbers: pd.DataFrame) -> str:
    counts = table["verdict"].value_counts()
    better, worse = counts.get("better", 0), counts.get("worse", 0)
    sets = _listed(numbers["dataset"].unique())
    none = "**On small tables** fusing is nowhere clearly better than maximum likelihood. " if not better else ""
    ran = numbers["regime"].nunique()
    regimes = (
        f"all {ran} regimes"
        if ran == len([*REGIMES, CHOSEN])
        else f"the {ran} of {len(REGIMES) + 1} regimes that have run"
    )
    few, more = numbers["split"].nunique(), table["splits"].max()
    start = (
        f"{none}On {sets}, in {regimes} of few rows, {few} splits each, and on {table['dataset'].nunique()} UCI sets with all "
        f"rows, {more} splits each: of {len(table)} paired comparisons with ERM {better} are better and {worse} worse, with a "
        "probability of 5 % at most of any wrong one among them; the others are open."
    )
    lines = [start, ""]
    for side, sign in (("better", -1), ("worse", 1)):
        own = table[table["verdict"] == side].sort_values("gain", ascending=sign > 0, kind="stable")
        listed = "; ".join(
            f"{_name(row.method)} on {row.dataset}, {row.regime}{_if_last(row.epoch)}, by {abs(row.gain):.2f} ± {row.error:.2f}"
            for row in own.head(12).itertuples()
        )
        more = f"; and {len(own) - 12} more" if len(own) > 12 else ""
        lines.append(f"* {side}: {listed or 'none'}{more}.")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _if_last(epoch: str) -> str:
    return ", last epoch" if epoch == "last" else ""


def _gains_by_regime(table: pd.DataFrame, title: str) -> str:
    """The mean gain over the data sets, its range, and on how many of them it is clear."""
    methods = list(dict.fromkeys(table["method"]))
    lines = [_row("regime", "data sets", *map(_name, methods)), _row(*["---"] * (len(methods) + 2))]
    for regime, own in table.groupby("regime", sort=False):
        cells = []
        for method in methods:
            part = own[own["method"] == method]
            if part.empty:
                cells.append("–")
                continue
            marks = "●" * int((part["verdict"] == "better").sum()) + "○" * int((part["verdict"] == "worse").sum())
            cells.append(
                f"{part['gain'].mean() + 0.0:+.2f} ({(part['gain'] > 0).sum()} of {len(part)}) {marks}".rstrip()
            )
        lines.append(_row(str(regime), str(own["dataset"].nunique()), *cells))
    return (
        f"{title}: nats of NLL gained on ERM, mean over the data sets (in brackets on how many it is above 0; ● clearly "
        "better on one, ○ clearly worse):\n\n" + "\n".join(lines)
    )


def page(text: str, runs: Path = RUNS) -> str:
    """The page's text with its tables as the runs have them now."""
    for begin, written in ((BEGIN_REGIMES, where_it_pays), (BEGIN, tables)):
        before, rest = text.split(begin)
        text = before + begin + "\n" + written(runs) + "\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8"), *map(Path, sys.argv[1:])), "utf-8")
