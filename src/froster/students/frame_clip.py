"""Per-frame CLIP: no exchange between frames. Frozen CLIP and fine-tuned CLIP are this network."""

from froster.students.base import VideoStudent


class FrameClip(VideoStudent):
    """Every frame of the clip goes through CLIP by itself."""

    name = "frame_clip"
    title = "CLIP"
