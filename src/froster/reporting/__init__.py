"""A model on labeled videos as one HTML page that needs nothing else."""

from froster.reporting.write import write_report

__all__ = ["write_report"]
