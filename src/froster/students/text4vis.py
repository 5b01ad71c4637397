"""Text4Vis (Wu, Sun and Ouyang, AAAI 2023): the text features of the class names are a classifier that stays frozen.

Only the image side learns, to meet that classifier; with the feature x_t of frame t,

    score(video, class) = cosine(mean of y_t over the frames, text feature of the frozen CLIP),

where y = x, or, with a temporal head, y = (x + transformer(x + p)) / 2 with learned positions p.
"""

from typing import Any

from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.checkpoints.checkpoint import StateDict
from froster.errors import FrosterError
from froster.students.action_clip import ActionClip, TemporalTransformer
from froster.students.base import VideoFeatures, VideoStudent

MAX_LAYERS = 64


class Text4Vis(VideoStudent):
    """CLIP with a frozen text encoder, scored by the mean of its frame features.

    `temporal` is the number of layers of a transformer over the frames, ActionCLIP's; 0 is none, the authors' models
    for ViT have 6. Its outputs and positions are zero at the start, so that y = x. Raises `FrosterError` when it is out
    of range.
    """

    name = "text4vis"
    title = "Text4Vis"
    trainable_params = r"^(visual|temporal)\."
    temporal_pooling = "features"

    def __init__(self, backbone: Backbone, temporal: int = 0) -> None:
        if not isinstance(temporal, int) or not 0 <= temporal <= MAX_LAYERS:
            raise FrosterError(
                f"text4vis's temporal is the number of layers over the frames, 0 to {MAX_LAYERS}; not {temporal!r}."
            )
        super().__init__(backbone)
        self.options = {"temporal": temporal}
        self.temporal: TemporalTransformer | None = None
        if temporal:
            config = backbone.config
            self.temporal = TemporalTransformer(config.embed_dim, config.text_heads, temporal, config.context_length)
            start_at_zero(self.temporal)

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        return ActionClip.from_released(state)  # the head has the names of ActionCLIP's, whose code it is

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        return {"temporal": len({key.split(".")[2] for key in state if key.startswith("temporal.blocks.")})}

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        x = self.visual(frames)
        # The head gives x twice at the start; the cosine does not see the half.
        return VideoFeatures(self.temporal(x) / 2 if self.temporal else x)


def start_at_zero(head: TemporalTransformer) -> None:
    for name, parameter in head.named_parameters():
        if name.endswith(("positional_embedding", "attn.out_proj.weight", "mlp.2.weight")):
            nn.init.zeros_(parameter)
