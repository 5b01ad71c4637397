"""The evaluation of a model as one self-contained HTML page."""

from froster.reporting.write import write_report

__all__ = ["write_report"]
