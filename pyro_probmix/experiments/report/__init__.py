"""The report on runs: the paper's tables, claims and figures, ours beside them, as HTML and Markdown."""

from __future__ import annotations

from pyro_probmix.experiments.report.writing import write_report

__all__ = ["write_report"]
