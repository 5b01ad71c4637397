"""Every student is an `nn.Module` like any other: it is called, hooked, compiled, and wrapped."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from froster.backbones.attention import record_attention
from froster.backbones.clip import Clip, ClipConfig
from froster.students import STUDENTS, VideoStudent, build_student
from froster.text.classifier import encode_classes

SMALL = ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)
ONE_LAYER = replace(SMALL, vision_layers=1)
LABELS = {"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": ""}
ALL = pytest.mark.parametrize("name", list(STUDENTS))
# Dynamo alone, backend "eager", shows whether there is one graph; AOTAutograd takes several times as long.
COMPILED = pytest.mark.parametrize(
    ("name", "backend"), [*((name, "eager") for name in STUDENTS), ("vclip", "aot_eager"), ("tc_clip", "aot_eager")]
)


def new_student(name: str, config: ClipConfig = SMALL) -> VideoStudent:
    torch.manual_seed(0)
    return build_student(name, Clip(config)).eval()


def student_to_compile(name: str) -> VideoStudent:
    """With one layer, as Dynamo traces each layer anew; tc_clip's hand their context to the next."""
    return new_student(name, SMALL if name == "tc_clip" else ONE_LAYER)


def clips() -> Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A group of one process: what the wrappers need, without a second interpreter."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@ALL
def test_forward_gives_logits_and_frame_embeddings(name: str) -> None:
    student = new_student(name)
    classes = encode_classes(student, LABELS)
    with torch.no_grad():
        output = student(clips(), classes)
        features = student.forward_features(clips())
        expected = student.logit_scale.exp() * student.similarities(features, classes)
    assert output.logits.shape == (2, 3)
    assert output.logits.dtype == torch.float32
    assert torch.equal(output.logits, expected)
    assert torch.equal(output.frame_embeddings, features.frame_embeddings)
    assert output.frame_embeddings.shape == (2, 4, SMALL.embed_dim)


def test_hooks_fire() -> None:
    student, seen = new_student("vclip"), list[str]()
    student.register_forward_hook(lambda *_: seen.append("student"))
    student.visual.blocks[0].register_forward_hook(lambda *_: seen.append("block"))
    student(clips(), encode_classes(student, LABELS))
    assert seen == ["block", "student"]


@pytest.mark.slow
@COMPILED
def test_compiles_to_one_graph_in_inference(name: str, backend: str) -> None:
    student = student_to_compile(name)
    classes = encode_classes(student, LABELS)
    torch.compiler.reset()
    compiled = torch.compile(student, fullgraph=True, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(clips(), classes), student(clips(), classes), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@COMPILED
def test_compiles_to_one_graph_in_training(name: str, backend: str) -> None:
    student = student_to_compile(name).train()
    twin = copy.deepcopy(student)
    classes, targets = encode_classes(student, LABELS), torch.tensor([0, 2])
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    F.cross_entropy(student(clips(), classes).logits, targets).backward()
    F.cross_entropy(compiled(clips(), classes).logits, targets).backward()
    gradients = {key: p.grad for key, p in student.named_parameters() if p.grad is not None}
    assert gradients
    for key, parameter in twin.named_parameters():
        assert (parameter.grad is None) == (key not in gradients)
        if key in gradients:
            torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_still_records_its_attention() -> None:
    student = new_student("vclip")
    classes = encode_classes(student, LABELS)
    torch.compiler.reset()
    compiled = torch.compile(student, backend="aot_eager")
    with torch.no_grad():
        plain = compiled(clips(), classes)
        with record_attention(student) as recorded:
            torch.testing.assert_close(compiled(clips(), classes), plain, atol=1e-4, rtol=1e-5)
        assert len(recorded) == SMALL.vision_layers
        torch.testing.assert_close(recorded[0].sum(dim=-1), torch.ones(recorded[0].shape[:-1]))


@ALL
def test_ddp_wraps_it(name: str, process_group: None) -> None:
    student = new_student(name).train()
    classes, targets = encode_classes(student, LABELS), torch.tensor([0, 2])
    # What the cross entropy of given class embeddings reaches; a parameter without a gradient is an error in DDP.
    F.cross_entropy(student(clips(), classes).logits, targets).backward()
    expected = {key: p.grad.clone() for key, p in student.named_parameters() if p.grad is not None}
    for key, parameter in student.named_parameters():
        parameter.requires_grad_(key in expected)
        parameter.grad = None
    wrapped = DistributedDataParallel(student, gradient_as_bucket_view=True)
    for _ in range(2):  # the reducer notices at the second step what the first one missed
        wrapped.zero_grad()
        F.cross_entropy(wrapped(clips(), classes).logits, targets).backward()
    for key, gradient in expected.items():
        torch.testing.assert_close(student.get_parameter(key).grad, gradient)


@pytest.mark.slow
@ALL
def test_fsdp_wraps_it(name: str, process_group: None) -> None:
    from torch.distributed.fsdp import fully_shard  # takes seconds

    student = new_student(name)
    classes = encode_classes(student, LABELS)
    with torch.no_grad():
        expected = student(clips(), classes)
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    for block in student.visual.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(student, mesh=mesh, ignored_params={student.logit_scale})  # FSDP2 shards no scalars
    output = student(clips(), classes)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-5)
    F.cross_entropy(output.logits, torch.tensor([0, 2])).backward()
    assert student.visual.proj.grad is not None
