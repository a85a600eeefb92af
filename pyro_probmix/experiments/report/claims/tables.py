"""The claims of sections 6.2, 6.3, E.2 and E.3: the UCI sets and the stocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyro_probmix.experiments.report.claims.checks import ahead, every, lowest, on_rows
from pyro_probmix.experiments.report.claims.evidence import Check, Claim, Evidence, diverged_as_worst
from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import BoolArray
from pyro_probmix.experiments.report.numbers.paper import BASELINES, METHODS, PROBABILISTIC

__all__ = ["stock_claims", "uci_claims"]

NINE = METHODS[:9]
NETWORKS = {"lstm": "LSTM", "transformer": "Transformer"}


def uci_claims() -> list[Claim]:
    return [*_of_the_lowest(), *_of_the_embedding()]


def _of_the_lowest() -> list[Claim]:
    naval = "naval-propulsion-plant"
    erm_behind = (
        lambda means: np.asarray(lowest(means, PROBABILISTIC) < means["ERM"]),
        lambda means: (_lowest(means, PROBABILISTIC), "ERM"),
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
                1,
                lambda means: ~_probabilistic_lowest(means),
                _lowest_shown,
                rows=lambda _, dataset: dataset == naval,
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
    ]


def _of_the_embedding() -> list[Claim]:
    return [
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


def stock_claims() -> list[Claim]:
    return [*_of_the_stocks_nll(), *_of_two_stocks_in_detail(), *_of_the_stocks_rmse()]


def _of_the_stocks_nll() -> list[Claim]:
    return [
        *(
            Claim(
                f"S{k}",
                "6.3, Table 2",
                f"With the {NETWORKS[network]}, a probabilistic method has the lowest NLL on three of the four stocks.",
                "on at least three of four",
                on_rows(2, _probabilistic_lowest, _lowest_shown, need=3, rows=_with(network)),
            )
            for k, network in enumerate(NETWORKS, start=1)
        ),
    ]


def _of_two_stocks_in_detail() -> list[Claim]:
    return [
        Claim(
            "S3",
            "6.3, Table 2",
            "On RCL, Mix has the lowest NLL.",
            "with both networks",
            on_rows(
                2,
                lambda means: np.asarray(means["Mix"] <= lowest(means, NINE)),
                lambda means: (_lowest(means, NINE), "Mix"),
                rows=_of("RCL"),
            ),
        ),
        Claim(
            "S4",
            "6.3",
            "On GME the networks overfit.",
            "ERM's median test NLL above its validation NLL, with both networks",
            every(*(_overfits(network) for network in NETWORKS)),
        ),
        Claim(
            "S5",
            "6.3",
            "On GME, Mix improves on ERM in NLL.",
            "with both networks",
            on_rows(2, *_before("Mix", "ERM"), rows=_of("GME")),
        ),
        Claim(
            "S6",
            "6.3",
            "On GME, ProbMix and M-ProbMix have a much lower NLL than Mix.",
            "below it by any amount, with both networks",
            on_rows(
                2,
                lambda means: np.asarray(np.maximum(means["ProbMix"], means["M-ProbMix"]) < means["Mix"]),
                lambda means: ("Mix", "ProbMix", "M-ProbMix"),
                rows=_of("GME"),
            ),
        ),
    ]


def _of_the_stocks_rmse() -> list[Claim]:
    return [
        Claim(
            "S7",
            "E.3, Table 4",
            "On most stocks, ERM and Mix have a lower RMSE than the probabilistic methods.",
            "the lower of the two below all of them, on at least five of eight rows",
            on_rows(
                4,
                lambda means: np.asarray(lowest(means, ("ERM", "Mix")) < lowest(means, PROBABILISTIC)),
                lambda means: (_lowest(means, ("ERM", "Mix")), _lowest(means, PROBABILISTIC)),
                need=5,
            ),
        ),
    ]


def _overfits(network: str) -> Check:
    """ERM's NLL on GME is clearly higher on the test rows than on the validation rows, both on the standardised target."""

    def scores(evidence: Evidence) -> Centres:
        rows = evidence.results
        rows = rows[(rows["experiment"] == "stocks") & (rows["dataset"] == "GME") & (rows["network"] == network)]
        rows = diverged_as_worst(rows[(rows["setting"] == evidence.setting) & (rows["method"] == "ERM")])
        names = {"validation nll": f"validation, {network},", "nll (standardised)": f"test, {network},"}
        frame = rows.pivot(index="split", columns="metric", values="value").rename(columns=names)
        return Centres(frame[[name for name in names.values() if name in frame]], f"{network} GME", "nll")

    return ahead(scores, "nll", f"validation, {network},", f"test, {network},")


def _lowest(means: Centres, methods: tuple[str, ...]) -> str:
    return min((name for name in methods if means.has(name)), key=lambda name: float(means[name][0]))


def _probabilistic_lowest(means: Centres) -> BoolArray:
    return np.asarray(lowest(means, PROBABILISTIC) < lowest(means, BASELINES))


def _lowest_shown(means: Centres) -> tuple[str, str]:
    return _lowest(means, PROBABILISTIC), _lowest(means, BASELINES)


def _before(a: str, b: str) -> tuple[Callable[[Centres], BoolArray], Callable[[Centres], tuple[str, str]]]:
    """Method a has a lower mean than b, and the two."""
    return lambda means: np.asarray(means[a] < means[b]), lambda means: (a, b)


def _of(stock: str) -> Callable[[str, str], bool]:
    return lambda _, dataset: dataset == stock


def _with(network: str) -> Callable[[str, str], bool]:
    return lambda row, _: row == network
