import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.foreign import infer_config, to_clip_names
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.students import build_student
from froster.students.frame_clip import FrameClip
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES
from froster.training.objective import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from froster.video import Preprocessing
from goldens import GoldenFile

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)
TINY = ClipConfig(16, 8, 64, 2, 1, 64, 2, 1, 32)
LABELS = check_labels({"running": "moving fast on foot", "walking": "", "fencing": "", "juggling": ""})


def objective(distance: str = "cosine", **options: object) -> Objective:
    torch.manual_seed(0)
    teacher = FrameClip(Clip(TINY)).requires_grad_(False)
    torch.manual_seed(1)  # a student that has left its teacher
    student = build_student("vclip", Clip(TINY))
    texts = ClassPrompts(LABELS, TEMPLATES)
    distillation = Distillation(TINY.embed_dim, distance=distance, zero_init=False)
    return Objective(student, texts, None, distillation, teacher, CachedClassEmbeddings(teacher, texts), **options)


def batch(clips: int) -> ClipBatch:
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (clips, 3, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ClipBatch(frames, torch.randint(0, len(LABELS), (clips,), generator=generator))


def gradients(whole: Objective) -> dict[str, Tensor]:
    modules = {"student": whole.student, "distillation": whole.distillation}
    return {
        f"{owner}.{name}": parameter.grad.clone()
        for owner, module_ in modules.items()
        if module_ is not None
        for name, parameter in module_.named_parameters()
        if parameter.grad is not None
    }


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(ours[name], gradient, atol=tolerance * scale + 1e-8, rtol=0, msg=name)


def test_a_whole_step_is_the_released_codes(golden_file: GoldenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses within 2e-5, gradients within 1e-4 of the largest (the golden's own tolerance), float32."""
    golden = load_file(golden_file("more/froster_e2e.safetensors"))
    models = {}
    for prefix in ("model.", "raw_model."):
        state = to_clip_names({k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)})
        models[prefix] = Clip(infer_config(state))
        models[prefix].load_state_dict(state)
    teacher = FrameClip(models["raw_model."]).requires_grad_(False)
    student = build_student("vclip", models["model."])
    texts = ClassPrompts(check_labels(list("01234")), TEMPLATES[:1])
    texts.tokens[student.tokenizer] = golden["in.train_tokens"]
    distillation = Distillation(32)
    for side, name in ((distillation.video, "v"), (distillation.text, "t")):
        assert side is not None
        side.w1.weight.data = golden[f"projector_{name}.0.weight"].clone()
        side.w2.weight.data = golden[f"projector_{name}.2.weight"].clone()

    def teacher_classes(template: int) -> Tensor:
        embeddings = teacher.encode_text(golden["in.train_tokens"].flatten(0, 1)).unflatten(0, (2, 5))
        return F.normalize(F.normalize(embeddings, dim=-1).mean(dim=0), dim=-1)

    monkeypatch.setattr(Preprocessing, "normalize", lambda _, frames: frames)  # the golden's frames are floats
    step = Objective(student, texts, None, distillation, teacher, teacher_classes)
    frames = golden["in.video"].permute(0, 2, 1, 3, 4)
    terms = accumulate_gradients(step, [ClipBatch(frames, golden["in.labels"])], 0, 2, NO_SCALER)
    for ours, theirs in (
        ("cross_entropy", "cross_entropy"),
        ("video_distillation", "distill_vision"),
        ("text_distillation", "distill_text"),
        ("loss", "total"),
    ):
        torch.testing.assert_close(terms[ours], golden[f"out.{theirs}"].squeeze(), atol=2e-5, rtol=1e-5)
    expected = {k.removeprefix("grad.model."): v for k, v in golden.items() if k.startswith("grad.model.")}
    mine = {name: parameter.grad for name, parameter in student.named_parameters()}
    compared = to_clip_names(expected)
    assert len(compared) == 10
    for name, gradient in compared.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(mine[name], gradient, atol=1e-4 * scale, rtol=0, msg=name)
    for side, name in ((distillation.video, "v"), (distillation.text, "t")):
        assert side is not None
        for weight, number in ((side.w1, 0), (side.w2, 2)):
            gradient = golden[f"grad.projector_{name}.{number}.weight"]
            torch.testing.assert_close(weight.weight.grad, gradient, atol=1e-4 * gradient.abs().max().item(), rtol=0)
    everything = [p.grad for p in (*student.parameters(), *distillation.parameters()) if p.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in everything]).norm()
    torch.testing.assert_close(norm, golden["out.grad_norm_all_trainable"].squeeze(), atol=0, rtol=1e-4)


@pytest.mark.parametrize("distance", ["cosine", "l2_sum"])
def test_micro_batches_add_up_to_the_batch(distance: str) -> None:
    clips = batch(7)
    whole, parts = objective(distance), objective(distance)
    terms = accumulate_gradients(whole, [clips], 3, 7, NO_SCALER)
    edges = ((0, 3), (3, 3), (3, 7))  # one has lost all its clips
    split = [ClipBatch(clips.frames[a:b], clips.targets[a:b]) for a, b in edges]
    in_parts = accumulate_gradients(parts, split, 3, 7, NO_SCALER)
    assert terms.keys() == in_parts.keys() == {"cross_entropy", "video_distillation", "text_distillation", "loss"}
    for name, term in terms.items():
        torch.testing.assert_close(in_parts[name], term, atol=1e-6, rtol=1e-5)
    assert_same(gradients(parts), gradients(whole), 1e-5)


def test_total_is_cross_entropy_and_beta_times_the_rest() -> None:
    terms = accumulate_gradients(objective(), [batch(3)], 0, 3, NO_SCALER)
    expected = terms["cross_entropy"] + 2.0 * (terms["video_distillation"] + terms["text_distillation"])
    torch.testing.assert_close(terms["loss"], expected, atol=1e-6, rtol=1e-6)


def test_weight_scales_the_gradient_alone() -> None:
    once, half = objective(), objective()
    terms = accumulate_gradients(once, [batch(3)], 0, 3, NO_SCALER)
    assert accumulate_gradients(half, [batch(3)], 0, 3, NO_SCALER, weight=0.5) == terms
    assert_same({name: 2 * gradient for name, gradient in gradients(half).items()}, gradients(once), 1e-5)


def test_frozen_classes_are_what_the_text_encoder_gives() -> None:
    step = objective()
    assert step.teacher is not None
    for template in (0, 27):
        encoded = step.prompts.encode(step.teacher, template)
        torch.testing.assert_close(
            CachedClassEmbeddings(step.teacher, step.prompts)(template), encoded, atol=1e-5, rtol=0
        )


def test_each_prompt_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, clip = ClassPrompts(LABELS, TEMPLATES), FrameClip(Clip(TINY))
    frozen, encoded = CachedClassEmbeddings(clip, texts), []
    encode = clip.encode_text
    monkeypatch.setattr(clip, "encode_text", lambda tokens: encoded.append(len(tokens)) or encode(tokens))
    for template in (5, 5, 9, 5):
        frozen(template)
    assert sum(encoded) == 3 * len(LABELS)  # templates 5 and 9, and the bare text


def test_prompts_are_a_template_and_the_bare_text_cut_to_the_longest() -> None:
    step = objective()
    seen: list[Tensor] = []
    encode = step.student.encode_text
    step.student.encode_text = lambda tokens: seen.append(tokens) or encode(tokens)  # type: ignore[method-assign]
    step.prompts.encode(step.student, 4)
    (tokens,) = seen
    assert len(tokens) == 2 * len(LABELS)
    lengths = tokens.argmax(dim=1) + 1
    assert tokens.shape[1] == int(lengths.max()) < 77
    assert torch.equal(tokens[:4], step.prompts.tokenize(step.student)[4, :, : tokens.shape[1]])
    assert torch.equal(tokens[4:], step.prompts.tokenize(step.student)[28, :, : tokens.shape[1]])


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_processes_make_up_the_class_matrix(processes: int) -> None:
    step = objective()
    whole = step.prompts.encode(step.student, 2)
    shares = [step.prompts.encode(step.student, 2, rank, processes) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    torch.testing.assert_close(torch.cat(shares)[: len(whole)], whole, atol=1e-6, rtol=0)


def test_the_teacher_looks_at_a_clip_once(monkeypatch: pytest.MonkeyPatch) -> None:
    step, clips = objective(), batch(3)
    assert step.teacher is not None
    looked, encode = [], step.teacher.encode_video
    monkeypatch.setattr(step.teacher, "encode_video", lambda frames: looked.append(len(frames)) or encode(frames))
    first = accumulate_gradients(step, [clips], 0, 3, NO_SCALER)
    assert accumulate_gradients(step, [clips], 0, 3, NO_SCALER, weight=0.5) == first
    assert looked == [3]
