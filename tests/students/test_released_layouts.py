"""Checkpoints in the layouts of the methods' own code, read and compared with what that code computes from them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from froster.backbones.blocks import QuickGELU
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints import foreign
from froster.errors import WeightsError
from froster.models import load_model
from fuzz.weights import openai_names

pytestmark = pytest.mark.usefixtures("no_grad")

LAYERS, WIDTH, TEXT_WIDTH, FRAMES, CLASSES = 2, 128, 64, 3, 4
CONFIG = ClipConfig(32, 8, WIDTH, LAYERS, 2, TEXT_WIDTH, LAYERS, 1, 64, vocab_size=512)
TABLE = "token_embedding.weight"
KINDS = ("weight", "bias")
State = dict[str, Tensor]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A tuned CLIP under OpenAI's names; its table of tokens is that of the release that it was tuned from."""
    torch.manual_seed(0)
    state = openai_names(Clip(CONFIG).state_dict())
    torch.save(openai_names(Clip(CONFIG).state_dict()) | {TABLE: state[TABLE]}, tmp_path / "release.pt")
    monkeypatch.setattr(foreign, "openai_release", {(8, 32): "vit-b-16"}.get)
    monkeypatch.setattr(foreign, "fetch_release", {"vit-b-16": tmp_path / "release.pt"}.__getitem__)
    return state


def separate(clip: State, layer: int, new: str) -> State:
    """The fused projection of an image encoder's layer as three."""
    old = f"visual.transformer.resblocks.{layer}.attn.in_proj_"
    parts = {(part, kind): n for kind in KINDS for n, part in enumerate("qkv")}
    return {f"{new}.{part}_proj.{kind}": clip[old + kind].chunk(3)[n].clone() for (part, kind), n in parts.items()}


def random_linear(name: str, rows: int, columns: int) -> State:
    return {f"{name}.weight": 0.2 * torch.randn(rows, columns), f"{name}.bias": 0.2 * torch.randn(rows)}


def random_norm(name: str, width: int) -> State:
    return {f"{name}.weight": 1 + 0.2 * torch.randn(width), f"{name}.bias": 0.2 * torch.randn(width)}


def embedded_classes(clip: State, words: int) -> State:
    start = clip[TABLE][-2].expand(CLASSES, 1, -1).clone()
    suffix = torch.randn(CLASSES, words, TEXT_WIDTH)
    return {"prompt_learner.token_prefix": start, "prompt_learner.token_suffix": suffix}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


READER = "text_encoder.prompt_generation_layer.0"
BLOCKS = "image_encoder.transformer.resblocks"


def tc_clip_state(clip: State) -> State:
    state = {"logit_scale": clip["logit_scale"]}
    for key, value in clip.items():
        if key.startswith("visual.") and ".attn.in_proj_" not in key:
            state[key.replace("visual.", "image_encoder.")] = value
        elif not key.startswith(("visual.", "token_embedding", "logit_scale")):
            state[f"text_encoder.{key}"] = value
    for layer in range(LAYERS):
        state |= separate(clip, layer, f"{BLOCKS}.{layer}.attn")
        if layer:
            state[f"{BLOCKS}.{layer}.attn.local_global_bias_table"] = torch.randn(2, 1, 2)
    for name, width in (("ln_1", TEXT_WIDTH), ("ln_1_kv", 64), ("ln_2", TEXT_WIDTH)):
        state |= random_norm(f"{READER}.{name}", width)
    state[f"{READER}.attn.in_proj_weight"] = 0.2 * torch.randn(192, 64)
    state[f"{READER}.attn.in_proj_bias"] = 0.2 * torch.randn(192)
    for name, rows, columns in (("attn.out_proj", 64, 64), ("mlp.c_fc", 256, 64), ("mlp.c_proj", 64, 256)):
        state |= random_linear(f"{READER}.{name}", rows, columns)
    return state | {"prompt_learner.ctx": 0.1 * torch.randn(4, TEXT_WIDTH)} | embedded_classes(clip, 25)


