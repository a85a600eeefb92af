"""The claims of sections 6.1 and E.1.1: toy regression and its ablation."""

from __future__ import annotations

import math

import numpy as np

from pyro_probmix.experiments.report.claims.checks import (
    Scores,
    above,
    ahead,
    every,
    first_places,
    lowest,
    on_grid,
    ratio,
    similar,
)
from pyro_probmix.experiments.report.claims.evidence import Claim
from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import BoolArray
from pyro_probmix.experiments.report.numbers.paper import BASELINES, METHODS

__all__ = ["EIGHT", "NINE", "OURS", "toy_regression_claims", "toy_scores"]

#: The methods of the toys: without the starred ones, and without ERM.
NINE = METHODS[:9]
EIGHT = METHODS[1:9]
OURS = ("ProbMix", "LocProbMix", "M-ProbMix", "LocM-ProbMix")
MANIFOLD = ("M-ProbMix", "LocM-ProbMix")


def toy_scores(task: str, metric: str) -> Scores:
    """The scores of a toy experiment in a metric."""
    return lambda evidence: evidence.toy(task, metric)


mse, nll = toy_scores("regression", "mse"), toy_scores("regression", "nll")
sharpness = toy_scores("regression", "sharpness")


def toy_regression_claims() -> list[Claim]:
    return [*_of_the_text(), *_of_the_figures()]


def _of_the_text() -> list[Claim]:
    where = "6.1, toy regression"
    variants = ("M-Mix", "LocMix", "LocM-Mix")
    clear = "the medians, by any amount"
    alike = "medians at most a quarter of the other's apart"
    pairs = [("ProbMix", "Mix"), ("LocProbMix", "LocMix")]
    return [
        Claim("R1", where, "Mix has a lower MSE than ERM.", clear, ahead(mse, "mse", "Mix", "ERM")),
        Claim(
            "R2",
            where,
            "Mix has a much larger NLL than ERM: it is calibrated worse.",
            clear,
            ahead(nll, "nll", "ERM", "Mix"),
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
            "the range of the middle half of MSE and of NLL at least 1.5 times ERM's",
            every(
                *(
                    ratio(s, m, "iqr", name, "ERM", 1.5, math.inf)
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
            clear,
            every(*(ahead(nll, "nll", f"Loc{name}", name) for name in ("Mix", "ProbMix"))),
        ),
        Claim(
            "R7",
            where,
            "M-ProbMix and LocM-ProbMix have the best MSE and NLL.",
            "the first two places of nine by the medians",
            every(first_places(mse, "mse", MANIFOLD, NINE), first_places(nll, "nll", MANIFOLD, NINE)),
        ),
    ]


def _of_the_figures() -> list[Claim]:
    return [
        Claim(
            "R8",
            "Figure 2",
            "Mix and LocMix do poorly on the test rows, where LocProbMix has the better calibrated uncertainty.",
            "median NLL of LocProbMix below that of each of the four mixup methods",
            every(*(ahead(nll, "nll", "LocProbMix", name) for name in BASELINES[1:])),
        ),
        Claim(
            "R9",
            "Figure 2",
            "LocProbMix still misses the mean on the test rows.",
            "median MSE above twice the noise's variance, 9",
            above(mse, "mse", "LocProbMix", 18.0),
        ),
        Claim(
            "R10",
            "Figure 3",
            "LocProbMix and LocM-ProbMix have the widest bands on the test rows.",
            "the largest median of the root mean variance of the eight mixup methods",
            first_places(sharpness, "sharpness", ("LocProbMix", "LocM-ProbMix"), EIGHT, last=True),
        ),
        Claim(
            "R11",
            "E.1.1",
            "Mix and M-Mix narrow the uncertainty on the test rows.",
            "median of the root mean variance below ERM's",
            every(*(ahead(sharpness, "sharpness", name, "ERM") for name in ("Mix", "M-Mix"))),
        ),
        Claim(
            "R12",
            "E.1.1",
            "ProbMix does poorly on the test rows, its three variants do not.",
            "the highest median NLL of the four",
            first_places(nll, "nll", ("ProbMix",), OURS, last=True),
        ),
        Claim(
            "R13",
            "E.1.1",
            "M-ProbMix, LocProbMix and LocM-ProbMix capture the uncertainty best.",
            "the first three places of nine in median NLL",
            first_places(nll, "nll", OURS[1:], NINE),
        ),
        Claim(
            "R14",
            "E.1.1, Figures 4 to 13",
            "Over the grid of α and β, M-ProbMix and LocM-ProbMix are best in MSE and NLL.",
            "one of them has the lowest median in more than half of the 20 panels",
            on_grid("regression", ("mse", "nll"), _manifold_first, NINE),
        ),
    ]


def _manifold_first(cell: Centres, lower: bool) -> BoolArray:
    others = tuple(name for name in NINE if name not in MANIFOLD)
    return np.asarray(lowest(cell, MANIFOLD) < lowest(cell, others))
