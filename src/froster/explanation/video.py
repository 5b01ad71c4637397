"""Explain one video with several models: input frames, scores of the label, and maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from froster.errors import FrosterError, VideoError
from froster.explanation.maps import Kind, relevance_maps
from froster.provenance import stored_provenance
from froster.recognizer import EncodedVideo, Recognizer
from froster.settings import InferenceOptions
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.labels import LabelSet, check_labels
from froster.video import decode
from froster.video.timeline import Timeline
from froster.video.transforms import ResizeMode, seen_region

Model = VideoStudent | str | Path

MIN_SIDE, MAX_SIDE = 160, 320  # of the output frames, in pixels; videos are resized into this range
FILM_FRAMES = 64
FILM_RATES = (4, 25)  # frames per second


@dataclass(frozen=True)
class Look:
    """One model's `score` of the label as text, and its maps `(T, h, w)` in [0, 1]."""

    model: str
    score: str
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    """Center-cropped frames at the video's own resolution, within limits."""

    frames: NDArray[np.uint8]  # (N, S, S, 3) RGB
    times: NDArray[np.float64]  # (N,) seconds


@dataclass(frozen=True)
class Explanation:
    """A video, a label, and the maps of each model.

    `clip`: the frames that the models see and that the maps belong to. `film`: frames of the whole video, `rate` of
    them a second. `warning`: what part of the file could not be used, if any.
    """

    label: str
    kind: Kind
    looks: list[Look]
    clip: Frames
    film: Frames
    rate: int
    warning: str | None

    def save(self, path: str | Path, animation: bool = True) -> list[Path]:
        """Write the image (PNG), and with `animation` also `.mp4` and `.gif`; all or none.

        Returns the files. Raises `OSError` when they cannot be written, `FrosterError` without the extra `cli`.
        """
        from froster.explanation.sheet import save_explanation  # which needs fonts

        return save_explanation(self, Path(path), animation)


def explain(
    model: Model | Mapping[str, Model],
    video: str | Path,
    label: str,
    labels: LabelSet | None = None,
    *,
    kind: Kind = "attention",
    descriptions: Mapping[str, str] | str | Path | None = None,
    **settings: Unpack[InferenceOptions],
) -> Explanation:
    """Where a model, or several by name, look in a video for `label`, and how they score it.

    `model`: what `froster.load_model` takes, a run's folder or a network, or a mapping name -> such. `labels`: what the
    label competes with, as for `froster.Recognizer`; by default those of the first model that knows its own. `kind`:
    `"attention"` of the last layer, `"rollout"` through all layers, or relevance by `"gradient"` for the label.
    `descriptions` of the labels: a mapping by name, or a file. `settings`: the fields of `froster.InferenceSettings`;
    by default one view, in float32. `save` of the result draws a picture and films.

    Raises `VideoError` when nothing of the video can be decoded, `FrosterError` for another kind or models that are
    given different numbers of frames, `WeightsError` for a model.
    """
    models = dict(model) if isinstance(model, Mapping) else {model_name(model): model}
    if kind not in get_args(Kind):
        raise FrosterError(f"There is no map of kind {kind!r}; choose from {', '.join(get_args(Kind))}.")
    known = labels if labels is not None else next(filter(None, map(known_labels, models.values())), None)
    wanted = ClassTexts() if known is None else check_labels(known)
    if label.strip() not in wanted:
        wanted = check_labels([label], "label") | wanted
    chosen: InferenceOptions = {"views": 1, "precision": "float32", **settings}
    recognizers = {
        name: Recognizer(of_name, wanted, descriptions=descriptions, **chosen) for name, of_name in models.items()
    }
    return explain_video(video, label.strip(), recognizers, kind)


def known_labels(model: Model) -> ClassTexts | None:
    return model.labels if isinstance(model, VideoStudent) else stored_provenance(model).labels


def model_name(model: Model) -> str:
    return model.title if isinstance(model, VideoStudent) else str(model)


