"""`report.html`: what was found, whether to believe it, and how it was made, for people."""

from morph.report.page import write_report

__all__ = ["write_report"]
