"""The text side of a training step: one random template and the bare text of every class (FROSTER, released code)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from froster.clip.tokenizer import tokenize
from froster.students import VideoStudent
from froster.text.classifier import average_prompts, encode_tokens, token_ids, warn_of_cut_texts
from froster.text.prompts import class_prompts
from froster.training.processes import find_processes


class ClassTexts:
    """Prompts of K classes (name -> description): one row for each template, the last one is the bare text."""

    def __init__(self, labels: Mapping[str, str], templates: tuple[str, ...]) -> None:
        prompts = [class_prompts(name, description, templates) for name, description in labels.items()]
        self.prompts = [list(row) for row in zip(*prompts, strict=True)]
        self.tokens = tokenize([prompt for row in self.prompts for prompt in row]).unflatten(0, (-1, len(labels)))
        self.classes = len(labels)
        self.rooms: set[int] = set()  # of the text encoders that the prompts were compared with

    def warn_once(self, student: VideoStudent) -> None:
        """Warn of prompts, of whatever template, for which the student's text encoder has no room; in one process."""
        if student.text.max_text_tokens not in self.rooms and find_processes().is_main_process:
            self.rooms.add(student.text.max_text_tokens)
            warn_of_cut_texts(student, [prompt for row in self.prompts for prompt in row], self.tokens.flatten(0, 1))

    def rows(self, template: int) -> list[int]:
        """The rows of a step: that template, and the bare text, which may be all there is."""
        bare = len(self.tokens) - 1
        return [template % bare, bare] if bare else [bare]

    def encode(self, student: VideoStudent, template: int, rank: int = 0, processes: int = 1) -> Tensor:
        """This process's share of the class matrix, with gradient: `(ceil(K / processes), …)` float32.

        As `froster.text.classifier.encode_classes`, of two prompts a class. Where K is not a multiple of the processes,
        the last shares are filled up with the last class. The first call warns of prompts that are too long.
        """
        self.warn_once(student)
        tokens = self.tokens[self.rows(template)]
        share = -(-self.classes // processes)
        own = torch.arange(rank * share, (rank + 1) * share).clamp(max=self.classes - 1)
        texts = tokens[:, own].flatten(0, 1)
        texts = texts[:, : int(texts.argmax(dim=1).max()) + 1].to(student.logit_scale.device)
        return average_prompts(student, student.encode_prompts(texts).unflatten(0, (-1, share)))


class FrozenClasses:
    """Class matrices of a text encoder that does not change: each prompt is encoded once.

    `features`, by the prompts' number: their rows `(K, …)` of `encode_prompts`.
    """

    def __init__(self, model: VideoStudent, texts: ClassTexts) -> None:
        self.model, self.texts = model, texts
        self.features: dict[int, Tensor] = {}

    def __call__(self, template: int) -> Tensor:
        """What `ClassTexts.encode` gives in one process, without gradient: `(K, …)` float32 on the model's device."""
        self.texts.warn_once(self.model)
        return average_prompts(self.model, torch.stack([self.row(number) for number in self.texts.rows(template)]))

    def row(self, number: int) -> Tensor:
        if number not in self.features:
            features = encode_tokens(self.model, token_ids(self.model, self.texts.prompts[number]))
            # Tensors made in inference mode cannot take part in a backward pass; a copy can.
            self.features[number] = features.clone().to(next(self.model.text.parameters()).device)
        return self.features[number]
