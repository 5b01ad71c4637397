"""Explain predictions: attention and relevance maps over the frames of a clip."""

from froster.explanation.maps import Kind, relevance_maps
from froster.explanation.overlay import overlay
from froster.explanation.share import share_on

__all__ = ["Kind", "overlay", "relevance_maps", "share_on"]
