"""Still images, animated images and folders of images, read with Pillow as if they were videos."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from froster.errors import VideoError
from froster.files import is_dead_link
from froster.video.limits import check_size, max_pixels
from froster.video.timeline import Choose, Keep, Kept, Reading, Timeline

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FOLDER_RATE = Fraction(30)  # frames per second; a folder has no rate, and the published recipe assumes 30
TICKS = 1_000_000  # per second
DEFAULT_MILLISECONDS = 100.0  # for a frame without duration, as in browsers


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorting key that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def folder_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, in natural order; hidden files and pipes are ignored."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != ".")
    return sorted((file for file in files if file.is_file() or is_dead_link(file)), key=natural_key)


@dataclass(frozen=True)
class ImageFrame:
    """A frame of an image file: `position` in Pillow's count, duration in `milliseconds`."""

    file: Path
    position: int
    milliseconds: float


class ImageFrames:
    """The frames of a folder of images or of an image file; a context manager that closes the open file.

    `frames`: what there is, in order; `promised`: how many there should be; `edges` (N + 1,) int64: when each frame
    appears and the last one disappears, in microseconds. Asked for ascending numbers, an animated image is decoded
    once. Raises `VideoError` where there is no image.
    """

    def __init__(self, path: Path) -> None:
        self.frames = _folder_frames(path) if path.is_dir() else _file_frames(path)
        self.promised = max(len(self.frames), _promised_frames(path)) if len(self.frames) > 1 else len(self.frames)
        seconds = np.cumsum([0.0, *(frame.milliseconds / 1000 for frame in self.frames)])
        self.edges = np.round(seconds * TICKS).astype(np.int64)
        self._file: Path | None = None
        self._image: ImageFile.ImageFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._image is not None:
            self._image.close()
        self._file = self._image = None

    def rgb(self, number: int) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8, upright by its EXIF tag; transparency is dropped, as in CLIP's preprocessing.

        Raises `VideoError` for a frame that cannot be read.
        """
        frame = self.frames[number]
        try:
            # Seeking backward decodes from the first frame again.
            if self._image is None or self._file != frame.file or self._image.tell() > frame.position:
                self.close()
                self._file, self._image = frame.file, open_image(frame.file)
            for position in range(self._image.tell(), frame.position + 1):
                self._image.seek(position)
            return _upright_rgb(self._image)
        except VideoError:
            self.close()
            raise
        except Exception as error:  # Pillow raises many classes of errors on damaged data
            self.close()
            raise VideoError(frame.file, f"the image cannot be read ({error})") from error


def open_image(file: Path) -> ImageFile.ImageFile:
    """The image file, opened and not decoded. Raises `VideoError` for other files and for images too large."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()  # raise Pillow's own limit too
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:
        raise VideoError(file, f"its images are larger than {max_pixels()} pixels; scale them down") from None
    except Exception as error:  # Pillow raises many classes of errors on damaged data
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise VideoError(file, f"the image cannot be read ({reason})") from error
    try:
        check_size(file, *image.size)
    except VideoError:
        image.close()
        raise
    return image


def read_images(path: Path, choose: Choose, keep: Keep[Kept]) -> Reading[Kept]:
    """Read the chosen frames of an image file (all frames, if animated) or of a folder of images.

    A folder has 30 frames per second. Unreadable images are skipped with a warning.
    Raises `VideoError` where nothing can be read.
    """
    with ImageFrames(path) as images:
        frames, edges = images.frames, images.edges
        rate = Fraction(len(frames) / float(edges[-1] / TICKS)).limit_denominator(1001)
        readable, failure = np.arange(len(frames)), None
        while len(readable):
            kept = dict[int, Kept]()
            # Unreadable images keep their time, so that others do not move.
            last = int(edges[readable[-1] + 1])
            timeline = Timeline(edges[readable], last, Fraction(1, TICKS), rate, begin=0)
            indices = choose(timeline)
            lost = np.zeros(len(frames), dtype=np.bool_)
            for number in np.unique(readable[indices]).tolist():
                if lost[number]:
                    continue
                try:
                    image = images.rgb(number)
                except VideoError as error:
                    failure = error
                    # Frames of one file depend on each other.
                    lost[[n for n in range(number, len(frames)) if frames[n].file == frames[number].file]] = True
                else:
                    kept[number] = keep(image)
            if not lost.any():
                warning = None
                if failure is not None:
                    count = len(frames) - len(readable)
                    warning = f"{path.name}: {count} of {len(frames)} images cannot be read; the others are used"
                elif images.promised > len(frames):
                    warning = f"{path.name}: breaks off after {len(frames)} of {images.promised} frames"
                chosen = {place: kept[readable[place]] for place in np.unique(indices).tolist()}
                return Reading(chosen, indices, timeline, warning)
            readable = readable[~lost[readable]]
    raise failure or VideoError(path, "the folder contains no image")


