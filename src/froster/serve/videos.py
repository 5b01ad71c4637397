"""A client's video: where it may lie, what it may be, and what of it the models and the page need."""

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

PICTURE_SIDE = 256  # pixels of the frames sent to the page


@dataclass(frozen=True)
class Loaded:
    """A decoded video: `clips` (V, T, 3, S, S), as a model takes them; of the middle view `times` (T,) seconds and
    `pictures` (T, H, H, 3) uint8: what lies in the square that the model sees, larger; none where not asked for."""

    clips: Tensor
    times: NDArray[np.float64]
    pictures: NDArray[np.uint8]
    warning: str | None


class Video:
    """A file to decode, and how its name reads in messages."""

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown

    def load(
        self,
        how: ClipSampling,
        preprocess: Preprocessing,
        *,
        pictures: bool,
        max_seconds: float,
        cancelled: Callable[[], bool],
    ) -> Loaded:
        """Decode what models and page need, in one pass; `cancelled` is asked between frames.

        `how`, `preprocess`: the model's own, as `load_video` takes them.

        Raises `RequestError` for a video that cannot be read or is longer than `max_seconds`.
        """

        def choose(timeline: Timeline) -> NDArray[np.int64]:
            if timeline.duration > max_seconds:
                raise RequestError(
                    413,
                    "video_too_long",
                    f"{self.shown} is {timeline.duration:.0f} seconds long; this server takes at most "
                    f"{max_seconds:g}: cut it.",
                )
            return frame_indices(timeline, how.sampling, frames=how.frames, views=how.views)

        def keep(image: NDArray[np.uint8]) -> tuple[Tensor, NDArray[np.uint8] | None]:
            if cancelled():
                raise RequestError(499, "cancelled", "The request was cancelled.")
            return prepare.shrink(torch.from_numpy(image)[None])[0], square(image) if pictures else None

        prepare = preprocess.released if how.sampling == "release" else preprocess
        try:
            reading = decode.read(self.path, choose, keep)
        except VideoError as error:
            raise self.unreadable(error) from error
        kept = [reading.kept[number] for number in reading.indices.ravel().tolist()]
        middle = reading.indices[how.views // 2]
        shown = [picture for _, picture in (reading.kept[number] for number in middle.tolist()) if picture is not None]
        return Loaded(
            clips=torch.stack([clip for clip, _ in kept]).unflatten(0, reading.indices.shape),
            times=reading.timeline.times[middle],
            pictures=np.stack(shown) if shown else np.empty((0, 0, 0, 3), np.uint8),
            warning=self.in_words(reading.warning) if reading.warning else None,
        )

    def unreadable(self, error: VideoError) -> RequestError:
        return RequestError(422, "unreadable_video", f"{self.shown}: {self.in_words(error.reason)}.")

    def in_words(self, message: str) -> str:
        """A message of the decoder without this machine's paths."""
        return message.replace(str(self.path), self.shown).replace(self.path.name, self.shown)


def allowed_path(text: str, folder: Path | None) -> Video:
    """The file that `text` names, under `folder` or in full. Raises `RequestError` for any file elsewhere."""
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


def square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The square in the middle of a picture, at most `PICTURE_SIDE` wide: `(H, W, 3)` -> `(S, S, 3)` uint8."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    picture = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC))


def data_url(picture: NDArray[np.uint8]) -> str:
    """A picture `(H, W, 3)` uint8 RGB as a JPEG in a `data:` URL."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
