"""What a checkpoint says about how it was trained, so that it is used in the same way everywhere.

A trained model carries attributes besides its weights: `labels`, the classes it was trained on with their
descriptions; `templates`, the prompt templates themselves, and `prompt_style`, how they are used; `temporal_pooling`;
`clip_sampling`, how clips are taken from a video; and `trained_on`, hashes of the training videos. They are stored in
the metadata of our checkpoints. Every use of the model (recognizer, evaluation, report, timeline, explanation, server)
takes its defaults from them; what tests a model says where it is tested on training videos.
"""

import json
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import safetensors

from froster.data.trained import TrainedVideos
from froster.errors import FrosterError, FrosterWarning, WeightsError
from froster.scoring import TemporalPooling
from froster.text.classes import ClassTexts
from froster.text.labels import check_pairs
from froster.text.prompts import PromptStyle, check_templates
from froster.video import Sampling

if TYPE_CHECKING:
    from froster.students import VideoStudent

MOST_FRAMES = 10_000  # of all views; more in a file's metadata is damage


@dataclass(frozen=True)
class ClipSampling:
    """How clips are taken from a video: `views` clips of `frames` frames each, by the rule `sampling`.

    `"uniform"` covers the whole video evenly; `"release"` takes and prepares frames as the authors' code does (one
    frame in 16 at 30 a second).
    """

    frames: int = 8
    views: int = 3
    sampling: Sampling = "uniform"

    def __post_init__(self) -> None:
        if not all(type(count) is int and count >= 1 for count in (self.frames, self.views)):
            raise FrosterError(f"views and frames must be at least 1, not {self.views} and {self.frames}.")
        if self.sampling not in get_args(Sampling):
            raise FrosterError(f"There is no sampling {self.sampling!r}; choose from {', '.join(get_args(Sampling))}.")

    def override(self, frames: int | None, views: int | None, sampling: Sampling | None) -> "ClipSampling":
        """These settings with those that are not None in their place. Raises `FrosterError` for unusable ones."""
        return ClipSampling(
            self.frames if frames is None else frames,
            self.views if views is None else views,
            self.sampling if sampling is None else sampling,
        )


@dataclass(frozen=True)
class Provenance:
    """What a checkpoint says about its training; None where it does not say.

    `templates_file`: a file of templates that an older checkpoint names instead of holding the templates.
    """

    labels: ClassTexts | None = None
    templates: tuple[str, ...] | None = None
    clip_sampling: ClipSampling | None = None
    trained_on: TrainedVideos | None = None
    templates_file: str | None = None
    prompt_style: PromptStyle | None = None
    temporal_pooling: TemporalPooling | None = None

    def apply_to(self, model: "VideoStudent", student: str | None) -> None:
        """Set the attributes of a model that was made from a checkpoint of `student`, None for a plain backbone.

        Templates only where the model has any, since some learn the words around the names; temporal pooling only where
        it is the same student.
        """
        model.labels = self.labels
        if self.templates and model.templates:
            model.templates = self.templates
        model.clip_sampling = self.clip_sampling or ClipSampling()
        model.trained_on = self.trained_on
        if self.prompt_style:
            model.prompt_style = self.prompt_style
        if self.temporal_pooling and model.name == student:
            model.temporal_pooling = self.temporal_pooling


def provenance_of(model: "VideoStudent") -> Provenance:
    """What `save_checkpoint` would store of the model."""
    return Provenance(
        model.labels,
        model.templates,
        model.clip_sampling,
        model.trained_on,
        prompt_style=model.prompt_style,
        temporal_pooling=model.temporal_pooling,
    )


def common_provenance(checkpoints: Sequence[Provenance]) -> Provenance:
    """For a checkpoint made of others: the labels on which all agree that have any, the first one's settings, and the
    videos that any of them was trained on.

    Warns where settings differ.
    """
    first, labels = checkpoints[0], [found.labels for found in checkpoints if found.labels is not None]
    for what, key in (
        ("templates", "templates"),
        ("clip sampling", "clip_sampling"),
        ("prompt styles", "prompt_style"),
        ("temporal pooling", "temporal_pooling"),
    ):
        if any(getattr(found, key) != getattr(first, key) for found in checkpoints):
            warnings.warn(
                f"The checkpoints were trained with different {what}; those of the first are kept.",
                FrosterWarning,
                stacklevel=2,
            )
    agreed = labels[0] if labels and all(of_one == labels[0] for of_one in labels) else None
    trained = [found.trained_on for found in checkpoints if found.trained_on is not None]
    return replace(first, labels=agreed, trained_on=reduce(operator.or_, trained) if trained else None)


