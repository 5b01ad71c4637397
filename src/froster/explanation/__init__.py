"""Explain predictions: attention and relevance maps over the frames of a clip."""

from froster.explanation.maps import Kind, explain
from froster.explanation.overlay import overlay
from froster.explanation.share import share_on

__all__ = ["Kind", "explain", "overlay", "share_on"]
