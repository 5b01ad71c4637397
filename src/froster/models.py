"""`load_model`: load a video model from a name or a checkpoint."""

import copy
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from froster.backbones.base import Backbone
from froster.backbones.build import backbone_names, build_backbone, new_backbone
from froster.checkpoints.checkpoint import BackboneSource, Checkpoint, StateDict
from froster.checkpoints.folders import SUFFIXES, find_weights_file
from froster.checkpoints.hub import PREFIX, HubReference, fetch_from_hub, find_in_hub_cache, parse_reference
from froster.checkpoints.openai import RELEASES, fetch_release, find_release
from froster.checkpoints.own import backbone_digest, save_checkpoint, tensors_digest
from froster.checkpoints.read import load_into, read_checkpoint
from froster.checkpoints.releases import ReleasedModel, find_released, normalize_name, released_models
from froster.device import pick_device
from froster.errors import FrosterError, FrosterWarning, WeightsError
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

    `path_or_name`: a released model by name (`list_models()`; downloaded once), such as `vit-b-16` (OpenAI's),
    `vit-b-16-datacomp-xl-s13b-b90k` or `pe-core-b-16`, also with a student in front (`vclip-vit-b-16`); any model of
    these kinds on the Hugging Face hub, `hf:owner/name`, `hf:owner/name@revision` or `hf:owner/name/FILE`; `puppets`
    (the package's small model); or a checkpoint file or folder: OpenAI, OpenCLIP, Hugging Face, released FROSTER and
    Open-VCLIP, or our own.
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
    checkpoint = read_checkpoint(path, backbone, found.released)
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
    """Names that `load_model` takes; each may have a student in front, as in `vclip-vit-b-16`.

    `froster.checkpoints.releases.released_models()` has their sizes, licenses and published accuracies.
    """
    return [PUPPETS, *released_models()]


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
        if not own and model.released_templates:
            model.templates, model.prompt_style = model.released_templates, "templates"
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
            backbone = read_backbone(place)
        except WeightsError:
            unreadable.append(place.name)
            continue
        if backbone_digest(backbone.state_dict(), backbone.config) == source.sha256:
            return backbone
        others.append(place.name)
    if others:
        raise WeightsError(
            f"{path} was trained with another CLIP than {others[0]}: same name, other weights "
            f"(SHA-256 {source.sha256[:12]} is needed). Put that CLIP next to the checkpoint, named "
            f"{Path(source.name).name}."
        )
    get = (
        f'Download it once with froster.load_model("{source.name}").'
        if source.name.startswith(PREFIX) or find_released(source.name)
        else f"A copy of it next to the checkpoint, named {Path(source.name).name}, is found too."
    )
    reason = f"{unreadable[0]} cannot be read as a CLIP" if unreadable else f"there is no {source.name}"
    raise WeightsError(f"{path} has adapters for a CLIP that is missing: {reason}. {get}")


def source_places(name: str, path: Path) -> "list[Found]":
    """Where the CLIP that the checkpoint `path` names may be, of those places that exist."""
    if found := find_named(name, download=False):
        return [found]
    recorded = Path(name)
    copies = [path.parent / recorded.name] if recorded.name not in ("", "..") else []
    exist = (place for place in (recorded, *copies) if place.is_dir() or (place.suffix in SUFFIXES and place.is_file()))
    return [Found(None, str(place), place) for place in exist]


def load_backbone(path_or_name: str | Path, backbone: Mapping[str, Any] | None = None) -> Backbone:
    """Load a plain backbone, such as a frozen teacher, in float32, on the CPU, in evaluation mode.

    `backbone`: what neither tensors nor a description in the file's folder say, as for `load_model`.

    Raises `WeightsError` for an unknown name, a file that cannot be used, or one that holds a fine-tuned student.
    """
    return read_backbone(resolve(path_or_name), backbone)


def read_backbone(found: "Found", backbone: Mapping[str, Any] | None = None) -> Backbone:
    checkpoint = read_checkpoint(found.path, backbone, found.released)
    if checkpoint.student:
        raise WeightsError(f"{found.path} is a fine-tuned student ({checkpoint.student}); a plain backbone is needed.")
    return filled_backbone(checkpoint, checkpoint.state, found.path).eval()


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
    """What the user named.

    `student`: the one in front of the name, if any. `name`: one that holds in every folder. `path`: the weights, a file
    or its folder. `released`: the released model that they are, if they were named so.
    """

    student: str | None
    name: str
    path: Path
    released: ReleasedModel | None = None


def resolve(path_or_name: str | Path) -> Found:
    """Find a model by its name or path; released ones are fetched. Raises `WeightsError` for an unknown name."""
    text = str(path_or_name)
    if found := find_named(text):
        return found
    path = Path(os.path.expanduser(path_or_name))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
    if path.exists() or path.suffix or len(path.parts) > 1:
        if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not path.parent.exists():
            raise WeightsError(f"There is no file {text}; a model of the Hugging Face hub is {PREFIX}{text}.")
        return Found(None, str(path.absolute()), path)
    raise WeightsError(f"There is no model or file {text!r}; {suggest(text)}")


def find_named(text: str, download: bool = True) -> Found | None:
    """A model by its name, on the hub or in the table of released ones; None for anything else.

    With `download=False` also None for one that is not on this machine.
    """
    if text.startswith(PREFIX):
        reference = parse_reference(text)
        path = fetch_from_hub(reference) if download else find_in_hub_cache(reference)
        released = find_released(reference.repository.rpartition("/")[2])
        known = released if released and released.repository == reference.repository else None
        return Found(None, str(reference), path, known) if path else None
    name = normalize_name(text)
    if name == PUPPETS:
        return Found(None, PUPPETS, puppets_weights())
    for student in (None, *STUDENTS):
        prefix = f"{student.replace('_', '-')}-" if student else ""
        if name.startswith(prefix) and (model := find_released(name.removeprefix(prefix))):
            path = released_weights(model, download)
            return Found(student, model.name, path, model) if path else None
    return None


def released_weights(model: ReleasedModel, download: bool = True) -> Path | None:
    """The weights of a released model, fetched if need be; None where they are not here and `download` is False."""
    if not model.repository:
        return fetch_release(model.name) if download else find_release(model.name)
    reference = HubReference(model.repository)
    return fetch_from_hub(reference, model.file) if download else find_in_hub_cache(reference, model.file)


def suggest(name: str) -> str:
    """The end of a sentence about an unknown name: names of models that are like it."""
    spelled, known = normalize_name(name), [PUPPETS, *released_models()]
    near = [model for model in known if model.startswith(spelled)] or get_close_matches(spelled, known, n=3)
    if not near:
        return f"names are {PUPPETS}, {', '.join(RELEASES)} and those of froster.list_models()."
    return f"did you mean {' or '.join(map(repr, near[:3]))}?"


def puppets_weights() -> Path:
    with as_file(files("froster") / "weights" / "clip-puppets.safetensors") as path:
        return path


def default_model() -> tuple[str, str]:
    """The model to use when the user names none, and a sentence that says which and why."""
    for name in ("vit-b-16", "vit-b-32", "vit-l-14", "vit-l-14-336"):
        if find_release(name):
            return name, f"Using {name}, found on this machine."
    return PUPPETS, "Using the package's small model (puppets only). For real videos: `model='vit-b-16'`"
