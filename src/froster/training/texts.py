"""The text side of a training step: one random template and the bare text of every class (FROSTER, released code)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from froster.clip.tokenizer import tokenize
from froster.students import VideoStudent
from froster.text.classifier import average_prompts, encode_texts
from froster.text.prompts import class_prompts


class ClassTexts:
    """Prompts of K classes (name -> description): one row for each template, the last one is the bare text."""

    def __init__(self, labels: Mapping[str, str], templates: tuple[str, ...]) -> None:
        prompts = [class_prompts(name, description, templates) for name, description in labels.items()]
        self.prompts = [list(row) for row in zip(*prompts, strict=True)]
        self.tokens = tokenize([prompt for row in self.prompts for prompt in row]).unflatten(0, (-1, len(labels)))
        self.classes = len(labels)

    def rows(self, template: int) -> list[int]:
        """The rows of a step: that template, and the bare text, which may be all there is."""
        bare = len(self.tokens) - 1
        return sorted({min(template, bare), bare})

    def encode(self, student: VideoStudent, template: int, rank: int = 0, processes: int = 1) -> Tensor:
        """This process's share of the class matrix, with gradient: `(ceil(K / processes), D)` float32.

        As `froster.text.classifier.encode_classes`, of two prompts a class. Where K is not a multiple of the processes,
        the last shares are filled up with the last class.
        """
        tokens = self.tokens[self.rows(template)]
        share = -(-self.classes // processes)
        own = torch.arange(rank * share, (rank + 1) * share).clamp(max=self.classes - 1)
        texts = tokens[:, own].flatten(0, 1)
        texts = texts[:, : int(texts.argmax(dim=1).max()) + 1].to(student.logit_scale.device)
        return average_prompts(student, student.encode_prompts(texts).unflatten(0, (-1, share)))


class FrozenClasses:
    """Class matrices of a text encoder that does not change: each prompt is encoded once."""

    def __init__(self, model: VideoStudent, texts: ClassTexts) -> None:
        self.model, self.texts = model, texts
        self.features: dict[int, Tensor] = {}

    def __call__(self, template: int) -> Tensor:
        """What `ClassTexts.encode` gives, without gradient: `(K, D)` float32 on the model's device."""
        return average_prompts(self.model, torch.stack([self.row(number) for number in self.texts.rows(template)]))

    def row(self, number: int) -> Tensor:
        if number not in self.features:
            features = encode_texts(self.model, self.texts.prompts[number])
            # Tensors made in inference mode cannot take part in a backward pass; a copy can.
            self.features[number] = features.clone().to(next(self.model.text.parameters()).device)
        return self.features[number]
