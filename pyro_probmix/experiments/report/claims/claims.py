"""The checkable claims of the paper's sections 6.1 to 6.3 and Appendix E, and their verdicts from results."""

from __future__ import annotations

from functools import cache

from pyro_probmix.experiments.report.claims.classification import toy_classification_claims
from pyro_probmix.experiments.report.claims.evidence import Claim, Evidence
from pyro_probmix.experiments.report.claims.regression import toy_regression_claims
from pyro_probmix.experiments.report.claims.tables import stock_claims, uci_claims
from pyro_probmix.experiments.report.claims.verdicts import Verdict, decide
from pyro_probmix.experiments.report.numbers.paper import paper_tables

__all__ = ["CLAIMS", "paper_verdicts", "verdicts"]

#: In the order of the paper's sections.
CLAIMS: tuple[Claim, ...] = (
    *toy_regression_claims(),
    *toy_classification_claims(),
    *uci_claims(),
    *stock_claims(),
)


def verdicts(evidence: Evidence) -> list[Verdict]:
    """The verdicts of some results on each claim, in the order of ``CLAIMS``."""
    return decide([claim.check(evidence) for claim in CLAIMS])


@cache
def paper_verdicts() -> tuple[Verdict, ...]:
    """The verdicts of the paper's tables on each claim."""
    return tuple(verdicts(_paper_evidence()))


def _paper_evidence() -> Evidence:
    """The paper's tables as if they were one split's results, to check its claims against its numbers."""
    cells = paper_tables()
    experiment = cells["network"].map(lambda network: "uci" if network == "mlp" else "stocks")
    return Evidence(
        cells.assign(experiment=experiment, setting="paper", split=0, value=cells["mean"]), "paper", tabulated=True
    )
