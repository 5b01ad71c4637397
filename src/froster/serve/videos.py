"""A client's video: allowed locations, limits, and the frames for models and page."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from froster.errors import VideoError
from froster.provenance import ClipSampling
from froster.serve.errors import RequestError
from froster.video import Preprocessing, decode, frame_indices
from froster.video.timeline import Timeline
from froster.video.transforms import ResizeMode, seen_region

PAGE_SIDE = 256  # of the frames sent to the page


@dataclass(frozen=True)
class Loaded:
    """A decoded video: `clips` (V, T, 3, S, S), the model's input; of the middle view `times` (T,) seconds and
    `images` (T, H, H, 3) uint8, the model's center crop at a higher resolution, empty unless requested."""

    clips: Tensor
    times: NDArray[np.float64]
    images: NDArray[np.uint8]
    warning: str | None


class Video:
    """A file to decode, and its name in messages."""

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown

    def load(
        self,
        how: ClipSampling,
        preprocess: Preprocessing,
        *,
        images: bool,
        max_seconds: float,
        cancelled: Callable[[], bool],
    ) -> Loaded:
        """Decode the frames for models and page in one pass; `cancelled` is checked between frames.

        `how`, `preprocess`: the model's own, as `load_video` takes them.

        Raises `RequestError` for a video that cannot be read or is longer than `max_seconds`.
        """

        def choose(timeline: Timeline) -> NDArray[np.int64]:
            if timeline.duration > max_seconds:
                raise RequestError(
                    413,
                    "video_too_long",
                    f"{self.shown} is {timeline.duration:.0f} seconds long; the maximum is {max_seconds:g}.",
                )
            return frame_indices(timeline, how.sampling, frames=how.frames, views=how.views)

        def keep(image: NDArray[np.uint8]) -> tuple[Tensor, NDArray[np.uint8] | None]:
            if cancelled():
                raise RequestError(499, "cancelled", "The request was cancelled.")
            return prepare.per_frame(torch.from_numpy(image)[None])[0], square(
                image, preprocess.resize_mode
            ) if images else None

        prepare = preprocess.released if how.sampling == "release" else preprocess
        try:
            reading = decode.read(self.path, choose, keep)
        except VideoError as error:
            raise self.unreadable(error) from error
        kept = [reading.kept[number] for number in reading.indices.ravel().tolist()]
        middle = reading.indices[how.views // 2]
        shown = [image for _, image in (reading.kept[number] for number in middle.tolist()) if image is not None]
        return Loaded(
            clips=torch.stack([clip for clip, _ in kept]).unflatten(0, reading.indices.shape),
            times=reading.timeline.times[middle],
            images=np.stack(shown) if shown else np.empty((0, 0, 0, 3), np.uint8),
            warning=self.in_words(reading.warning) if reading.warning else None,
        )

    def unreadable(self, error: VideoError) -> RequestError:
        return RequestError(422, "unreadable_video", f"{self.shown}: {self.in_words(error.reason)}.")

    def in_words(self, message: str) -> str:
        """A decoder message without this machine's paths."""
        return message.replace(str(self.path), self.shown).replace(self.path.name, self.shown)


def allowed_path(text: str, folder: Path | None) -> Video:
    """The file at `text`, absolute or relative to `folder`. Raises `RequestError` for files outside of it."""
    if folder is None:
        raise RequestError(403, "path_not_allowed", "This server reads no files of its own; upload the video.")
    outside = RequestError(403, "path_not_allowed", "The path leads out of the folder that this server may read.")
    try:
        path = (folder / text).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, a null byte
        raise outside from error
    if not path.is_relative_to(folder.resolve()):
        raise outside
    if not is_file:
        raise RequestError(422, "unreadable_video", f"{text}: there is no such file in the folder.")
    return Video(path, text)


def square(image: NDArray[np.uint8], resize_mode: ResizeMode) -> NDArray[np.uint8]:
    """What the model sees of an image, `PAGE_SIDE` wide: `(H, W, 3)` -> `(S, S, 3)` uint8."""
    crop = Image.fromarray(seen_region(image, resize_mode))
    return np.asarray(crop.resize((PAGE_SIDE, PAGE_SIDE), Image.Resampling.BICUBIC))


def data_url(image: NDArray[np.uint8]) -> str:
    """An image `(H, W, 3)` uint8 RGB as a JPEG in a `data:` URL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
