"""What tensors do not show of a CLIP: heads, activation, how pictures are prepared; and where it is read from.

In this order: what the caller gives, the description next to the weights (OpenCLIP's, Hugging Face's), the released
model that the file was loaded as by name, the rule of OpenAI's releases where a file is one of them or was trained from
one, the known releases of the same sizes (with a warning that names what is assumed). What is still open is asked for.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from froster.backbones.clip import ClipConfig
from froster.checkpoints.releases import ARCHITECTURES, OPENAI, ReleasedModel, released_models, size_key
from froster.errors import FrosterError, FrosterWarning, WeightsError
from froster.video.transforms import CLIP_MEAN, CLIP_STD

OPEN_FIELDS = (  # of a config: those that tensors do not show
    "activation",
    "vision_heads",
    "text_heads",
    "vision_norm_eps",
    "text_norm_eps",
    "image_mean",
    "image_std",
    "resize_mode",
    "interpolation",
)
NEEDED = ("activation", "vision_heads", "text_heads")  # without a default that every CLIP has
COMMON = {
    "vision_norm_eps": 1e-5,
    "text_norm_eps": 1e-5,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "resize_mode": "shortest",
    "interpolation": "bicubic",
}
EXPLICIT = "given"
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
ACTIVATIONS = ("gelu", "quick_gelu")
# What OpenCLIP's descriptions may say of a network like OpenAI's; other keys must say nothing (None, False, "").
VISION_KEYS = {
    "image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "norm_kwargs", "patch_dropout",
}  # fmt: skip
TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs"}
MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"}
DEFAULTS: dict[str, tuple[Any, ...]] = {  # values that OpenAI's network has too
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "pad_id": (0,),
    "act_kwargs": ({},),
}


@dataclass(frozen=True)
class KnownSizes:
    """Released models of the same sizes: `title`, the `facts` that all have, and the names of those that vary.

    Of OpenAI's sizes the facts are those of OpenAI's model.
    """

    title: str
    facts: dict[str, Any]
    varying: tuple[str, ...]


@cache
def clips_by_size() -> Mapping[tuple[int, ...], list[ReleasedModel]]:
    groups: dict[tuple[int, ...], list[ReleasedModel]] = {}
    for model in released_models().values():
        config = ARCHITECTURES[model.architecture]
        if isinstance(config, ClipConfig):
            groups.setdefault(size_key(asdict(config)), []).append(model)
    return groups


def known_of_sizes(sizes: Mapping[str, Any], values: Mapping[str, Any]) -> KnownSizes | None:
    """What is known of released CLIPs of these sizes that have the `values` that are known already."""
    of_sizes = clips_by_size().get(size_key(sizes), [])
    models = [model for model in of_sizes if all(values.get(name, fact) == fact for name, fact in model.facts.items())]
    if not models:
        return None
    facts = models[0].facts
    varying = tuple(name for name in facts if any(model.facts[name] != facts[name] for model in models))
    if models[0].series == OPENAI:
        return KnownSizes(f"OpenAI's {models[0].architecture}", facts, varying)
    title = f"{models[0].architecture} of {' and '.join(dict.fromkeys(model.series for model in models))}"
    return KnownSizes(title, {name: value for name, value in facts.items() if name not in varying}, varying)


@dataclass
class Facts:
    """Values of a config's fields that tensors do not show, and where each is from.

    `assumed`: what was taken for granted, in words; None where nothing was.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    assumed: str | None = None

    def add(self, values: Mapping[str, Any], source: str) -> None:
        """Values that are not known yet."""
        for name, value in values.items():
            if name not in self.values:
                self.values[name], self.sources[name] = value, source

    def lacks(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self.values]


