"""The checkable claims of the paper's sections 6.1 to 6.3 and Appendix E, and what decides each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from pyro_probmix.experiments.report.evidence import (
    Check,
    Evidence,
    Verdict,
    ahead,
    every,
    first_places,
    number,
    on_grid,
    on_rows,
    ratio,
    similar,
)
from pyro_probmix.experiments.report.paper import BASELINES, METHODS, PROBABILISTIC, paper_tables

__all__ = ["CLAIMS", "Claim", "paper_evidence", "verdicts"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        id: short, unique.
        where: its place in the paper.
        text: what is claimed, in our words.
        rule: what is compared, where the claim leaves that open.
        check: the results to a verdict.
    """

    id: str
    where: str
    text: str
    rule: str
    check: Check


def paper_evidence() -> Evidence:
    """The paper's own tables as if they were one split's results, to hold its claims against its numbers."""
    cells = paper_tables()
    experiment = cells["network"].map(lambda network: "uci" if network == "mlp" else "stocks")
    return Evidence(cells.assign(experiment=experiment, setting="paper", split=0, value=cells["mean"]), "paper")


def verdicts(evidence: Evidence) -> list[Verdict]:
    """What some results say to each claim, in the order of ``CLAIMS``."""
    return [claim.check(evidence) for claim in CLAIMS]


def _toy(task: str, metric: str) -> Callable[[Evidence], pd.DataFrame]:
    return lambda evidence: evidence.toy(task, metric)


def _beta(metric: str, beta: float) -> Callable[[Evidence], pd.DataFrame]:
    return lambda evidence: evidence.at_beta("classification", metric, beta)


def _both_betas(metric: str, method: str) -> Callable[[Evidence], pd.DataFrame]:
    """A method's scores at the two betas, mean over alpha, as two columns."""

    def scores(evidence: Evidence) -> pd.DataFrame:
        columns = {f"{method} at β={b:g}": _beta(metric, b)(evidence).get(method) for b in (0.0, 0.01)}
        return pd.DataFrame({name: column for name, column in columns.items() if column is not None})

    return scores


def _improves(metric: str, method: str) -> Check:
    return ahead(_both_betas(metric, method), metric, f"{method} at β=0.01", f"{method} at β=0")


EIGHT = METHODS[1:9]
NINE = METHODS[:9]
OURS = ("ProbMix", "LocProbMix", "M-ProbMix", "LocM-ProbMix")
STOCKS = ("GOOG", "GME", "NVDA", "RCL")

mse, nll = _toy("regression", "mse"), _toy("regression", "nll")
width = _toy("regression", "interval width")
class_nll, accuracy = _toy("classification", "nll"), _toy("classification", "accuracy")


