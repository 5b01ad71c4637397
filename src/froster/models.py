"""`load_model`: load a video model from a name or a checkpoint."""

import copy
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from froster.backbones.base import Backbone
from froster.backbones.build import backbone_names, build_backbone, new_backbone
from froster.checkpoints.checkpoint import BackboneSource, Checkpoint, StateDict
from froster.checkpoints.hub import RELEASES, SUFFIXES, fetch_release, find_release, find_weights_file
from froster.checkpoints.own import backbone_digest, save_checkpoint, tensors_digest
from froster.checkpoints.read import load_into, read_checkpoint
from froster.device import pick_device
from froster.errors import FrosterError, FrosterWarning, WeightsError, did_you_mean
from froster.students import STUDENTS, VideoStudent, build_student, parse_student

PUPPETS = "puppets"


def load_model(
    path_or_name: str | Path,
    student: str | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    backbone: Mapping[str, Any] | None = None,
    **options: Any,
) -> VideoStudent:
    """Load a video model in evaluation mode.

    `path_or_name`: `vit-b-32`, `vit-b-16`, `vit-l-14`, `vit-l-14-336` (OpenAI's releases, downloaded once), also
    with a student in front (`vclip-vit-b-16`), `puppets` (the package's small model), or a checkpoint file or folder:
    OpenAI, OpenCLIP, Hugging Face, released FROSTER and Open-VCLIP, or our own.
    `student`: a name in `froster.students.STUDENTS`, optionally with options (`"vclip:window=2"`). By default it is the
    one the checkpoint was made with: `vclip` for released FROSTER and Open-VCLIP files, `frame_clip` for a plain CLIP.
    `device`: `"cpu"`, `"cuda"`, ... or `"auto"`. `seed`: of the modules that a student adds to a plain CLIP; by default
    PyTorch's global generator initializes them. `backbone`: what neither tensors nor a description in the file's folder
    say of a CLIP, such as `{"activation": "gelu"}`; the error asks for it.

    The model of a training run has its classes in `model.labels` (name -> description; None where nothing says), its
    prompt templates in `model.templates`, and in `model.clip_sampling` how clips are taken from a video.

    Raises `WeightsError` for a name that is unknown or a file that cannot be used, `FrosterError` for a student that
    does not exist.
    """
    found = resolve(path_or_name)
    path = find_weights_file(found.path)
    checkpoint = read_checkpoint(path, backbone, from_openai=found.name in RELEASES)
    if checkpoint.backbone_source:
        source = find_source(checkpoint.backbone_source, path)
        checkpoint.state |= source.state_dict()
        checkpoint.tokenizer = source.tokenizer.file
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = student_from(checkpoint, path, student or found.student, options)
    if checkpoint.is_plain:
        model.backbone_name = found.name
    checkpoint.provenance.apply_to(model, checkpoint.student)
    if checkpoint.provenance.templates_file:
        warnings.warn(
            f"{path} was trained with the templates in {checkpoint.provenance.templates_file}, which it lacks: "
            "pass them as templates.",
            FrosterWarning,
            stacklevel=2,
        )
    return model.to(pick_device(device) if isinstance(device, str) else device, dtype)


