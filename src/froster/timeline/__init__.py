"""When what happens in a long video or a stream: scores over time, and segments that are named."""

from froster.timeline.scoring import calibrate_threshold, score_timeline
from froster.timeline.segments import USUAL_THRESHOLD, Moment, Segment, SegmentFinder, Threshold, find_segments

__all__ = [
    "USUAL_THRESHOLD",
    "Moment",
    "Segment",
    "SegmentFinder",
    "Threshold",
    "calibrate_threshold",
    "find_segments",
    "score_timeline",
]
