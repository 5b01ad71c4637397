"""Where a student looks: maps over the frames of a clip, drawn over the video."""

from froster.explanation.maps import Kind, explain
from froster.explanation.overlay import overlay
from froster.explanation.share import share_on

__all__ = ["Kind", "explain", "overlay", "share_on"]
