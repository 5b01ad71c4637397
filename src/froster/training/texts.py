"""Class embeddings in training: the prompts of a step, encoded with gradient or cached."""

import torch
from torch import Tensor

from froster.backbones.tokenizer import Tokenizer
from froster.processes import find_processes
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.classifier import average_prompts, encode_tokens, needed_lengths, token_ids, warn_of_truncated_texts
from froster.text.prompts import PromptStyle, class_prompts


class ClassPrompts:
    """Prompts of K classes: `prompts[row][class]`, see `froster.text.prompts.class_prompts`."""

    def __init__(self, labels: ClassTexts, templates: tuple[str, ...], style: PromptStyle = "froster") -> None:
        prompts = [class_prompts(text, templates, style) for text in labels.values()]
        self.templates = len(templates)
        self.prompts = [list(row) for row in zip(*prompts, strict=True)]
        self.classes = len(labels)
        self.tokens: dict[Tokenizer, Tensor] = {}  # `(P, K, L)` int64, once they are needed
        self.checked_lengths: set[int] = set()  # values of `max_text_tokens` that truncation was reported for

    def tokenize(self, student: VideoStudent) -> Tensor:
        """Token ids of all prompts, of the student's tokenizer: `(P, K, L)` int64."""
        if student.tokenizer not in self.tokens:
            texts = [prompt for row in self.prompts for prompt in row]
            self.tokens[student.tokenizer] = student.tokenizer(texts).unflatten(0, (-1, self.classes))
        return self.tokens[student.tokenizer]

    def warn_once(self, student: VideoStudent) -> None:
        """Warn of prompts that the student's text encoder truncates; in the main process."""
        if student.text.max_text_tokens not in self.checked_lengths and find_processes().is_main_process:
            self.checked_lengths.add(student.text.max_text_tokens)
            texts = [prompt for row in self.prompts for prompt in row]
            warn_of_truncated_texts(student, texts, self.tokenize(student).flatten(0, 1))

    def rows(self, template: int) -> list[int]:
        """The rows of a training step: the template and, where the style has it, the class text alone."""
        chosen = [template % self.templates] if self.templates else []
        return [*chosen, *range(self.templates, len(self.prompts))]

    def encode(self, student: VideoStudent, template: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """This process's part of the class embeddings, with gradient: `(ceil(K / world_size), ...)` float32.

        Like `froster.text.classifier.encode_classes` with the prompts of `rows`. If K is not a multiple of the number
        of processes, the last parts are padded with the last class. The first call warns of truncated prompts.
        """
        self.warn_once(student)
        tokens = self.tokenize(student)[self.rows(template)]
        share = -(-self.classes // world_size)
        own = torch.arange(rank * share, (rank + 1) * share).clamp(max=self.classes - 1)
        texts = tokens[:, own].flatten(0, 1)
        texts = texts[:, : int(needed_lengths(student, texts).max())].to(student.device)
        return average_prompts(student, student.encode_prompts(texts).unflatten(0, (-1, share)))


class CachedClassEmbeddings:
    """Class embeddings of a frozen text encoder: each prompt is encoded once.

    `embeddings`, by the row of the prompts: `(K, ...)` of `encode_prompts`. With `all_prompts` every step averages all
    prompts, as at test time (Open-VCLIP's released code), whatever the template.
    """

    def __init__(self, model: VideoStudent, texts: ClassPrompts, all_prompts: bool = False) -> None:
        self.model, self.texts, self.all_prompts = model, texts, all_prompts
        self.embeddings: dict[int, Tensor] = {}
        self.average: Tensor | None = None

    def __call__(self, template: int) -> Tensor:
        """What `ClassPrompts.encode` gives in one process, without gradient: `(K, …)` float32 on the model's device."""
        self.texts.warn_once(self.model)
        if self.all_prompts:
            if self.average is None:
                rows = range(len(self.texts.prompts))
                self.average = average_prompts(self.model, torch.stack([self.row(number) for number in rows]))
            return self.average
        return average_prompts(self.model, torch.stack([self.row(number) for number in self.texts.rows(template)]))

    def row(self, number: int) -> Tensor:
        if number not in self.embeddings:
            embeddings = encode_tokens(self.model, token_ids(self.model, self.texts.prompts[number]))
            # Tensors created in inference mode cannot be used in autograd; a copy can.
            self.embeddings[number] = embeddings.clone().to(next(self.model.text.parameters()).device)
        return self.embeddings[number]
