from collections.abc import Callable

import pytest
import torch

from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterWarning
from froster.students import VideoStudent, build_student
from froster.text.labels import check_labels
from froster.training.texts import CachedClassEmbeddings, ClassPrompts

LABELS = check_labels({"walking": "", "running": " ".join(["run"] * 68)})  # the bare text of the second has 72 tokens
TEMPLATES = ("a photo of a {}.", "a video of {}.")  # 6 and 5 more


def encoding(frozen: bool, texts: ClassPrompts, student: VideoStudent) -> Callable[[int], torch.Tensor]:
    return CachedClassEmbeddings(student, texts) if frozen else lambda template: texts.encode(student, template)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("name", "cut"), [("frame_clip", "1 of 6"), ("vita_clip", "1 of 2"), ("tc_clip", None)])
def test_says_once_how_many_prompts_are_cut(
    name: str, cut: str | None, frozen: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """A bare text is too long for Vita-CLIP (69 tokens), not for TC-CLIP (73); a template for CLIP (77)."""
    torch.manual_seed(0)
    student = build_student(name, Clip(ClipConfig(16, 8, 64, 1, 1, 64, 1, 1, 32)))
    texts = ClassPrompts(LABELS, student.templates and TEMPLATES)
    encode = encoding(frozen, texts, student)
    for template in (0, 1, 0):
        encode(template)
    said = [str(warning.message) for warning in recwarn if warning.category is FrosterWarning]
    limit = student.text.max_text_tokens
    rest = f"prompts exceed the maximum of {limit} tokens of {student.title} and are truncated."
    assert said == ([f"{cut} {rest}"] if cut else [])
