"""The claims of sections 6.1 and E.1.2: toy classification and its ablation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pyro_probmix.experiments.report.claims.checks import (
    Scores,
    ahead,
    every,
    first_places,
    on_grid,
    ratio,
    similar,
    within,
)
from pyro_probmix.experiments.report.claims.evidence import Check, Claim, Evidence
from pyro_probmix.experiments.report.claims.regression import EIGHT, NINE, OURS, toy_scores
from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import BoolArray, Finding
from pyro_probmix.experiments.report.numbers.paper import BASELINES

__all__ = ["toy_classification_claims"]

nll, accuracy = toy_scores("classification", "nll"), toy_scores("classification", "accuracy")


WHERE = "6.1, toy classification"
CLEAR = "by the medians"
NO_WORSE = "a median at most a quarter above, an accuracy at most 0.02 below,"


def toy_classification_claims() -> list[Claim]:
    return [*_of_accuracy_and_nll(), *_of_perturbed_labels(), *_of_boundaries()]


def _of_accuracy_and_nll() -> list[Claim]:
    return [
        Claim(
            "C1",
            WHERE,
            "All methods have about the same accuracy.",
            "medians at most 0.05 apart",
            within(accuracy, "accuracy", NINE, 0.05),
        ),
        Claim(
            "C2",
            WHERE,
            "ERM and LocM-ProbMix have the best accuracy.",
            "the first two places of nine by the medians",
            first_places(accuracy, "accuracy", ("ERM", "LocM-ProbMix"), NINE),
        ),
        Claim(
            "C3",
            WHERE,
            "At β = 0, M-Mix and ProbMix have the worst accuracy.",
            "the last two places of nine, mean over α",
            first_places(_beta("accuracy", 0.0), "accuracy", ("M-Mix", "ProbMix"), NINE, last=True),
        ),
        Claim(
            "C4",
            WHERE,
            "At β = 0, ProbMix is nevertheless competitive in NLL.",
            f"mean over α, {NO_WORSE} that of ERM",
            similar(_beta("nll", 0.0), "nll", "ProbMix", "ERM", or_ahead=True),
        ),
        Claim(
            "C5",
            WHERE,
            "M-Mix has about twice the NLL of ERM.",
            "medians, 1.5 to 2.5 times",
            ratio(nll, "nll", "median", "M-Mix", "ERM", 1.5, 2.5),
        ),
    ]


def _of_perturbed_labels() -> list[Claim]:
    return [
        Claim(
            "C6",
            WHERE,
            "With β = 0.01 in place of 0, ProbMix gains in accuracy and NLL.",
            f"mean over α, {CLEAR}",
            every(_improves("accuracy", "ProbMix"), _improves("nll", "ProbMix")),
        ),
        Claim(
            "C7",
            WHERE,
            "The probabilistic methods do best at β = 0.01.",
            f"each of the four has a better accuracy and NLL than at β = 0, mean over α, {CLEAR}",
            every(*(_improves(m, name) for name in OURS for m in ("accuracy", "nll"))),
        ),
        Claim(
            "C8",
            WHERE,
            "At β = 0.01 each probabilistic method is competitive with the baselines or ahead of them.",
            f"{NO_WORSE} those of ERM, Mix, LocMix, M-Mix and LocM-Mix, mean over α",
            every(*(_competitive(m, name) for name in OURS for m in ("accuracy", "nll"))),
        ),
    ]


def _of_boundaries() -> list[Claim]:
    return [
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
            "accuracy at least 0.98 times ProbMix's",
            every(
                *(
                    ratio(accuracy, "accuracy", "median", name, "ProbMix", 0.98, math.inf)
                    for name in ("LocMix", "LocM-Mix")
                )
            ),
        ),
        Claim(
            "C11",
            "E.1.2, Figure 14",
            "Mix and M-Mix suffer from manifold intrusion.",
            f"accuracy below that of LocMix and LocM-Mix {CLEAR}",
            every(*(ahead(accuracy, "accuracy", f"Loc{name}", name) for name in ("Mix", "M-Mix"))),
        ),
        Claim(
            "C12",
            "E.1.2, Figure 14",
            "So do M-ProbMix and LocM-ProbMix: fusing at the response generalises better here than at an embedding.",
            f"accuracy below that of ProbMix and LocProbMix {CLEAR}",
            every(
                *(
                    ahead(accuracy, "accuracy", a, b)
                    for a, b in (("ProbMix", "M-ProbMix"), ("LocProbMix", "LocM-ProbMix"))
                )
            ),
        ),
        Claim(
            "C13",
            "E.1.2, Figures 15 to 24",
            "Over the grid of α and β, ProbMix and LocProbMix are ahead of M-ProbMix and LocM-ProbMix in accuracy and NLL.",
            "both pairs, in more than half of the 20 panels",
            on_grid("classification", ("accuracy", "nll"), _response_ahead, OURS),
        ),
    ]


def _beta(metric: str, beta: float) -> Scores:
    return lambda evidence: evidence.at_beta("classification", metric, beta)


def _both_betas(metric: str, method: str) -> Scores:
    """A method's scores at the two betas, mean over alpha, as two columns."""

    def scores(evidence: Evidence) -> Centres:
        cells = {f"{method} at β={b:g}": _beta(metric, b)(evidence).frame.get(method) for b in (0.0, 0.01)}
        frame = pd.DataFrame({name: column for name, column in cells.items() if column is not None})
        return Centres(frame, "ablation-classification", metric)

    return scores


def _improves(metric: str, method: str) -> Check:
    return ahead(_both_betas(metric, method), metric, f"{method} at β=0.01", f"{method} at β=0")


def _response_ahead(cell: Centres, lower: bool) -> BoolArray:
    sign = -1 if lower else 1
    pairs = (("ProbMix", "M-ProbMix"), ("LocProbMix", "LocM-ProbMix"))
    return np.asarray(np.all([sign * (cell[a] - cell[b]) > 0 for a, b in pairs], axis=0))


def _competitive(metric: str, method: str) -> Check:
    """No worse than any baseline; the numbers of one that it loses to."""
    scores = _beta(metric, 0.01)
    checks = [similar(scores, metric, method, name, or_ahead=True) for name in BASELINES]

    def check(evidence: Evidence) -> Finding | None:
        parts = [part(evidence) for part in checks]
        found = [part for part in parts if part is not None]
        together = every(*checks)(evidence)
        if together is None or len(found) < len(parts):
            return None
        lost = next((part.numbers for part in found if part.no[0]), None)
        text = f"{'NLL' if metric == 'nll' else metric} {method} beside all five"
        return Finding(together.yes, together.no, lost or (text,), together.runs)

    return check
