"""The paper's claims, and what results say to each."""

from pyro_probmix.experiments.report.claims.claims import CLAIMS, paper_verdicts, verdicts

__all__ = ["CLAIMS", "paper_verdicts", "verdicts"]