def _toy_regression() -> list[Claim]:
    where = "6.1, toy regression"
    variants = ("M-Mix", "LocMix", "LocM-Mix")
    alike = "paired differences of at most two standard errors"
    pairs = [("ProbMix", "Mix"), ("LocProbMix", "LocMix")]
    manifold = ("M-ProbMix", "LocM-ProbMix")
    return [
        Claim("R1", where, "Mix has a lower MSE than ERM.", "means", ahead(mse, "mse", "Mix", "ERM")),
        Claim(
            "R2",
            where,
            "Mix has a much larger NLL than ERM: it is calibrated worse.",
            "by more than two standard errors of the paired difference",
            ahead(nll, "nll", "ERM", "Mix", clearly=True),
        ),
        Claim(
            "R3",
            where,
            "M-Mix, LocMix and LocM-Mix have about ERM's MSE and NLL.",
            alike,
            every(*(similar(s, m, name, "ERM") for name in variants for s, m in ((mse, "mse"), (nll, "nll")))),
        ),
        Claim(
            "R4",
            where,
            "M-Mix, LocMix and LocM-Mix vary much more from run to run than ERM.",
            "standard deviation of MSE and of NLL at least 1.5 times ERM's",
            every(
                *(
                    ratio(s, m, "std", name, "ERM", 1.5, math.inf)
                    for name in variants
                    for s, m in ((mse, "mse"), (nll, "nll"))
                )
            ),
        ),
        Claim(
            "R5",
            where,
            "ProbMix and LocProbMix score about as Mix and LocMix do.",
            alike,
            every(*(similar(s, m, a, b) for a, b in pairs for s, m in ((mse, "mse"), (nll, "nll")))),
        ),
        Claim(
            "R6",
            where,
            "Fusing neighbours only lowers the NLL vastly, for Mix and for ProbMix.",
            "by more than two standard errors of the paired difference",
            every(*(ahead(nll, "nll", f"Loc{name}", name, clearly=True) for name in ("Mix", "ProbMix"))),
        ),
        Claim(
            "R7",
            where,
            "M-ProbMix and LocM-ProbMix have the best MSE and NLL.",
            "the first two places of nine",
            every(first_places(mse, "mse", manifold, NINE), first_places(nll, "nll", manifold, NINE)),
        ),
        Claim(
            "R8",
            "Figure 2",
            "Mix and LocMix do poorly on the test rows, where LocProbMix has the better calibrated uncertainty.",
            "NLL of LocProbMix below that of each of the four mixup methods",
            every(*(ahead(nll, "nll", "LocProbMix", name) for name in BASELINES[1:])),
        ),
        Claim(
            "R9",
            "Figure 2",
            "LocProbMix still misses the mean on the test rows.",
            "MSE above twice the noise's variance, 9",
            _misses_mean,
        ),
        Claim(
            "R10",
            "Figure 3",
            "LocProbMix and LocM-ProbMix have the widest bands on the test rows.",
            'the first two places of eight in the results\' "interval width", if they hold it',
            first_places(width, "interval width", ("LocProbMix", "LocM-ProbMix"), EIGHT, last=True),
        ),
        Claim(
            "R11",
            "E.1.1",
            "Mix and M-Mix narrow the uncertainty on the test rows.",
            'bands narrower than ERM\'s in the results\' "interval width", if they hold it',
            every(*(ahead(width, "interval width", name, "ERM") for name in ("Mix", "M-Mix"))),
        ),
        Claim(
            "R12",
            "E.1.1",
            "ProbMix does poorly on the test rows, its three variants do not.",
            "the highest NLL of the four",
            first_places(nll, "nll", ("ProbMix",), OURS, last=True),
        ),
        Claim(
            "R13",
            "E.1.1",
            "M-ProbMix, LocProbMix and LocM-ProbMix capture the uncertainty best.",
            "the first three places of nine in NLL",
            first_places(nll, "nll", OURS[1:], NINE),
        ),
        Claim(
            "R14",
            "E.1.1, Figures 4 to 13",
            "Over the grid of α and β, M-ProbMix and LocM-ProbMix are best in MSE and NLL.",
            "one of them has the lowest mean in more than half of the 20 panels",
            on_grid("regression", ("mse", "nll"), lambda means, lower: means[list(NINE)].idxmin() in manifold, NINE),
        ),
    ]


def _misses_mean(evidence: Evidence) -> Verdict:
    frame = mse(evidence)
    if "LocProbMix" not in frame:
        return Verdict("not measured")
    value = float(frame["LocProbMix"].mean())
    return Verdict("supported" if value > 18 else "contradicted", (f"MSE LocProbMix {number(value)}",))