def _folder_frames(folder: Path) -> list[ImageFrame]:
    images = folder_images(folder)
    if not images:
        raise VideoError(folder, "a folder without images; give a video file or a folder of images")
    return [ImageFrame(image, 0, float(1000 / FOLDER_RATE)) for image in images]


def _file_frames(file: Path) -> list[ImageFrame]:
    with open_image(file) as image:
        # The pages of a TIFF are not an animation.
        moving = getattr(image, "is_animated", False) and image.format != "TIFF"
        if not moving:
            durations, first = [0.0], 0
        elif image.format == "PNG":
            durations, first = _apng_durations(file)
            durations = durations[: image.n_frames - first]  # type: ignore[attr-defined]  # of animated images
        elif image.format == "WEBP":
            durations, first = _webp_durations(file), 0
        else:
            durations, first = _decoded_durations(file, image), 0
    if not durations:
        raise VideoError(file, "an animated image without a single frame")
    return [ImageFrame(file, first + n, ms or DEFAULT_MILLISECONDS) for n, ms in enumerate(durations)]


def _apng_durations(file: Path) -> tuple[list[float], int]:
    """Milliseconds of each frame, and how many images come before them: a default image that is not a frame, or none.

    Read from the `fcTL` chunks of the PNG specification, third edition; Pillow would have to decode to tell them.
    """
    durations, hidden = list[float](), 0
    for kind, content in _chunks(file, start=8, layout=">I4s", checksum=4):
        if kind == b"IDAT" and not durations:
            hidden = 1
        elif kind == b"fcTL" and len(content) == 26:
            numerator, denominator = struct.unpack_from(">HH", content, 20)
            durations.append(1000 * numerator / (denominator or 100))
    return durations, hidden


def _promised_frames(path: Path) -> int:
    """How many frames an animated PNG should have by its `acTL` chunk; 0 for other files."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return 0
    chunks = _chunks(path, start=8, layout=">I4s", checksum=4)
    return next((int.from_bytes(content[:4]) for kind, content in chunks if kind == b"acTL"), 0)


def _webp_durations(file: Path) -> list[float]:
    """Milliseconds of each frame, from the `ANMF` chunks of the WebP container specification."""
    chunks = _chunks(file, start=12, layout="<4sI")
    return [
        float(int.from_bytes(content[12:15], "little"))
        for kind, content in chunks
        if kind == b"ANMF" and len(content) > 16
    ]


def _chunks(file: Path, *, start: int, layout: str, checksum: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Kind and first 26 bytes of each chunk of a PNG or RIFF file, with headers in the struct format `layout`."""
    riff = layout.startswith("<")  # pads chunks to an even length
    end, size = file.stat().st_size, struct.calcsize(layout)
    with file.open("rb") as stream:
        while start + size <= end:
            stream.seek(start)
            fields = struct.unpack(layout, stream.read(size))
            kind, length = fields if riff else fields[::-1]
            yield kind, stream.read(min(length, 26))
            start += size + length + checksum + (length % 2 if riff else 0)


def _decoded_durations(file: Path, image: ImageFile.ImageFile) -> list[float]:
    durations = list[float]()
    try:
        for position in range(getattr(image, "n_frames", 1)):
            image.seek(position)
            image.load()
            durations.append(float(image.info.get("duration", 0)))
    except Exception as error:  # Pillow raises many classes of errors on damaged data
        if not durations:
            raise VideoError(file, f"the image cannot be read ({error})") from error
    return durations


def _upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit gray at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))
