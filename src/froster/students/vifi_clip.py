"""ViFi-CLIP (Rasheed et al., CVPR 2023): CLIP as it is, both encoders tuned; the features of the frames are averaged.

    score(video, class) = cosine(mean of x_t over the frames, text feature)

No layer sees two frames; the paper's finding is that tuning all of CLIP on videos is enough.
"""

from froster.checkpoints.checkpoint import StateDict
from froster.checkpoints.foreign import EMBEDDED_PROMPTS
from froster.students.frame_clip import FrameClip


class ViFiClip(FrameClip):
    """Per-frame CLIP, scored by the mean of its frame features."""

    name = "vifi_clip"
    title = "ViFi-CLIP"
    temporal_pooling = "features"

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        return {key: value for key, value in state.items() if key != EMBEDDED_PROMPTS}