def _toy_classification() -> list[Claim]:
    where = "6.1, toy classification"
    metrics = (("accuracy", accuracy), ("nll", class_nll))
    no_worse = "no worse by more than two standard errors of the paired difference"
    return [
        Claim(
            "C1",
            where,
            "All methods have about the same accuracy.",
            "means at most 0.05 apart",
            _alike_accuracy,
        ),
        Claim(
            "C2",
            where,
            "ERM and LocM-ProbMix have the best accuracy.",
            "the first two places of nine",
            first_places(accuracy, "accuracy", ("ERM", "LocM-ProbMix"), NINE),
        ),
        Claim(
            "C3",
            where,
            "At β = 0, M-Mix and ProbMix have the worst accuracy.",
            "the last two places of nine, mean over α",
            first_places(_beta("accuracy", 0.0), "accuracy", ("M-Mix", "ProbMix"), NINE, last=True),
        ),
        Claim(
            "C4",
            where,
            "At β = 0, ProbMix is nevertheless competitive in NLL.",
            f"mean over α, {no_worse} from ERM",
            similar(_beta("nll", 0.0), "nll", "ProbMix", "ERM", or_ahead=True),
        ),
        Claim(
            "C5",
            where,
            "M-Mix has about twice the NLL of ERM.",
            "1.5 to 2.5 times",
            ratio(class_nll, "nll", "mean", "M-Mix", "ERM", 1.5, 2.5),
        ),
        Claim(
            "C6",
            where,
            "With β = 0.01 in place of 0, ProbMix gains in accuracy and NLL.",
            "mean over α",
            every(_improves("accuracy", "ProbMix"), _improves("nll", "ProbMix")),
        ),
        Claim(
            "C7",
            where,
            "The probabilistic methods do best at β = 0.01.",
            "each of the four has a better accuracy and NLL than at β = 0, mean over α",
            every(*(_improves(m, name) for name in OURS for m in ("accuracy", "nll"))),
        ),
        Claim(
            "C8",
            where,
            "At β = 0.01 each probabilistic method is competitive with the baselines or ahead of them.",
            f"accuracy and NLL {no_worse} from ERM, Mix, LocMix, M-Mix and LocM-Mix, mean over α",
            every(*(_competitive(m, name) for name in OURS for m in ("accuracy", "nll"))),
        ),
        Claim(
            "C9",
            "E.1.2, Figure 14",
            "ProbMix and LocProbMix draw the most reasonable boundaries.",
            "the first two places of the eight mixup methods in accuracy, as a stand-in for the eye",
            first_places(accuracy, "accuracy", ("ProbMix", "LocProbMix"), EIGHT),
        ),
        Claim(
            "C10",
            "E.1.2, Figure 14",
            "LocMix and LocM-Mix come close to these.",
            f"accuracy {no_worse} from ProbMix",
            every(*(similar(accuracy, "accuracy", name, "ProbMix", or_ahead=True) for name in ("LocMix", "LocM-Mix"))),
        ),
        Claim(
            "C11",
            "E.1.2, Figure 14",
            "Mix and M-Mix suffer from manifold intrusion.",
            "accuracy below that of LocMix and LocM-Mix",
            every(*(ahead(accuracy, "accuracy", f"Loc{name}", name) for name in ("Mix", "M-Mix"))),
        ),
        Claim(
            "C12",
            "E.1.2, Figure 14",
            "So do M-ProbMix and LocM-ProbMix: fusing at the response generalises better here than at an embedding.",
            "accuracy below that of ProbMix and LocProbMix",
            every(*(ahead(accuracy, "accuracy", a, b) for a, b in (("ProbMix", "M-ProbMix"), ("LocProbMix", "LocM-ProbMix")))),
        ),
        Claim(
            "C13",
            "E.1.2, Figures 15 to 24",
            "Over the grid of α and β, ProbMix and LocProbMix are ahead of M-ProbMix and LocM-ProbMix in accuracy and NLL.",
            "both pairs, in more than half of the 20 panels",
            on_grid("classification", [m for m, _ in metrics], _response_ahead, OURS),
        ),
    ]


def _response_ahead(means: pd.Series, lower: bool) -> bool:
    sign = -1 if lower else 1
    gains = [sign * (means[a] - means[b]) for a, b in (("ProbMix", "M-ProbMix"), ("LocProbMix", "LocM-ProbMix"))]
    return min(gains) > 0


