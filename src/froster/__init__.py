"""froster: open-vocabulary action recognition for video."""

__version__ = "0.1.0"