def test_tc_clip(clip: State, tmp_path: Path) -> None:
    """With DataParallel's names, and the state of an optimizer beside the weights."""
    state = tc_clip_state(clip)
    content = {"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 9, "max_accuracy": 71.0}
    content["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-5}]}
    torch.save(content, tmp_path / "best.pth")
    model = load_model(tmp_path / "best.pth")
    assert (model.name, model.options["prompts"]) == ("tc_clip", 4)
    assert (model.templates, model.prompt_style) == (("{}.",), "templates")
    assert torch.equal(model.text.token_embedding.weight, clip[TABLE])
    assert torch.equal(model.text.prompts, state["prompt_learner.ctx"])

    # Vectors of the text read the video: with the module that the authors' code is made of.
    attention = nn.MultiheadAttention(TEXT_WIDTH, 1, batch_first=True)
    of_reader = {key: value for key, value in state.items() if key.startswith(f"{READER}.attn.")}
    attention.load_state_dict({key.removeprefix(f"{READER}.attn."): value for key, value in of_reader.items()})
    prompts, context = torch.randn(4, TEXT_WIDTH), torch.randn(1, 96, 64)
    seen = norm(state, f"{READER}.ln_1_kv", context)
    x = prompts[None] + attention(norm(state, f"{READER}.ln_1", prompts[None]), seen, seen)[0]
    hidden = QuickGELU()(linear(state, f"{READER}.mlp.c_fc", norm(state, f"{READER}.ln_2", x)))
    x = x + linear(state, f"{READER}.mlp.c_proj", hidden)
    assert (model.prompt_reader(prompts, context) - x).abs().max() < 2e-5

    # A frame's tokens attend to themselves and to the context, with a bias on the logits of either.
    layer = f"{BLOCKS}.1.attn"
    tokens, context = torch.randn(1, 1, 17, WIDTH), torch.randn(1, 5, WIDTH)
    both = torch.cat([tokens[0], context], dim=1)
    inputs = {"q": tokens[0], "k": both, "v": both}
    q, k, v = (
        linear(state, f"{layer}.{part}_proj", x).unflatten(-1, (2, 64)).transpose(1, 2) for part, x in inputs.items()
    )
    own, of_context = state[f"{layer}.local_global_bias_table"].split(1, dim=-1)
    bias = torch.cat([own.expand(-1, 17, 17), of_context.expand(-1, 17, 5)], dim=-1)
    out = (q @ k.mT / 8 + bias).softmax(dim=-1) @ v
    expected = linear(state, f"{layer}.out_proj", out.transpose(1, 2).flatten(2))
    assert (model.visual.blocks[1].attn(tokens, context)[0] - expected[None]).abs().max() < 2e-5


def vita_clip_state(clip: State, *each_class: int) -> State:
    state = {f"textual.{key}": value for key, value in clip.items() if not key.startswith(("visual.", "logit"))}
    state["logit_scale"] = clip["logit_scale"]
    names = {"conv1.weight": "patch_embed.proj.weight", "class_embedding": "cls_token"}
    names |= {"positional_embedding": "pos_embed", "proj": "proj"}
    names |= {name: name for part in ("ln_pre", "ln_post") for name in (f"{part}.weight", f"{part}.bias")}
    state |= {f"visual.{new}": clip[f"visual.{old}"] for old, new in names.items()}
    state["visual.patch_embed.proj.bias"] = 0.1 * torch.randn(WIDTH)
    parts = {"attn.out_proj": "attn.out_proj", "ln_1": "norm1", "ln_2": "norm2"}
    parts |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for layer in range(LAYERS):
        old, new = f"visual.transformer.resblocks.{layer}", f"visual.blocks.{layer}"
        state |= separate(clip, layer, f"{new}.attn")
        state |= {f"{new}.{b}.{kind}": clip[f"{old}.{a}.{kind}"] for a, b in parts.items() for kind in KINDS}
        state |= random_linear(f"{new}.cls_proj", WIDTH, WIDTH) | random_norm(f"{new}.summary_ln", WIDTH)
        for part in ("q", "k", "v", "out"):
            state |= random_linear(f"{new}.summary_attn_layer.{part}_proj", WIDTH, WIDTH)
        state[f"{new}.local_prompts"] = 0.3 * torch.randn(1, FRAMES, WIDTH)
    state["visual.time_embed"] = 0.3 * torch.randn(FRAMES, WIDTH)
    state["visual.global_prompts"] = 0.3 * torch.randn(LAYERS, 5, WIDTH)
    return state | {"prompt_learner.ctx": 0.1 * torch.randn(*each_class, 6, TEXT_WIDTH)} | embedded_classes(clip, 70)


def vita_clip_by_hand(state: State, clip: Tensor) -> Tensor:
    """Features of the frames `(T, 3, H, W)` of one clip: every token added takes part, and is dropped behind it."""
    state = {key.removeprefix("visual."): value for key, value in state.items()}

    def attend(name: str, x: Tensor) -> Tensor:
        q, k, v = (linear(state, f"{name}.{p}_proj", x).unflatten(-1, (2, 64)).transpose(-3, -2) for p in "qkv")
        out = (q @ k.mT / 8).softmax(dim=-1) @ v
        return linear(state, f"{name}.out_proj", out.transpose(-3, -2).flatten(-2))

    x = F.conv2d(clip, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=8).flatten(2).mT
    x = torch.cat([state["cls_token"].expand(len(clip), 1, -1), x], dim=1) + state["pos_embed"]
    x = norm(state, "ln_pre", x + state["time_embed"][:, None])
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        projected = linear(state, f"{block}.cls_proj", x[:, 0])
        summary = projected + attend(f"{block}.summary_attn_layer", norm(state, f"{block}.summary_ln", projected))
        local = (state[f"{block}.local_prompts"][0] + projected).expand(len(x), -1, -1)
        every = state["global_prompts"][layer].expand(len(x), -1, -1)
        tokens = torch.cat([x, local, every, summary[:, None]], dim=1)
        x = (tokens + attend(f"{block}.attn", norm(state, f"{block}.norm1", tokens)))[:, : x.shape[1]]
        hidden = QuickGELU()(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x)))
        x = x + linear(state, f"{block}.mlp.fc2", hidden)
    return norm(state, "ln_post", x[:, 0]) @ state["proj"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_vita_clip(clip: State, tmp_path: Path, suffix: str) -> None:
    state, path = vita_clip_state(clip), tmp_path / f"checkpoint{suffix}"
    prefixed = {f"module.{key}": value.contiguous() for key, value in state.items()}
    if suffix == ".pth":
        torch.save({"model": prefixed, "optimizer": {}, "next_step": 3}, path)
    else:
        save_file(prefixed, path)
    model = load_model(path)
    assert model.name == "vita_clip"
    assert model.options == {"global_prompts": 5, "local_prompts": True, "summary": True, "context": 6}
    assert torch.equal(model.text.context, state["prompt_learner.ctx"])
    assert (model.templates, model.prompt_style) == (("{}.",), "templates")
    frames = torch.randn(1, FRAMES, 3, 32, 32)
    assert (model.encode_video(frames)[0] - vita_clip_by_hand(state, frames[0])).abs().max() < 2e-5


def test_vita_clip_with_vectors_of_each_class_is_refused(clip: State, tmp_path: Path) -> None:
    torch.save({"model": vita_clip_state(clip, CLASSES)}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsError, match="text vectors of its own for each of its 4 training classes"):
        load_model(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("adapter_pre_mlp.fc1.weight", "ST-Adapter's own code, .* train the student st_adapter"),
        ("S_Adapter.D_fc1.weight", "AIM's own code, .* train the student aim"),
    ],
)
def test_networks_without_texts_are_refused_with_a_sentence(adapter: str, message: str, tmp_path: Path) -> None:
    names = (f"module.transformer.resblocks.0.{adapter}", "module.conv1.weight", "module.fc.weight")
    torch.save({"model": {name: torch.zeros(2, 2) for name in names}}, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / "model.pth")