def _competitive(metric: str, method: str) -> Check:
    """No worse than any baseline by more than two standard errors; the numbers of the hardest one."""
    checks = {name: similar(_beta(metric, 0.01), metric, method, name, or_ahead=True) for name in BASELINES}

    def check(evidence: Evidence) -> Verdict:
        verdicts = [part(evidence) for part in checks.values()]
        lost = [verdict for verdict in verdicts if verdict.outcome == "contradicted"]
        if lost:
            return lost[0]
        if any(verdict.outcome == "not measured" for verdict in verdicts):
            return Verdict("not measured")
        return Verdict("supported", (f"{'NLL' if metric == 'nll' else metric} {method} beside all five",))

    return check


def _alike_accuracy(evidence: Evidence) -> Verdict:
    frame = accuracy(evidence)
    if not set(NINE) <= set(frame.columns):
        return Verdict("not measured")
    means = frame[list(NINE)].mean()
    best, worst = means.idxmax(), means.idxmin()
    text = f"accuracy {best} {number(means[best])}, {worst} {number(means[worst])}"
    return Verdict("supported" if means[best] - means[worst] <= 0.05 else "contradicted", (text,))


def _lowest(means: pd.Series, methods: tuple[str, ...]) -> str:
    return str(means[[name for name in methods if name in means]].idxmin())


def _probabilistic_lowest(means: pd.Series) -> bool:
    return bool(means[_lowest(means, PROBABILISTIC)] < means[_lowest(means, BASELINES)])


def _lowest_shown(means: pd.Series) -> str:
    return ", ".join(f"{name} {number(means[name])}" for name in (_lowest(means, PROBABILISTIC), _lowest(means, BASELINES)))


def _before(a: str, b: str) -> tuple[Callable[[pd.Series], bool], Callable[[pd.Series], str]]:
    """Method a has a lower mean than b, and the two."""
    return lambda means: bool(means[a] < means[b]), lambda means: f"{a} {number(means[a])}, {b} {number(means[b])}"


def _uci() -> list[Claim]:
    naval = "naval-propulsion-plant"
    erm_behind = (
        lambda means: bool(means[_lowest(means, PROBABILISTIC)] < means["ERM"]),
        lambda means: ", ".join(f"{name} {number(means[name])}" for name in (_lowest(means, PROBABILISTIC), "ERM")),
    )
    return [
        Claim(
            "U1",
            "6.2, Table 1",
            "On all data sets but naval, a probabilistic method has the lowest NLL.",
            "seven of seven rows",
            on_rows(1, _probabilistic_lowest, _lowest_shown, rows=lambda _, dataset: dataset != naval),
        ),
        Claim(
            "U2",
            "6.2, Table 1",
            "On naval, ERM or a mixup method has the lowest NLL.",
            "",
            on_rows(
                1, lambda means: not _probabilistic_lowest(means), _lowest_shown, rows=lambda _, dataset: dataset == naval
            ),
        ),
        Claim(
            "U3",
            "6.2",
            "Probabilistic methods improve the NLL on almost all data sets.",
            "the lowest of them below ERM's on at least seven of eight",
            on_rows(1, *erm_behind, need=7),
        ),
        Claim(
            "U4",
            "6.2, Table 3",
            "On most data sets, a probabilistic method has the lowest RMSE.",
            "on at least five of eight",
            on_rows(3, _probabilistic_lowest, _lowest_shown, need=5),
        ),
        Claim(
            "U5",
            "6.2",
            "The NLL generally improves from ProbMix to M-ProbMix.",
            "on at least five of eight",
            on_rows(1, *_before("M-ProbMix", "ProbMix"), need=5),
        ),
        Claim(
            "U6",
            "6.2",
            "M-ProbMix* is competitive in NLL.",
            "below ERM's on at least five of eight",
            on_rows(1, *_before("M-ProbMix*", "ERM"), need=5),
        ),
        Claim(
            "U7",
            "6.2",
            "M-ProbMix* may lose in RMSE.",
            "RMSE above M-ProbMix's on at least five of eight",
            on_rows(3, *_before("M-ProbMix", "M-ProbMix*"), need=5),
        ),
    ]


