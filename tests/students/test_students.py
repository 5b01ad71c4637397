import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from froster import students
from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterError
from froster.models import load_model
from froster.students import build_student
from froster.students.vclip import VClip
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)).eval()


@pytest.mark.parametrize(
    ("golden", "spec"),
    [
        ("student_frame_clip", "frame_clip"),
        ("student_vclip", "vclip"),
        ("student_vclip_step2", "vclip:window=2"),
        ("student_vclip_step3", "vclip:window=3"),
    ],
)
def test_released_student(golden_file: GoldenFile, golden: str, spec: str) -> None:
    expected = load_file(golden_file(f"{golden}.safetensors"))
    student = load_model(golden_file(f"{golden}.pyth"), student=spec)
    for ours, name in (
        (student.encode_video(expected["frames"]), "frame_features"),
        (student.visual.encode_tokens(expected["frames"]), "last_tokens"),
        (student.encode_text(expected["tokens"]), "text_features"),
    ):
        assert (ours - expected[name]).abs().max() < TOLERANCE, name


@pytest.mark.parametrize("name", ["vclip", "adaptformer", "aim", "st_adapter", "x_clip"])
def test_released_files_are_recognized(golden_file: GoldenFile, name: str) -> None:
    assert load_model(golden_file(f"student_{name}.pyth")).name == name


def neighbor_attention_by_hand(student: VClip, x: torch.Tensor, layer: int) -> torch.Tensor:
    """The same attention, one frame after another, with missing neighbors left out or as zeros."""
    attention = student.visual.blocks[layer].attn
    q, k, v = attention.in_proj(x).chunk(3, dim=-1)
    outputs = []
    for t in range(x.shape[1]):
        near = range(t - attention.window, t + attention.window + 1)
        if attention.boundary == "masked":
            near = [n for n in near if 0 <= n < x.shape[1]]
        keys, values = (
            torch.cat([s[:, n] if 0 <= n < x.shape[1] else torch.zeros_like(s[:, 0]) for n in near], dim=1)
            for s in (k, v)
        )
        weights = (q[:, t] @ keys.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        outputs.append(attention.out_proj(weights @ values))
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("boundary", ["zero", "masked"])
@pytest.mark.parametrize("window", [1, 2])
def test_neighbor_attention_agrees_with_a_loop_over_frames(window: int, boundary: str) -> None:
    student = build_student("vclip", small_clip(), window=window, boundary=boundary)
    x = torch.randn(2, 4, 17, 64)
    ours = student.visual.blocks[0].attn(x)
    assert (ours - neighbor_attention_by_hand(student, x, 0)).abs().max() < 1e-5


def test_masked_vclip_on_one_frame_is_clip() -> None:
    frame = torch.randn(1, 1, 3, 32, 32)
    clip_feature = small_clip().encode_video(frame)
    masked = build_student("vclip", small_clip(), boundary="masked").encode_video(frame)
    diluted = build_student("vclip", small_clip()).encode_video(frame)
    assert (masked - clip_feature).abs().max() < 1e-5
    assert (diluted - clip_feature).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vcilp", "did you mean 'vclip'"),
        ("vclip:windw=2", "no option 'windw'; it takes window, boundary"),
        ("vclip:window", "has no value"),
        ("vclip:window=0", "1 to 64; not 0"),
        ("vclip:window=-1", "1 to 64; not -1\\."),
        ("vclip:window=99999999999", "1 to 64"),
        ("vclip:boundary=mirror", "'zero' or 'masked'"),
        ("frame_clip:window=2", "it takes none"),
    ],
)
def test_wrong_student_is_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, small_clip())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("class Mine(FrameClip):\n    title = 'Mine'\n", "mine.py: the student Mine needs a name of its own"),
        ("class Mine(FrameClip):\n    name = 'mine'\n", "mine.py: the student Mine needs a title of its own"),
        ("class Mine(VideoStudent):\n    title = 'Mine'\n", "mine.py: the student Mine needs a name of its own"),
        ("class Mine(FrameClip):\n    name, title = 'aim', 'Mine'\n", "aim.py has a student 'aim' too; choose another"),
    ],
)
def test_a_new_file_without_a_name_of_its_own_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    imports = "from froster.students.base import VideoStudent\nfrom froster.students.frame_clip import FrameClip\n\n\n"
    (tmp_path / "mine.py").write_text(imports + body)
    monkeypatch.setattr(students, "__path__", [*students.__path__, str(tmp_path)])
    try:
        with pytest.raises(FrosterError, match=message):
            students.register_folder()
    finally:
        sys.modules.pop("froster.students.mine")


def test_vclip_does_not_know_before_from_after() -> None:
    """Its neighbors have no positions: a clip played backwards has the same features, backwards."""
    torch.manual_seed(0)
    student = build_student("vclip", Clip(ClipConfig(16, 8, 64, 2, 1, 64, 1, 1, 32))).eval()
    frames = torch.randn(2, 5, 3, 16, 16)
    with torch.no_grad():
        backwards = student.encode_video(frames.flip(1)).flip(1)
        torch.testing.assert_close(backwards, student.encode_video(frames), atol=1e-5, rtol=1e-5)
