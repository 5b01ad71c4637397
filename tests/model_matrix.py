"""What every student does on every backbone, tried with tiny random weights, as the table of docs/models.md.

python tests/model_matrix.py writes it; tests/test_docs_models.py compares the committed page with what is found.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from froster.backbones.base import Backbone
from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.perception_encoder import PerceptionEncoder, PerceptionEncoderConfig
from froster.errors import FrosterError, FrosterWarning
from froster.explanation.maps import relevance_maps
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.recognizer import Recognizer
from froster.students import STUDENTS, VideoStudent, build_student
from froster.students.frame_clip import FrameClip
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.training.objective import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from siglip_files import new_siglip

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- written by tests/model_matrix.py -->\n", "<!-- end -->\n"
SIZES = {
    "image_size": 16,
    "patch_size": 8,
    "vision_width": 32,
    "vision_layers": 1,
    "vision_heads": 2,
    "text_width": 32,
    "text_layers": 1,
    "text_heads": 2,
    "embed_dim": 32,
}
LABELS = check_labels({"running": "", "brushing teeth": "moving a brush across the teeth", "fencing": ""})
FRAMES = 3
OPTIONS = {  # without which a student does not fit a backbone
    ("Perception Encoder", "vpt"): "context=8",  # 2 x 16 vectors and a name are more than 32 tokens
    ("Perception Encoder G/14", "vpt"): "context=8",
    ("SigLIP, SigLIP 2", "vpt"): "context=0",  # learned vectors need causal text
}


def perception_encoder(class_token: bool) -> Backbone:
    return PerceptionEncoder(PerceptionEncoderConfig(**SIZES, class_token=class_token))  # type: ignore[arg-type]


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "CLIP": lambda: Clip(ClipConfig(**SIZES)),  # type: ignore[arg-type]
    "Perception Encoder": lambda: perception_encoder(class_token=True),
    "Perception Encoder G/14": lambda: perception_encoder(class_token=False),
    "SigLIP, SigLIP 2": new_siglip,
}


def new_backbone(name: str) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name]().eval()


def new_student(backbone: str, student: str) -> VideoStudent:
    options = OPTIONS.get((backbone, student), "")
    return build_student(f"{student}:{options}" if options else student, new_backbone(backbone))


def predict(backbone: str, student: str) -> None:
    video = np.random.default_rng(0).integers(0, 256, (FRAMES, 24, 32, 3), dtype=np.uint8)
    network = new_student(backbone, student).eval()
    found = Recognizer(network, LABELS, views=1, frames=FRAMES, device="cpu", precision="float32").predict(video)
    assert len(found.ranked) == len(LABELS) and all(0 <= score <= 1 for _, score in found.ranked)


def explain(backbone: str, student: str) -> None:
    network = new_student(backbone, student).eval()
    size = network.config.image_size
    frames = torch.randn(FRAMES, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = relevance_maps(network, frames, "gradient", encode_classes(network, LABELS), 1)
    assert maps.shape[0] == FRAMES and np.isfinite(maps).all() and maps.max() == 1


def train(backbone: str, student: str, froster: bool = False) -> None:
    network = new_student(backbone, student).train()
    size = network.config.image_size
    frames = torch.randint(0, 256, (2, FRAMES, 3, size, size), generator=torch.Generator().manual_seed(0))
    prompts = ClassPrompts(LABELS, network.templates[:1] or ("{}",))
    teacher = FrameClip(new_backbone(backbone)).requires_grad_(False)
    objective = (
        Objective(
            network,
            prompts,
            distillation=Distillation(network.config.embed_dim, zero_init=False),
            teacher=teacher,
            teacher_classes=CachedClassEmbeddings(teacher, prompts),
        )
        if froster
        else Objective(network, prompts)
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batch = ClipBatch(frames.to(torch.uint8), torch.tensor([0, 1]))
    terms = accumulate_gradients(objective, [batch], 0, 2, scaler)
    assert all(term.isfinite() for term in terms.values()) and ("video_distillation" in terms) is froster
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert network.trainable_parameters().keys() & with_gradient


def train_with_froster(backbone: str, student: str) -> None:
    train(backbone, student, froster=True)


USES = {"predict": predict, "train": train, "FROSTER": train_with_froster, "explain": explain}


@cache
def outcome(backbone: str, student: str) -> tuple[str, str]:
    """The uses that work, and the sentence of the refusal where the student cannot be built."""
    try:
        new_student(backbone, student)
    except FrosterError as error:
        return "", str(error)
    working = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FrosterWarning)  # of random weights and long texts
        for use, attempt in USES.items():
            try:
                attempt(backbone, student)
            except FrosterError:
                continue
            working.append(use)
    return ", ".join(working), ""


def table() -> str:
    """Students down, backbones across; refusals as footnotes below."""
    refusals: dict[str, int] = {}
    lines = [f"| student | {' | '.join(BACKBONES)} |", f"|---|{'---|' * len(BACKBONES)}"]
    for name, student in STUDENTS.items():
        cells = []
        for backbone in BACKBONES:
            working, refusal = outcome(backbone, name)
            if working == ", ".join(USES):
                working = "all four"
            options = OPTIONS.get((backbone, name))
            note = f" ({refusals.setdefault(refusal, len(refusals) + 1)})" if refusal else ""
            cells.append(f"{working or 'no'}{note}{f' with `{name}:{options}`' if options and working else ''}")
        lines.append(f"| {student.title} (`{name}`) | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {sentence}" for sentence, number in refusals.items())]) + "\n"


def page_with(found: str, page: str) -> str:
    """The page with another table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache_folder:
        os.environ["FROSTER_CACHE"] = cache_folder
        page = page_with(table(), PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