def _stocks() -> list[Claim]:
    names = {"lstm": "LSTM", "transformer": "Transformer"}
    of = lambda stock: lambda _, dataset: dataset == stock  # noqa: E731 (a row's filter in the tables below)
    with_network = lambda network: lambda row, _: row == network  # noqa: E731
    return [
        *(
            Claim(
                f"S{k}",
                "6.3, Table 2",
                f"With the {names[network]}, a probabilistic method has the lowest NLL on three of the four stocks.",
                "on at least three of four",
                on_rows(2, _probabilistic_lowest, _lowest_shown, need=3, rows=with_network(network)),
            )
            for k, network in enumerate(names, start=1)
        ),
        Claim(
            "S3",
            "6.3, Table 2",
            "On RCL, Mix has the lowest NLL.",
            "with both networks",
            on_rows(
                2,
                lambda means: means.idxmin() == "Mix",
                lambda means: f"{means.idxmin()} {number(means.min())}, Mix {number(means['Mix'])}",
                rows=of("RCL"),
            ),
        ),
        Claim(
            "S4",
            "6.3",
            "On GME the networks overfit.",
            "ERM's test NLL above its validation NLL by more than two standard errors, with both networks",
            every(*(_overfits(network) for network in names)),
        ),
        Claim(
            "S5",
            "6.3",
            "On GME, Mix improves on ERM in NLL.",
            "with both networks",
            on_rows(2, *_before("Mix", "ERM"), rows=of("GME")),
        ),
        Claim(
            "S6",
            "6.3",
            "On GME, ProbMix and M-ProbMix have a much lower NLL than Mix.",
            "below it, with both networks",
            on_rows(
                2,
                lambda means: bool(max(means["ProbMix"], means["M-ProbMix"]) < means["Mix"]),
                lambda means: ", ".join(f"{name} {number(means[name])}" for name in ("Mix", "ProbMix", "M-ProbMix")),
                rows=of("GME"),
            ),
        ),
        Claim(
            "S7",
            "E.3, Table 4",
            "On most stocks, ERM and Mix have a lower RMSE than the probabilistic methods.",
            "the lower of the two below all of them, on at least five of eight rows",
            on_rows(
                4,
                lambda means: bool(means[["ERM", "Mix"]].min() < means[_lowest(means, PROBABILISTIC)]),
                lambda means: ", ".join(
                    f"{name} {number(means[name])}" for name in (_lowest(means, ("ERM", "Mix")), _lowest(means, PROBABILISTIC))
                ),
                need=5,
            ),
        ),
    ]


def _overfits(network: str) -> Check:
    """ERM's NLL on GME is clearly higher on the test rows than on the validation rows, both on the standardised target."""

    def scores(evidence: Evidence) -> pd.DataFrame:
        rows = evidence.results
        rows = rows[(rows["experiment"] == "stocks") & (rows["dataset"] == "GME") & (rows["network"] == network)]
        rows = rows[(rows["setting"] == evidence.setting) & (rows["method"] == "ERM")]
        names = {"validation nll": f"validation, {network},", "nll (standardised)": f"test, {network},"}
        frame = rows.pivot(index="split", columns="metric", values="value").rename(columns=names)
        return frame[[name for name in names.values() if name in frame]]

    return ahead(scores, "nll", f"validation, {network},", f"test, {network},", clearly=True)


#: In the order of the paper's sections.
CLAIMS: tuple[Claim, ...] = (*_toy_regression(), *_toy_classification(), *_uci(), *_stocks())