def save_model(model: VideoStudent, path: str | Path, dtype: torch.dtype | None = None, *, merge: bool = True) -> None:
    """Write a network as one file that `load_model` reads back on any machine, bit for bit, whole or not at all.

    The file holds all weights, the backbone's too, the student and its options, `model.labels` with their descriptions,
    `model.templates`, `model.clip_sampling` and what the model was trained on. `path` ends in .safetensors. `dtype`
    converts the weights, such as `torch.float16` for half the size; by default they stay as they are. `merge`: whether
    LoRA's updates are added to the weights, which makes the model a plain per-frame CLIP or VCLIP.

    Raises `FrosterError` for another file name or a file that cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise FrosterError(f"{path} must end in .safetensors, which is what is written.")
    if not isinstance(model, VideoStudent):
        raise FrosterError(f"A model is a VideoStudent, as of load_model, not {type(model).__name__}.")
    save_checkpoint(model.merged() if merge else model, path, dtype, with_backbone=True)


def list_models() -> list[str]:
    """Names that `load_model` takes; each may have a student in front, as in `vclip-vit-b-16`."""
    return [PUPPETS, *RELEASES]


def student_from(checkpoint: Checkpoint, path: Path, spec: str | None, options: dict[str, Any]) -> VideoStudent:
    """The student with the weights of `checkpoint`; `options` override those of `spec`, which override its own."""
    spec = spec or checkpoint.student or recognized_student(checkpoint) or "frame_clip"
    name, from_spec = parse_student(spec)
    own = name == checkpoint.student
    if own:
        options = {**checkpoint.options, **from_spec, **options}
        state = checkpoint.state
    else:
        state = STUDENTS[name].from_released(checkpoint.state)
        options = {**STUDENTS[name].options_from(state), **from_spec, **options}
    of_backbone = backbone_names(checkpoint.config)
    backbone = filled_backbone(checkpoint, {key: value for key, value in state.items() if key in of_backbone}, path)
    model = build_student(spec, backbone, **options)
    # On a plain backbone, the student's own modules keep their initialization.
    if own or state.keys() - of_backbone:
        try:
            load_into(model, state, path)
        except WeightsError as error:
            if own or not checkpoint.student:
                raise
            raise WeightsError(
                f"{path} is a checkpoint of {checkpoint.student} and cannot be loaded as {name}; leave out `student=`, "
                f"or use {checkpoint.student}."
            ) from error
        model.backbone_source = checkpoint.backbone_source
    elif model.state_dict().keys() - of_backbone and starts_at_random(model):
        model.random_start = added_digest(model)
    return model.eval()


def starts_at_random(student: VideoStudent) -> bool:
    """Whether an untrained student's predictions depend on its random initialization.

    Compares two seeds on a backbone with two layers.
    """
    answers = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        backbone = new_backbone(student.config.shrink())
        frames = torch.randn(1, 3, 3, backbone.config.image_size, backbone.config.image_size)
        tokens = backbone.example_tokens()
        for seed in (1, 2):
            torch.manual_seed(seed)
            drawn = type(student)(copy.deepcopy(backbone), **student.options).eval()
            answers.append(drawn.similarities(drawn.forward_features(frames), drawn.encode_prompts(tokens)))
    return bool((answers[0] - answers[1]).abs().max() > 1e-5)


def warn_of_random_start(model: VideoStudent) -> None:
    """Warn if the model has untrained, randomly initialized modules that affect its predictions."""
    if model.random_start and model.random_start == added_digest(model):
        warnings.warn(
            f"{model.title} is not trained: it has randomly initialized modules, so its predictions are not "
            "meaningful. Train it first (froster train), or load a checkpoint of it.",
            FrosterWarning,
            stacklevel=3,
        )


def added_digest(model: VideoStudent) -> str:
    """SHA-256 of the tensors that a student adds to its backbone's."""
    state = model.state_dict()
    return tensors_digest(state, state.keys() - backbone_names(model.config))


def recognized_student(checkpoint: Checkpoint) -> str | None:
    """The student that has exactly the tensors of a released checkpoint."""
    if checkpoint.state.keys() <= backbone_names(checkpoint.config):
        return None
    for name, student in STUDENTS.items():
        state = student.from_released(checkpoint.state)
        try:
            with torch.device("meta"):  # slower than without values, but safe with whatever a constructor does
                model = build_student(name, build_backbone(checkpoint.config), **student.options_from(state))
        except FrosterError:  # it cannot be built on this backbone
            continue
        if state.keys() == model.state_dict().keys():
            return name
    return None


