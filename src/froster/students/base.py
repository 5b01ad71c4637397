"""What every student network has in common."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from froster.backbones.base import Backbone, VisionLanguageModel
from froster.checkpoints.checkpoint import BackboneSource, StateDict
from froster.data.trained import TrainedVideos
from froster.provenance import ClipSampling
from froster.scoring import TemporalPooling, class_similarities
from froster.students.attention_graph import AttentionStep, PoolingStep, Step
from froster.students.needs import Need, require
from froster.text.classes import ClassTexts
from froster.text.labels import LabelSet, check_labels
from froster.text.prompts import TEMPLATES, PromptStyle


class VideoFeatures(NamedTuple):
    """What a student computes of clips before any class is known.

    `frame_embeddings`: `(B, T, D)`, not normalized. `context`: what the class embeddings are conditioned on, in a form
    of the student's own, first axis B; None where they are the same for every video.
    """

    frame_embeddings: Tensor
    context: Tensor | None = None


class VideoOutput(NamedTuple):
    """What `model(frames, class_embeddings)` returns.

    `logits`: `(B, K)` float32, the cosines through the backbone's score head. `frame_embeddings`: `(B, T, D)`, not
    normalized.
    """

    logits: Tensor
    frame_embeddings: Tensor


class VideoStudent(VisionLanguageModel):
    """A video model that starts from a `Backbone` and takes over its modules.

    Its parameters keep the names they have in the backbone (`visual.*`, `text.*`, `logit_scale`), so a checkpoint of
    the backbone loads into any student; a subclass replaces or adds what its paper adds. All that the class embeddings
    depend on is in `text`.

    Class attributes of a subclass:

    - `name`: what users type, and `title`: what tables show.
    - `needs`: what it needs of a backbone, of `froster.students.needs`; any backbone will do where there is nothing.
    - `trainable_params`: regular expression, searched in the names of the parameters that training updates.
    - `temporal_pooling`: whether `"logits"` or `"features"` are averaged over the frames.
    - `templates`: prompt templates of a class; none where the network learns its prompts.
    - `prompt_style`: how templates, names and descriptions are combined; see `froster.text.prompts.class_prompts`.
    - `merges`: whether it trains updates beside the backbone's weights, which `merged` adds to them.
    - `released_templates`: those of the method's released checkpoints, where they are others; used without bare names.
    - `normalize_class_embeddings`: whether the embeddings of a class are normalized before and after averaging prompts.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ()
    trainable_params: str = ""
    temporal_pooling: TemporalPooling = "logits"
    templates: tuple[str, ...] = TEMPLATES
    released_templates: ClassVar[tuple[str, ...]] = ()
    prompt_style: PromptStyle = "froster"
    normalize_class_embeddings: bool = True
    merges: ClassVar[bool] = False

    def __init__(self, backbone: Backbone) -> None:
        require(self.title, backbone, self.needs)
        super().__init__()
        self.config, self.tokenizer = backbone.config, backbone.tokenizer
        self.options: dict[str, Any] = {}
        self.backbone_name: str | None = None  # what `load_backbone` takes, if it was loaded from a plain backbone
        self.backbone_source: BackboneSource | None = None  # where those weights are that a checkpoint need not hold
        self.random_start: str | None = None  # digest of randomly initialized modules that its predictions depend on
        self._labels: ClassTexts | None = None
        self.clip_sampling = ClipSampling()  # default sampling of clips from a video
        self.trained_on: TrainedVideos | None = None  # the training videos, if known
        self.visual, self.text = backbone.visual, backbone.text
        self.logit_scale = backbone.logit_scale
        self.register_parameter("logit_bias", backbone.logit_bias)

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of the options of this student, those of its constructor."""
        return list(inspect.signature(cls).parameters)[1:]  # behind the backbone

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """Tensors of the method's released checkpoints under the names here; CLIP's own have their names already."""
        return state

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        """Options that the method's released tensors show, under the names here; the others keep their defaults."""
        return {}

    @property
    def labels(self) -> ClassTexts | None:
        """The classes that it was trained on, if known; set to names, or to name -> description."""
        return self._labels

    @labels.setter
    def labels(self, labels: LabelSet | None) -> None:
        self._labels = None if labels is None else check_labels(labels)

    def encode_classes(self, labels: LabelSet, templates: tuple[str, ...] | None = None) -> Tensor:
        """Class embeddings for `forward`, `(K, ...)` float32 on the model's device.

        `labels`: names, name -> description, or the name of a vocabulary such as `"ucf-101"`. `templates`: by default
        the model's own.
        """
        from froster.text.classifier import encode_classes  # which is written for any student

        return encode_classes(self, labels, templates).to(self.logit_scale.device)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the method trains, by name."""
        return {name: p for name, p in self.named_parameters() if re.search(self.trainable_params, name)}

    def merged(self) -> "VideoStudent":
        """The model to release: the same function without parameters that only training needs; by default itself."""
        return self

    def forward(self, frames: Tensor, class_embeddings: Tensor) -> VideoOutput:
        """Logits of clips over classes.

        `frames`: `(B, T, 3, H, W)` float, normalized (`froster.video.load_video` gives them). `class_embeddings`:
        `(K, ...)` of `froster.text.classifier.encode_classes`. Raises `ValueError` for other shapes.
        """
        features = self.forward_features(frames)
        logits = self.similarities_to_logits(self.similarities(features, class_embeddings))
        return VideoOutput(logits, features.frame_embeddings)

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        """The part of `forward` that needs no classes: `(B, T, 3, H, W)` float, normalized."""
        return VideoFeatures(self.visual(frames))

    def similarities(
        self, features: VideoFeatures, class_embeddings: Tensor, temporal_pooling: TemporalPooling | None = None
    ) -> Tensor:
        """Cosine of every clip with every class: `(B, K)` float32, of which `similarities_to_logits` makes logits.

        `temporal_pooling` overrides the method's own.
        """
        pooling = temporal_pooling or self.temporal_pooling
        return class_similarities(features.frame_embeddings, class_embeddings, pooling)

    def encode_video(self, frames: Tensor) -> Tensor:
        """Frame embeddings: `(B, T, 3, H, W)` float, normalized -> `(B, T, D)`, not normalized.

        `froster.load_video(path, preprocess=model.preprocess).frames` gives such frames. Raises `ValueError` for other
        shapes.
        """
        return self.forward_features(frames).frame_embeddings

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """Prompt embeddings, whose mean over a class's prompts is its class embedding: `(K, L)` int64 -> `(K, ...)`.

        For most students `encode_text`; TC-CLIP conditions its texts on the video, in `similarities`.
        """
        return self.encode_text(tokens)

    def unconditional_class_embeddings(self, class_embeddings: Tensor) -> Tensor:
        """Class embeddings without any video, to compare with the teacher's: `(K, ...)` -> `(K, D)`."""
        return class_embeddings

    def attention_graph(self, recorded: Sequence[Tensor], numbers: Tensor) -> list[Step]:
        """Which tokens of one clip attended to which, in the order in which `forward_features` computed it.

        `recorded`: what `froster.backbones.attention.record_attention` kept of `forward_features`. `numbers`: `(T, N)`
        int64, of the tokens of every frame, those of `visual.prefix_tokens` first. Behind the layers of the image
        encoder, its pooling may be an attention, and there may be a transformer over the frame embeddings.
        """
        weights = iter(recorded)
        steps = self.layer_steps(weights, numbers)
        frames = self.frame_tokens(numbers)
        if self.visual.pools_by_attention:
            steps.append(PoolingStep(next(weights), frames[:, None], numbers))
        return steps + [AttentionStep(over_frames, frames[None], frames[None]) for over_frames in weights]

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        """`attention_graph` of the image encoder's layers, which takes theirs of the recorded attention."""
        return [AttentionStep(next(recorded), numbers, numbers) for _ in self.visual.blocks]

    def frame_tokens(self, numbers: Tensor) -> Tensor:
        """Numbers of the tokens that become the frame embeddings, `(T,)`: class tokens, or added ones for pooling."""
        if self.visual.pools_by_attention:
            return numbers.numel() + torch.arange(len(numbers), device=numbers.device)
        return numbers[:, 0]
