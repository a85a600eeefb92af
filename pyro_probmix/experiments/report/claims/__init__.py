"""The paper's claims, and the verdicts of results on them."""

from pyro_probmix.experiments.report.claims.claims import CLAIMS, paper_verdicts, verdicts

__all__ = ["CLAIMS", "paper_verdicts", "verdicts"]
