"""The matrix in docs/models.md is what every student does on every backbone."""

import pytest

from froster.students import STUDENTS
from model_matrix import BACKBONES, PAGE, USES, outcome, page_with, table

NEEDS_A_CLASS_TOKEN = {"tc_clip", "vita_clip", "x_clip"}
REFUSED = {  # a new student runs on every backbone, or whoever adds it decides otherwise
    "CLIP": set[str](),
    "Perception Encoder": {"tc_clip"},
    "Perception Encoder G/14": NEEDS_A_CLASS_TOKEN,
    "SigLIP, SigLIP 2": NEEDS_A_CLASS_TOKEN,
}


@pytest.mark.slow(15)
def test_the_page_has_what_is_found() -> None:
    found = {(backbone, student): outcome(backbone, student) for backbone in BACKBONES for student in STUDENTS}
    for backbone in BACKBONES:
        assert {student for student in STUDENTS if not found[backbone, student][0]} == REFUSED[backbone]
    for working, refusal in found.values():
        assert working == ", ".join(USES) if not refusal else "cannot be built on" in refusal
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with(table(), page), "run python tests/model_matrix.py"
