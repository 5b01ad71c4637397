"""The text side of a training step: one random template and the bare text of every class (FROSTER, released code)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.clip.tokenizer import tokenize
from froster.students import VideoStudent
from froster.text.classifier import TextEncoder, encode_texts
from froster.text.prompts import TEMPLATES, class_prompts


class ClassTexts:
    """Prompts of K classes (name -> description): one row for each template, the last one is the bare text."""

    def __init__(self, labels: Mapping[str, str], templates: tuple[str, ...] = TEMPLATES) -> None:
        prompts = [class_prompts(name, description, templates) for name, description in labels.items()]
        self.prompts = [list(row) for row in zip(*prompts, strict=True)]
        self.tokens = tokenize([prompt for row in self.prompts for prompt in row]).unflatten(0, (-1, len(labels)))
        self.classes, self.templates = len(labels), len(templates)

    def encode(self, student: VideoStudent, template: int, rank: int = 0, processes: int = 1) -> Tensor:
        """This process's share of the class matrix, with gradient: `(ceil(K / processes), D)` float32, L2-normalised.

        Each prompt's feature is normalised, the two of a class are averaged, the mean is normalised again. Where K is
        not a multiple of the processes, the last shares are filled up with the last class.
        """
        tokens = self.tokens[[template, -1]]
        share = -(-self.classes // processes)
        own = torch.arange(rank * share, (rank + 1) * share).clamp(max=self.classes - 1)
        texts = tokens[:, own].flatten(0, 1)
        texts = texts[:, : int(texts.argmax(dim=1).max()) + 1].to(student.logit_scale.device)
        features = F.normalize(student.encode_text(texts).float(), dim=-1).unflatten(0, (2, share))
        return F.normalize(features.mean(dim=0), dim=-1)


class FrozenClasses:
    """Class matrices of a text encoder that does not change: each prompt is encoded once."""

    def __init__(self, model: TextEncoder, texts: ClassTexts) -> None:
        self.model, self.texts = model, texts
        self.features: dict[int, Tensor] = {}

    def __call__(self, template: int) -> Tensor:
        """What `ClassTexts.encode` gives, without gradient: `(K, D)` float32 on the model's device."""
        return F.normalize((self.row(template) + self.row(self.texts.templates)) / 2, dim=-1)

    def row(self, template: int) -> Tensor:
        if template not in self.features:
            features = encode_texts(self.model, self.texts.prompts[template])
            # Tensors made in inference mode cannot take part in a backward pass; a copy can.
            self.features[template] = features.clone().to(next(self.model.text.parameters()).device)
        return self.features[template]
