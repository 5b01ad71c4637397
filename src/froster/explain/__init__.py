"""Where a student looks: maps over the frames of a clip, drawn over the video."""

from froster.explain.maps import Kind, explain
from froster.explain.overlay import overlay
from froster.explain.share import share_on

__all__ = ["Kind", "explain", "overlay", "share_on"]
