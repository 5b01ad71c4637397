"""The evaluation of a model as one self-contained HTML page."""

from froster.reporting.write import report

__all__ = ["report"]
