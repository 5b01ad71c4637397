"""Explain one video with several models: input frames, scores of the label, and maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from froster.errors import FrosterError
from froster.explanation.maps import Kind, explain
from froster.recognizer import Recognizer
from froster.video import decode, load_video
from froster.video.sampling import uniform_indices
from froster.video.timeline import Timeline

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


def explain_video(
    video: str | Path, label: str, models: Mapping[str, Recognizer], kind: Kind = "attention"
) -> Explanation:
    """Explain the scores of `label` in a video by several named models, with the same frames of one view.

    Raises `VideoError` when nothing of the video can be decoded, `FrosterError` for a label that a model was not given,
    or another kind.
    """
    looks = []
    for name, recognizer in models.items():
        if label not in recognizer.labels:
            raise FrosterError(f"The label {label!r} is not among those of the model {name}; add it to the labels.")
        network, how = recognizer.model, recognizer.clip_sampling
        clip = load_video(video, frames=how.frames, sampling=how.sampling, preprocess=network.preprocess).frames[0]
        target = list(recognizer.labels).index(label)
        maps = explain(recognizer.model, clip, kind, recognizer.classes, target)
        looks.append(Look(name, score_in_words(recognizer, video, label), maps))
    if len({len(look.maps) for look in looks}) != 1:
        raise FrosterError("The models to compare must be given the same number of frames, and at least one model.")
    reading = decode.read(video, lambda timeline: chosen_frames(timeline, len(looks[0].maps)), crop)
    side = reading.kept[int(reading.indices[0])].shape[0]
    images = np.stack([resize(reading.kept[number], side) for number in reading.indices.tolist()])
    times, shown = reading.timeline.times[reading.indices], len(looks[0].maps)
    rate = round(np.clip((len(times) - shown) / max(reading.timeline.duration, 1e-3), *FILM_RATES))
    clip_shown, film = Frames(images[:shown], times[:shown]), Frames(images[shown:], times[shown:])
    return Explanation(label, kind, looks, clip_shown, film, rate, reading.warning)


def score_in_words(recognizer: Recognizer, video: str | Path, label: str) -> str:
    """The label's score, or its cosine if it is the only label."""
    prediction = recognizer.rank(recognizer.encode(video))
    if len(recognizer.labels) == 1:
        return f"cosine {prediction.similarities[label]:.2f}"
    return f"{100 * dict(prediction.ranked)[label]:.1f} %"


def chosen_frames(timeline: Timeline, frames: int) -> NDArray[np.int64]:
    """The model's input frames, then up to `FILM_FRAMES` of the whole video, evenly spaced."""
    of_clip = uniform_indices(timeline.times, timeline.duration, frames=frames, views=1)[0]
    of_film = np.linspace(0, len(timeline) - 1, min(len(timeline), FILM_FRAMES)).round().astype(np.int64)
    return np.concatenate([of_clip, of_film])


def crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The center of `(H, W, 3)`, a square of the short side, as in the models' input."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return resize(image[top : top + side, left : left + side], min(max(side, MIN_SIDE), MAX_SIDE))


def resize(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if image.shape[0] == side:
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
