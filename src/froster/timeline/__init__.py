"""Temporal localization in a long video or a stream: scores over time, and labeled segments."""

from froster.timeline.scoring import calibrate_threshold, score_timeline
from froster.timeline.segments import DEFAULT_THRESHOLD, Segment, SegmentFinder, Threshold, WindowScores, find_segments

__all__ = [
    "DEFAULT_THRESHOLD",
    "Segment",
    "SegmentFinder",
    "Threshold",
    "WindowScores",
    "calibrate_threshold",
    "find_segments",
    "score_timeline",
]