def explain_video(
    video: str | Path, label: str, models: Mapping[str, Recognizer], kind: Kind = "attention"
) -> Explanation:
    """Explain the scores of `label` in a video by several named recognizers, with equally many frames of one view.

    Of several views, the middle one is explained. Raises `VideoError` when nothing of the video can be decoded,
    `FrosterError` for a label that a model was not given, or another kind.
    """
    looks, seen, modes = list[Look](), np.zeros(0), list[ResizeMode]()
    for name, recognizer in models.items():
        if label not in recognizer.labels:
            raise FrosterError(f"The label {label!r} is not among those of the model {name}; add it to the labels.")
        clips = recognizer.runtime.load(video)
        if isinstance(clips, VideoError):
            raise clips
        middle = len(clips.frames) // 2
        target = list(recognizer.labels).index(label)
        maps = relevance_maps(recognizer.model, clips.frames[middle], kind, recognizer.classes, target)
        encoded = EncodedVideo(str(video), recognizer.runtime.encode(clips.frames))
        modes.append(recognizer.model.preprocess.resize_mode)
        looks.append(Look(name, score_in_words(recognizer, encoded, label), maps))
        seen = seen if len(seen) else clips.times[middle]
    if len({len(look.maps) for look in looks}) != 1:
        raise FrosterError("The models to compare must be given the same number of frames, and at least one model.")
    if len(set(modes)) != 1:
        raise FrosterError("The models to compare see different parts of a picture; explain them one at a time.")
    reading = decode.read(
        video, lambda timeline: chosen_frames(timeline, seen), lambda image: shown_image(image, modes[0])
    )
    side = reading.kept[int(reading.indices[0])].shape[0]
    images = np.stack([resize(reading.kept[number], side) for number in reading.indices.tolist()])
    times, shown = reading.timeline.times[reading.indices], len(seen)
    rate = round(np.clip((len(times) - shown) / max(reading.timeline.duration, 1e-3), *FILM_RATES))
    clip_shown, film = Frames(images[:shown], times[:shown]), Frames(images[shown:], times[shown:])
    return Explanation(label, kind, looks, clip_shown, film, rate, reading.warning)


def score_in_words(recognizer: Recognizer, encoded: EncodedVideo, label: str) -> str:
    """The label's score, or its cosine where the score is 1 because it is the only label."""
    prediction = recognizer.rank(encoded)
    if len(recognizer.labels) == 1 and not prediction.independent:
        return f"cosine {prediction.similarities[label]:.2f}"
    return f"{100 * dict(prediction.ranked)[label]:.1f} %"


def chosen_frames(timeline: Timeline, seen: NDArray[np.float64]) -> NDArray[np.int64]:
    """The model's input frames, by time, then up to `FILM_FRAMES` of the whole video, evenly spaced."""
    of_clip = np.abs(timeline.times[:, None] - seen).argmin(axis=0)
    of_film = np.linspace(0, len(timeline) - 1, min(len(timeline), FILM_FRAMES)).round().astype(np.int64)
    return np.concatenate([of_clip, of_film])


def shown_image(image: NDArray[np.uint8], resize_mode: ResizeMode) -> NDArray[np.uint8]:
    """What a model sees of `(H, W, 3)`, as a square of about the short side."""
    return resize(seen_region(image, resize_mode), min(max(min(image.shape[:2]), MIN_SIDE), MAX_SIDE))


def resize(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (side, side):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def maps_between(look: Look, clip: Frames, times: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps at other times, interpolated linearly: `(N, h, w)`."""
    places, where = np.unique(clip.times, return_index=True)
    after = np.searchsorted(places, times).clip(0, len(places) - 1)
    before = (after - 1).clip(0)
    span = np.maximum(places[after] - places[before], 1e-9)
    share = ((times - places[before]) / span).clip(0, 1).astype(np.float32)[:, None, None]
    maps = look.maps[where]
    return (1 - share) * maps[before] + share * maps[after]
