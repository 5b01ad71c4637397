"""Short animations of videos, and strips of frames with attention maps, as WebP for the page."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError, VideoError
from froster.explanation import overlay, relevance_maps
from froster.inference import Runtime
from froster.video import VideoClips, decode
from froster.video.timeline import Timeline

FILM_SIDES = (288, 160)  # maximum width and height in pixels; smaller videos are not scaled
FILM_FRAMES = 24
FILM_RATES = (4, 12)  # frames per second
TILE, TILES, GAP = 112, 8, 4  # of a strip: frame size in pixels, frames per row, pixels between them
FILM_BYTES, STRIP_BYTES = 320_000, 130_000  # maximum; keeps a page with twelve errors below 8 MB
QUALITIES = (70, 45, 20)


@dataclass(frozen=True)
class Film:
    """Images of a video for the page, all WebP.

    `moving` loops over the whole video, None for a single picture; `still` is its middle; `seconds` how long the video
    is, or the segment. `strip`: above what the model saw, below where it looked, at `times` in seconds; None unless it
    was asked for.
    """

    moving: bytes | None
    still: bytes
    sides: tuple[int, int]
    seconds: float
    strip: bytes | None
    strip_sides: tuple[int, int]
    times: list[float]


def film_of(video: LabeledVideo, runtime: Runtime | None) -> Film:
    """Decode a video for a page; with a model, also its attention in the middle one of the scored views.

    Raises `VideoError` when nothing of the video can be decoded, `FrosterError` for a network without maps.
    """
    clips: VideoClips | None = None
    wanted = np.zeros(0)
    if runtime is not None:
        loaded = runtime.load(video.path, video.start, video.end)
        if isinstance(loaded, VideoError):
            raise loaded
        clips, wanted = loaded, loaded.times[len(loaded.times) // 2]
    begin, end = video.start or 0.0, math.inf if video.end is None else video.end
    seconds = 0.0

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        nonlocal seconds
        segment, first = timeline.cut(begin, end)
        seconds = segment.duration if len(segment) else 0.0
        of_film = first + np.linspace(0, max(len(segment) - 1, 0), min(max(len(segment), 1), FILM_FRAMES))
        # By time, not by index: frames that cannot be decoded change the indices.
        of_clip = np.abs(timeline.times[:, None] - wanted).argmin(axis=0)
        numbers = np.concatenate([of_film.round().astype(np.int64), of_clip])
        return numbers.clip(0, len(timeline) - 1)

    reading = decode.read(video.path, choose, shrink)
    pictures = [reading.kept[number] for number in reading.indices.tolist()]
    film = pictures[: len(pictures) - len(wanted)]
    rate = float(np.clip(len(film) / max(seconds, 1e-3), *FILM_RATES))
    strip, strip_sides = None, (0, 0)
    if runtime is not None and clips is not None:
        seen = np.stack([tile(picture) for picture in pictures[len(film) :]])
        strip, strip_sides = draw_strip(runtime, clips.frames[len(clips.frames) // 2], seen)
    return Film(
        moving=smallest([Image.fromarray(picture) for picture in film], FILM_BYTES, rate) if len(film) > 1 else None,
        still=smallest([Image.fromarray(film[len(film) // 2])], FILM_BYTES),
        sides=(film[0].shape[1], film[0].shape[0]),
        seconds=seconds,
        strip=strip,
        strip_sides=strip_sides,
        times=[float(wanted[place]) for place in spread(len(wanted))],
    )


def draw_strip(runtime: Runtime, clip: Tensor, seen: NDArray[np.uint8]) -> tuple[bytes, tuple[int, int]]:
    """Frames `(T, TILE, TILE, 3)` of a clip in a row, and below them the same with attention maps."""
    try:
        maps = relevance_maps(runtime.model, clip)
    except FrosterError:
        raise
    except ValueError as error:
        raise FrosterError(
            f"{runtime.model.title} has no attention maps; leave them out with `attention=False`."
        ) from error
    shown = spread(len(seen))
    rows = [seen[shown], overlay(seen, maps)[shown]]
    sides = (len(shown) * (TILE + GAP) - GAP, 2 * TILE + GAP)
    sheet = Image.new("RGBA", sides)  # transparent between the frames, for light and dark mode
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * (TILE + GAP), row * (TILE + GAP)))
    return smallest([sheet], STRIP_BYTES), sides


def spread(count: int) -> list[int]:
    """Up to `TILES` evenly spaced indices of `count` frames."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, TILES)).round()]


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce `(H, W, 3)` uint8 to at most `FILM_SIDES`."""
    picture = Image.fromarray(image)
    picture.thumbnail(FILM_SIDES, Image.Resampling.LANCZOS)
    return np.asarray(picture)


def tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The center of `(H, W, 3)`, a square of the short side, as in the models' input."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC, box=box))


def smallest(pictures: Sequence[Image.Image], most: int, rate: float = 1.0) -> bytes:
    """An image or looping animation as WebP of at most `most` bytes, in the best quality that fits."""
    while True:
        for quality in QUALITIES:
            file = io.BytesIO()
            moving = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / rate), "loop": 0}
            options = moving if len(pictures) > 1 else {}
            pictures[0].save(file, format="WEBP", quality=quality, method=4, **options)
            if file.tell() <= most:
                return file.getvalue()
        width, height = pictures[0].size
        half = (max(width // 2, 1), max(height // 2, 1))
        pictures = [picture.resize(half, Image.Resampling.LANCZOS) for picture in pictures]