def find_source(source: BackboneSource, path: Path) -> Backbone:
    """The backbone of an adapter checkpoint `path`: at its recorded path, or next to `path`.

    The name comes from a file: nothing is downloaded for it, and only weights files are opened. Raises `WeightsError`
    when no CLIP of that name is there, or only another one.
    """
    others, unreadable = [], []
    for place in source_places(source.name, path):
        try:
            backbone = load_backbone(place)
        except WeightsError:
            unreadable.append(str(place))
            continue
        if backbone_digest(backbone.state_dict(), backbone.config) == source.sha256:
            return backbone
        others.append(str(place))
    if others:
        raise WeightsError(
            f"{path} was trained with another CLIP than {others[0]}: same name, other weights "
            f"(SHA-256 {source.sha256[:12]} is needed). Put that CLIP next to the checkpoint, named "
            f"{Path(source.name).name}."
        )
    get = (
        f'Download it once with froster.load_model("{source.name}").'
        if source.name in RELEASES
        else f"A copy of it next to the checkpoint, named {Path(source.name).name}, is found too."
    )
    reason = f"{unreadable[0]} cannot be read as a CLIP" if unreadable else f"there is no {source.name}"
    raise WeightsError(f"{path} has adapters for a CLIP that is missing: {reason}. {get}")


def source_places(name: str, path: Path) -> list[str | Path]:
    """Where the CLIP that the checkpoint `path` names may be, of those places that exist."""
    if name == PUPPETS or (name in RELEASES and find_release(name)):
        return [name]
    recorded = Path(name)
    copies = [path.parent / recorded.name] if recorded.name not in ("", "..") else []
    return [place for place in (recorded, *copies) if place.is_dir() or (place.suffix in SUFFIXES and place.is_file())]


def load_backbone(path_or_name: str | Path, backbone: Mapping[str, Any] | None = None) -> Backbone:
    """Load a plain backbone, such as a frozen teacher, in float32, on the CPU, in evaluation mode.

    `backbone`: what neither tensors nor a description in the file's folder say, as for `load_model`.

    Raises `WeightsError` for an unknown name, a file that cannot be used, or one that holds a fine-tuned student.
    """
    found = resolve(path_or_name)
    path = found.path
    checkpoint = read_checkpoint(path, backbone, from_openai=found.name in RELEASES)
    if checkpoint.student:
        raise WeightsError(f"{path} is a fine-tuned student ({checkpoint.student}); a plain backbone is needed here.")
    return filled_backbone(checkpoint, checkpoint.state, path).eval()


def filled_backbone(checkpoint: Checkpoint, state: StateDict, path: Path) -> Backbone:
    """The backbone of a checkpoint with the tensors of `state`, and its tokenizer if that is in the checkpoint."""
    backbone = build_backbone(checkpoint.config)
    load_into(backbone, state, path)
    if checkpoint.tokenizer is not None:
        try:
            backbone.read_tokenizer(checkpoint.tokenizer)
        except ValueError as error:
            raise WeightsError(f"{path} has a damaged tokenizer: {error}.") from error
    return backbone


class Found(NamedTuple):
    """What the user named: the student in front, if any, a name that holds in every folder, and the weights file."""

    student: str | None
    name: str
    path: Path


def resolve(path_or_name: str | Path) -> Found:
    """Find a model by its name or path; release files are fetched. Raises `WeightsError` for an unknown name."""
    text = str(path_or_name)
    name = re.sub(r"[/@_]", "-", text.lower()).removesuffix("px")  # also as OpenAI spells it: ViT-L/14@336px
    if name == PUPPETS:
        return Found(None, PUPPETS, puppets_weights())
    for student in (None, *STUDENTS):
        release = name.removeprefix(f"{student.replace('_', '-')}-") if student else name
        if release in RELEASES:
            return Found(student, release, fetch_release(release))
    path = Path(os.path.expanduser(path_or_name))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return Found(None, str(path.absolute()), path)
    hint = did_you_mean(name, [PUPPETS, *RELEASES], otherwise="names are")
    raise WeightsError(f"There is no model or file {text!r}; {hint}")


def puppets_weights() -> Path:
    with as_file(files("froster") / "weights" / "clip-puppets.safetensors") as path:
        return path


def default_model() -> tuple[str, str]:
    """The model to use when the user names none, and a sentence that says which and why."""
    for name in ("vit-b-16", "vit-b-32", "vit-l-14", "vit-l-14-336"):
        if find_release(name):
            return name, f"Using {name}, found on this machine."
    return PUPPETS, "Using the package's small model (puppets only). For real videos: `model='vit-b-16'`"