def check_given(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller says of a backbone, lists as tuples. Raises `FrosterError` for a key that tensors decide."""
    for name in given:
        if name not in OPEN_FIELDS:
            raise FrosterError(
                f"backbone: there is no key {name!r} to give; the keys are {', '.join(OPEN_FIELDS)} (sizes are read "
                "from the tensors)."
            )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def gather_facts(
    sizes: Mapping[str, int],
    path: Path,
    given: Mapping[str, Any],
    hugging_face: bool,
    from_openai: bool,
    released: ReleasedModel | None = None,
) -> Facts:
    """All that tensors of these `sizes` do not show.

    `hugging_face`: whether the tensors have Hugging Face's names. `from_openai`: whether the file is a release of
    OpenAI's, or a network that was trained from one. `released`: the released model that it holds, if that is known.
    Raises `WeightsError` that says which keys to give where something is still open, or a description cannot be
    followed.
    """
    facts = Facts()
    facts.add(check_given(given), EXPLICIT)
    if hugging_face:
        described(facts, path.with_name("config.json"), hugging_face_config, sizes, must_fit=True)
        described(facts, path.with_name("preprocessor_config.json"), hugging_face_preprocessor, sizes, must_fit=True)
    elif not from_openai:
        description, is_open_clip = path.with_name("open_clip_config.json"), path.name.startswith("open_clip_")
        if is_open_clip or belongs_to(description, path, sizes):
            described(facts, description, open_clip_config, sizes, must_fit=is_open_clip)
    if released and released.has_sizes(sizes):
        facts.add(released.facts, f"{released.name}, by its name")
    elif from_openai or (released and released.series == OPENAI):
        facts.add(openai_rule(sizes), "the rule of OpenAI's releases")
    needed: tuple[str, ...] = NEEDED
    if facts.lacks(NEEDED) and (known := known_of_sizes(sizes, facts.values)):
        needed += tuple(name for name in known.varying if name not in NEEDED)
        assumed = known.facts
        if path.name.startswith("open_clip_"):  # OpenCLIP has several of OpenAI's sizes: nothing says which
            assumed = {name: value for name, value in assumed.items() if name not in known.varying}
        taken = [name for name in facts.lacks(needed) if name in assumed]
        facts.add(assumed, f"assumed: {known.title}, of the same sizes")
        words = ", ".join(f"{name}={in_words(facts.values[name])}" for name in taken)
        facts.assumed = f"{words} of {known.title}, which has the same sizes" if taken else None
    if missing := facts.lacks(needed):
        raise WeightsError(
            f"{path} does not say {', '.join(missing)}, and there is no description of it in its folder "
            "(OpenCLIP's open_clip_config.json, Hugging Face's config.json): put it there, or give the "
            f"{'key' if len(missing) == 1 else 'keys'} {', '.join(missing)} of the backbone."
        )
    facts.add(COMMON, "what CLIPs have in common")
    return facts


def in_words(value: Any) -> str:
    return "/".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def openai_rule(sizes: Mapping[str, int]) -> dict[str, Any]:
    """One head for 64 channels, and QuickGELU."""
    return {
        "activation": "quick_gelu",
        "vision_heads": sizes["vision_width"] // 64,
        "text_heads": sizes["text_width"] // 64,
    }


Reader = Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]  # facts, and sizes that must be those of the tensors


def described(facts: Facts, path: Path, read: Reader, sizes: Mapping[str, int], must_fit: bool) -> None:
    """Add what the description `path` says, if there is one.

    One of other sizes is about other weights. Raises `WeightsError` for it with `must_fit`, and for one that cannot be
    read or asks for what froster does not have.
    """
    if not path.is_file():
        return
    try:
        values, stated = read(json.loads(path.read_text(encoding="utf-8")))
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise WeightsError(f"The model description {path} cannot be read ({error!r}); correct or remove it.") from error
    wrong = [name for name, value in stated.items() if value != sizes[name]]
    if wrong and must_fit:
        name = wrong[0]
        raise WeightsError(f"{path} describes another network: its {name} is {stated[name]}, not {sizes[name]}.")
    if not wrong:
        facts.add(values, path.name)


def belongs_to(description: Path, weights: Path, sizes: Mapping[str, int]) -> bool:
    """Whether OpenCLIP's description can be about `weights` of another name; warns where its sizes are others."""
    try:
        stated = open_clip_sizes(json.loads(description.read_text(encoding="utf-8")))
    except (OSError, WeightsError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True  # to be refused where it is read
    wrong = next((name for name, value in stated.items() if value != sizes[name]), None)
    if wrong:
        warnings.warn(
            f"{description} is not used for {weights.name}: it describes another network, whose {wrong} is "
            f"{stated[wrong]}, not {sizes[wrong]}.",
            FrosterWarning,
            stacklevel=2,
        )
    return wrong is None


def open_clip_sizes(description: Any) -> dict[str, Any]:
    """The sizes that OpenCLIP's description states, as fields of a config."""
    model = description["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    stated = {
        "embed_dim": model.get("embed_dim"),
        "image_size": side(vision.get("image_size")),
        "patch_size": vision.get("patch_size"),
        "vision_width": vision["width"],
        "vision_layers": vision.get("layers"),
        "text_width": text.get("width"),
        "text_layers": text.get("layers"),
        "context_length": text.get("context_length"),
        "vocab_size": text.get("vocab_size"),
    }
    return {name: value for name, value in stated.items() if value is not None}


def open_clip_config(description: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    model = description["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    for part, keys in ((model, MODEL_KEYS), (vision, VISION_KEYS), (text, TEXT_KEYS)):
        for name, value in part.items():
            if name not in keys and value and value not in DEFAULTS.get(name, ()):
                raise WeightsError(f"asks for {name}={value!r:.60}, which froster's CLIP does not have.")
    values = {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "vision_heads": vision["width"] // vision.get("head_width", 64),
        "text_heads": int(text.get("heads", 8)),
        "vision_norm_eps": float((vision.get("norm_kwargs") or {}).get("eps", 1e-5)),
        "text_norm_eps": float((text.get("norm_kwargs") or {}).get("eps", 1e-5)),
    }
    prepared = description.get("preprocess_cfg") or {}
    if prepared.get("fill_color"):
        raise WeightsError(f"asks for fill_color={prepared['fill_color']!r:.60}; froster pads with black.")
    values |= preparation(prepared.get("mean"), prepared.get("std"), prepared.get("interpolation"))
    if prepared.get("resize_mode"):
        values["resize_mode"] = choice("resize_mode", prepared["resize_mode"], ("shortest", "squash", "longest"))
    return values, open_clip_sizes(description)


def hugging_face_config(description: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    vision, text = description["vision_config"], description["text_config"]
    activations = [choice("activation", part.get("hidden_act", "quick_gelu"), ACTIVATIONS) for part in (vision, text)]
    if activations[0] != activations[1]:
        raise WeightsError("names one activation for pictures and another for texts; froster's CLIP has one.")
    values = {
        "activation": activations[0],
        "vision_heads": int(vision.get("num_attention_heads", 12)),
        "text_heads": int(text.get("num_attention_heads", 8)),
        "vision_norm_eps": float(vision.get("layer_norm_eps", 1e-5)),
        "text_norm_eps": float(text.get("layer_norm_eps", 1e-5)),
    }
    return values, {}


def hugging_face_preprocessor(description: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if description.get(step) is False:
            raise WeightsError(f"leaves out {step}, which froster does not.")
    factor = description.get("rescale_factor")
    if factor is not None and abs(factor * 255 - 1) > 1e-3:
        raise WeightsError(f"asks for rescale_factor={factor!r:.20}; froster scales to [0, 1].")
    resample = description.get("resample")
    interpolation = None if resample is None else RESAMPLING.get(resample, f"Pillow's {resample}")
    values = preparation(description.get("image_mean"), description.get("image_std"), interpolation)
    size, crop = description.get("size"), description.get("crop_size")
    crops = description.get("do_center_crop", True)
    if isinstance(size, dict) and "height" in size and not crops:
        values["resize_mode"] = "squash"
    elif size is not None:
        values["resize_mode"] = "shortest"
        if crops and crop is not None and side(size) != side(crop):
            raise WeightsError(
                f"resizes to {side(size)} pixels and crops {side(crop)} of them; froster crops them all."
            )
    return values, {} if size is None else {"image_size": side(size)}


def preparation(mean: Any, std: Any, interpolation: Any) -> dict[str, Any]:
    """Mean, std and interpolation of a description, of which each may be missing."""
    values: dict[str, Any] = {}
    for name, channels in (("image_mean", mean), ("image_std", std)):
        if channels is not None:
            one, two, three = (float(value) for value in channels)
            values[name] = (one, two, three)
    if interpolation is not None:
        values["interpolation"] = choice("interpolation", interpolation, ("bicubic", "bilinear"))
    return values


def side(size: Any) -> int | None:
    """The side of a square, given as a number, a pair, `{"shortest_edge": …}` or `{"height": …, "width": …}`."""
    if size is None:
        return None
    sides = set(size.values() if isinstance(size, dict) else size if isinstance(size, list | tuple) else [size])
    if len(sides) != 1:
        raise WeightsError(f"asks for pictures of {size!r:.60}, which are not square.")
    return int(sides.pop())


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise WeightsError(f"names the {name} {value!r:.40}; froster knows {' and '.join(known)}.")
    return str(value)


def read_assignments(assignments: Mapping[str, str]) -> dict[str, Any]:
    """Values of `OPEN_FIELDS` as typed: `16`, `gelu`, `0.5,0.5,0.5`. Raises `FrosterError` for an unknown key."""
    values: dict[str, Any] = {}
    for name, text in assignments.items():
        try:
            if name in ("image_mean", "image_std"):
                values[name] = tuple(float(part) for part in text.split(","))
            elif name.endswith("_eps"):
                values[name] = float(text)
            else:
                values[name] = int(text) if re.fullmatch(r"[0-9]+", text) else text
        except ValueError as error:
            raise FrosterError(f"backbone: {name} is {text!r}, which is not a number.") from error
    return check_given(values)
