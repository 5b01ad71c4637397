"""Still pictures, animated pictures and folders of pictures, read with Pillow as if they were videos."""

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

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FOLDER_RATE = Fraction(30)  # a folder states no frame rate; 30 is the rate that the published recipe counts in
TICKS = 1_000_000  # a second
DEFAULT_MILLISECONDS = 100.0  # of a frame that states no duration, as browsers show it


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorting key that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def folder_pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder, in natural order; hidden files and pipes are not seen."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.name[0] != ".")
    return sorted((file for file in files if file.is_file() or is_dead_link(file)), key=natural_key)


@dataclass(frozen=True)
class PictureFrame:
    """A frame of a picture file: `position` as Pillow counts, how many `milliseconds` it is shown."""

    file: Path
    position: int
    milliseconds: float


class PictureSequence:
    """The frames of a folder of pictures or of a picture file; a context manager that closes the open file.

    `frames`: what there is, in order; `promised`: how many there should be; `edges` (N + 1,) int64: when each frame
    appears and the last one disappears, in microseconds. Asked for ascending numbers, an animated picture is decoded
    once. Raises `VideoError` where there is no picture.
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
            # Going back means decoding from the first frame again, which Pillow would do at any seek in a new file.
            if self._image is None or self._file != frame.file or self._image.tell() > frame.position:
                self.close()
                self._file, self._image = frame.file, open_picture(frame.file)
            for position in range(self._image.tell(), frame.position + 1):
                self._image.seek(position)
            return _upright_rgb(self._image)
        except VideoError:
            self.close()
            raise
        except Exception as error:  # Pillow's decoders raise errors of many classes on damaged data
            self.close()
            raise VideoError(frame.file, f"the picture cannot be read ({error})") from error


def open_picture(file: Path) -> ImageFile.ImageFile:
    """The picture file, opened and not decoded. Raises `VideoError` for other files and for pictures too large."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()  # Pillow has a limit of its own, which must not stay below a raised one
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:
        raise VideoError(file, f"its pictures are larger than {max_pixels()} pixels; scale them down") from None
    except Exception as error:  # Pillow's parsers raise errors of many classes on damaged data
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise VideoError(file, f"the picture cannot be read ({reason})") from error
    try:
        check_size(file, *image.size)
    except VideoError:
        image.close()
        raise
    return image


def read_pictures(path: Path, choose: Choose, keep: Keep[Kept]) -> Reading[Kept]:
    """Read the chosen frames of a picture file (all its frames, if it moves) or of a folder of pictures.

    A folder counts as 30 frames a second. Pictures that cannot be read are left out, with a warning.
    Raises `VideoError` where nothing can be read.
    """
    with PictureSequence(path) as pictures:
        frames, edges = pictures.frames, pictures.edges
        rate = Fraction(len(frames) / float(edges[-1] / TICKS)).limit_denominator(1001)
        readable, failure, kept = np.arange(len(frames)), None, dict[int, Kept]()
        while len(readable):
            # The times are those in the whole folder: a picture that cannot be read moves no other.
            last = int(edges[readable[-1] + 1])
            timeline = Timeline(edges[readable], last, Fraction(1, TICKS), rate, begin=0)
            indices = choose(timeline)
            lost = np.zeros(len(frames), dtype=np.bool_)
            for number in np.unique(readable[indices]).tolist():
                if number in kept or lost[number]:
                    continue
                try:
                    image = pictures.rgb(number)
                except VideoError as error:
                    failure = error
                    # The frames of one file build on each other.
                    lost[[n for n in range(number, len(frames)) if frames[n].file == frames[number].file]] = True
                else:
                    kept[number] = keep(image)
            if not lost.any():
                warning = None
                if failure is not None:
                    count = len(frames) - len(readable)
                    warning = f"{path.name}: {count} of {len(frames)} pictures cannot be read; the others are used"
                elif pictures.promised > len(frames):
                    warning = f"{path.name}: breaks off after {len(frames)} of {pictures.promised} frames"
                chosen = {place: kept[readable[place]] for place in np.unique(indices).tolist()}
                return Reading(chosen, indices, timeline, warning)
            readable = readable[~lost[readable]]
    raise failure or VideoError(path, "the folder holds no picture")


def _folder_frames(folder: Path) -> list[PictureFrame]:
    pictures = folder_pictures(folder)
    if not pictures:
        raise VideoError(folder, "a folder without pictures; give a video file or a folder of pictures")
    return [PictureFrame(picture, 0, float(1000 / FOLDER_RATE)) for picture in pictures]


def _file_frames(file: Path) -> list[PictureFrame]:
    with open_picture(file) as image:
        # The pages of a TIFF are no film.
        moving = getattr(image, "is_animated", False) and image.format != "TIFF"
        if not moving:
            durations, first = [0.0], 0
        elif image.format == "PNG":
            durations, first = _apng_durations(file)
            durations = durations[: image.n_frames - first]  # type: ignore[attr-defined]  # of moving pictures
        elif image.format == "WEBP":
            durations, first = _webp_durations(file), 0
        else:
            durations, first = _decoded_durations(file, image), 0
    if not durations:
        raise VideoError(file, "an animated picture without a single frame")
    return [PictureFrame(file, first + n, ms or DEFAULT_MILLISECONDS) for n, ms in enumerate(durations)]


def _apng_durations(file: Path) -> tuple[list[float], int]:
    """Milliseconds of each frame, and how many pictures come before them: a default image that is no frame, or none.

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
    """Kind and first 26 bytes of each chunk of a PNG or RIFF file, whose headers are packed as `layout` says."""
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
    except Exception as error:  # Pillow's decoders raise errors of many classes on damaged data
        if not durations:
            raise VideoError(file, f"the picture cannot be read ({error})") from error
    return durations


def _upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit gray at 255
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))