def provenance_metadata(model: object) -> dict[str, str]:
    """The part of a checkpoint's metadata that `read_provenance` reads; nothing for a plain CLIP."""
    labels: ClassTexts | None = getattr(model, "labels", None)
    sampling: ClipSampling | None = getattr(model, "clip_sampling", None)
    trained_on: TrainedVideos | None = getattr(model, "trained_on", None)
    if sampling is None:
        return {}
    metadata = {
        "templates": json.dumps(list(model.templates), ensure_ascii=False),  # type: ignore[attr-defined]
        "clip_sampling": json.dumps(asdict(sampling)),
        "prompt_style": json.dumps(model.prompt_style),  # type: ignore[attr-defined]
        "temporal_pooling": json.dumps(model.temporal_pooling),  # type: ignore[attr-defined]
    }
    if labels is not None:
        metadata["labels"] = json.dumps(labels.descriptions, ensure_ascii=False)
    if trained_on is not None and trained_on.is_storable:
        metadata["trained_on"] = json.dumps(trained_on.to_json(), ensure_ascii=False)
    return metadata


def read_provenance(metadata: Mapping[str, str], path: str | Path) -> Provenance:
    """The training that the metadata of our checkpoint `path` tells of.

    Nothing is taken on trust: types and limits are checked, and a file that the metadata names is not opened. Raises
    `WeightsError` that names the file and the damaged entry.
    """

    def entry(key: str) -> Any:
        return json.loads(metadata[key]) if key in metadata else None

    what = "labels"
    try:
        labels = entry("labels")
        if labels is not None:
            labels = check_pairs(list(labels.items()), path)
        what = "templates"
        templates = entry("templates")
        if templates is not None:
            if not isinstance(templates, list):
                raise TypeError("not a list")
            templates = check_templates(templates) if templates else ()
        what = "clip_sampling"
        sampling = entry("clip_sampling")
        if sampling is not None:
            sampling = ClipSampling(**sampling)
            if sampling.frames * sampling.views > MOST_FRAMES:
                raise ValueError("too many frames")
        what = "trained_on"
        trained_on = entry("trained_on")
        if trained_on is not None:
            trained_on = TrainedVideos.from_json(trained_on)
        chosen: dict[str, Any] = {}
        for what, values in (("prompt_style", get_args(PromptStyle)), ("temporal_pooling", get_args(TemporalPooling))):
            chosen[what] = entry(what)
            if chosen[what] not in (None, *values):
                raise ValueError("unknown value")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} is a damaged froster checkpoint: its {what} cannot be read.") from error
    file = None if templates is not None else templates_file(metadata)
    return Provenance(labels, templates, sampling, trained_on, file, **chosen)


def templates_file(metadata: Mapping[str, str]) -> str | None:
    """The file of templates in the recipe of a checkpoint from before the templates themselves were stored."""
    try:
        name = json.loads(metadata.get("recipe", "{}"))["data"]["templates"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return name if isinstance(name, str) and name else None


def stored_provenance(model: str | Path) -> Provenance:
    """What a checkpoint file or a run's folder says about its training, without reading its weights.

    Nothing for names of releases, which are not fetched, and for files of others. Raises `WeightsError` for a folder
    without weights and for damaged entries.
    """
    from froster.checkpoints.folders import find_weights_file
    from froster.checkpoints.own import FORMAT

    path = Path(model)
    if not path.exists():
        return Provenance()
    file = find_weights_file(path)
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except (safetensors.SafetensorError, OSError):  # another format, or damaged, which is found when it is loaded
        return Provenance()
    return read_provenance(metadata, file) if metadata.get("format") == FORMAT else Provenance()
