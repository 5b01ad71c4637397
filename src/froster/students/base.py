"""What every student network has in common."""

import inspect
from typing import Any, ClassVar

from torch import Tensor, nn

from froster.clip.model import Clip, ClipConfig


class VideoStudent(nn.Module):
    """A video model that starts from a `Clip` and takes over its modules.

    Its parameters keep the names they have in `Clip` (`visual.*`, `text.*`, `logit_scale`), so a checkpoint of CLIP
    loads into any student; a subclass replaces or adds what its paper adds.
    """

    name: ClassVar[str]

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.config: ClipConfig = clip.config
        self.options: dict[str, Any] = {}
        self.visual = clip.visual
        self.text = clip.text
        self.logit_scale = clip.logit_scale

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of the options of this student, those of its constructor."""
        return [key for key in inspect.signature(cls).parameters if key != "clip"]

    def encode_video(self, frames: Tensor) -> Tensor:
        """Feature of every frame: `(B, T, 3, H, W)` float -> `(B, T, D)`, not normalised.

        `froster.video.load_video(path, size=model.config.image_size).frames` gives such frames, CLIP-normalised;
        `froster.scoring.class_similarities` compares the features with classes. Raises `ValueError` for other shapes.
        """
        return self.visual(frames)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text features: `(K, L)` int64 of `froster.clip.tokenizer.tokenize` -> `(K, D)`, not normalised."""
        return self.text(tokens)
