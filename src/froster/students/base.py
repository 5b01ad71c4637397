"""What every student network has in common."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from froster.checkpoints.checkpoint import ClipSource, StateDict
from froster.clip.model import Clip, ClipConfig
from froster.scoring import Average, class_similarities
from froster.students.flow import Exchange, Step
from froster.text.prompts import TEMPLATES


@dataclass(frozen=True)
class Observation:
    """What a student made of clips.

    `features`: `(B, T, D)`, of every frame, not normalised. `context`: what its class features adapt to, in a form of
    the student's own, first axis B; None where they are the same for every video.
    """

    features: Tensor
    context: Tensor | None = None


class VideoStudent(nn.Module):
    """A video model that starts from a `Clip` and takes over its modules.

    Its parameters keep the names they have in `Clip` (`visual.*`, `text.*`, `logit_scale`), so a checkpoint of CLIP
    loads into any student; a subclass replaces or adds what its paper adds. All that text features depend on lies
    in `text`.

    A subclass says what its method is: `name` is what users type, `title` what tables show; `trained` is a regular
    expression, searched in the names of the parameters that training changes; `average`, whether logits or features of
    the frames are averaged; `templates`, the prompts of a class beside its bare text, none where the network learns the
    words around it; `unit_classes`, whether the class matrix is normalised.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    trained: str = ""
    average: Average = "logits"
    templates: tuple[str, ...] = TEMPLATES
    unit_classes: bool = True

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.config: ClipConfig = clip.config
        self.options: dict[str, Any] = {}
        self.clip_name: str | None = None  # what `load_clip` takes, if a plain CLIP is what this one was loaded from
        self.clip_source: ClipSource | None = None  # where the tensors of CLIP are, if a checkpoint need not hold them
        self.random_start: str | None = None  # digest of what it adds, where that was drawn at random and counts
        self.visual = clip.visual
        self.text = clip.text
        self.logit_scale = clip.logit_scale

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of the options of this student, those of its constructor."""
        return [key for key in inspect.signature(cls).parameters if key != "clip"]

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """Tensors of the method's released checkpoints under the names here; CLIP's own part has its names already."""
        return state

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        """Options that the method's released tensors show, under the names here; the others keep their defaults."""
        return {}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the method trains, by name."""
        return {name: p for name, p in self.named_parameters() if re.search(self.trained, name)}

    def encode_video(self, frames: Tensor) -> Tensor:
        """Feature of every frame: `(B, T, 3, H, W)` float -> `(B, T, D)`, not normalised.

        `froster.video.load_video(path, size=model.config.image_size).frames` gives such frames, CLIP-normalised.
        Raises `ValueError` for other shapes.
        """
        return self.observe(frames).features

    def observe(self, frames: Tensor) -> Observation:
        """All that `similarities` needs of clips: `(B, T, 3, H, W)` float, CLIP-normalised."""
        return Observation(self.visual(frames))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text features: `(K, L)` int64 of `froster.clip.tokenizer.tokenize` -> `(K, D)`, not normalised."""
        return self.text(tokens)

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """Rows of a class matrix, of whatever `similarities` takes: `(K, L)` int64 -> `(K, …)`."""
        return self.encode_text(tokens)

    def class_features(self, classes: Tensor) -> Tensor:
        """What a class matrix means without any video, to compare with the teacher's: `(K, …)` -> `(K, D)`."""
        return classes

    def similarities(self, observation: Observation, classes: Tensor, average: Average | None = None) -> Tensor:
        """Cosine of clips with every class of `froster.text.classifier.encode_classes`: -> `(B, K)` float32.

        `exp(logit_scale)` makes them logits. `average` overrules the method's own.
        """
        return class_similarities(observation.features, classes, average or self.average)

    def token_flow(self, recorded: Sequence[Tensor], numbers: Tensor) -> list[Step]:
        """What the tokens of one clip took from one another, in the order in which `observe` computed it.

        `recorded`: what `froster.clip.attention.record_attention` kept of `observe`. `numbers`: `(T, N)` int64, of the
        tokens of every frame, class token first. This one is for CLIP's layers, frame by frame, behind which there may
        be a transformer over the frames' features.
        """
        layers, class_tokens = len(self.visual.blocks), numbers[None, :, 0]
        within_frames: list[Step] = [Exchange(weights, numbers, numbers) for weights in recorded[:layers]]
        return within_frames + [Exchange(weights, class_tokens, class_tokens) for weights in recorded[layers:]]
