"""The report on runs: our tables, claims and figures beside the paper's, as HTML and Markdown."""

from __future__ import annotations

from pyro_probmix.experiments.report.writing import write_report

__all__ = ["write_report"]
