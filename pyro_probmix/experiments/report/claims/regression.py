"""The claims of sections 6.1 and E.1.1: toy regression and its ablation."""

from __future__ import annotations

import math

from pyro_probmix.experiments.report.claims.checks import (
    Scores,
    ahead,
    every,
    first_places,
    number,
    on_grid,
    ratio,
    similar,
)
from pyro_probmix.experiments.report.claims.evidence import Claim, Evidence, Verdict
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
    clear = "by more than two standard errors of the paired difference"
    alike = "paired differences of at most two standard errors"
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
            clear,
            every(*(ahead(nll, "nll", f"Loc{name}", name) for name in ("Mix", "ProbMix"))),
        ),
        Claim(
            "R7",
            where,
            "M-ProbMix and LocM-ProbMix have the best MSE and NLL.",
            "the first two places of nine",
            every(first_places(mse, "mse", MANIFOLD, NINE), first_places(nll, "nll", MANIFOLD, NINE)),
        ),
    ]


def _of_the_figures() -> list[Claim]:
    clear = "by more than two standard errors of the paired difference"
    return [
        Claim(
            "R8",
            "Figure 2",
            "Mix and LocMix do poorly on the test rows, where LocProbMix has the better calibrated uncertainty.",
            f"NLL of LocProbMix below that of each of the four mixup methods {clear}",
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
            "the largest root mean variance of the eight mixup methods",
            first_places(sharpness, "sharpness", ("LocProbMix", "LocM-ProbMix"), EIGHT, last=True),
        ),
        Claim(
            "R11",
            "E.1.1",
            "Mix and M-Mix narrow the uncertainty on the test rows.",
            f"root mean variance below ERM's {clear}",
            every(*(ahead(sharpness, "sharpness", name, "ERM") for name in ("Mix", "M-Mix"))),
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
            on_grid("regression", ("mse", "nll"), lambda means, lower: means[list(NINE)].idxmin() in MANIFOLD, NINE),
        ),
    ]


def _misses_mean(evidence: Evidence) -> Verdict:
    frame = mse(evidence)
    if "LocProbMix" not in frame:
        return Verdict("not measured")
    value = float(frame["LocProbMix"].mean())
    return Verdict("supported" if value > 18 else "contradicted", (f"MSE LocProbMix {number(value)}",))
