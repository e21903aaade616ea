"""The page of a model: what it generates and how it scores, as one HTML file beside it."""

from seqvae.reports.page.report import write_report

__all__ = ["write_report"]
