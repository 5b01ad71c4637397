"""Still pictures, animated pictures and folders of pictures, read with Pillow as if they were videos."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from froster.errors import VideoError
from froster.video.timeline import Choose, Keep, Kept, Reading, Timeline

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FOLDER_RATE = Fraction(30)  # a folder states no frame rate; 30 is the rate that the published recipe counts in
TICKS = 1_000_000  # a second


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorting key that puts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def folder_pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder, in natural order; hidden files are not seen."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.name[0] != ".")
    return sorted(files, key=natural_key)


def read_pictures(path: Path, choose: Choose, keep: Keep[Kept]) -> Reading[Kept]:
    """Read the chosen frames of a picture file (all its frames, if it moves) or of a folder of pictures.

    A folder counts as 30 frames a second. Pictures that cannot be read are left out, with a warning.
    Raises `VideoError` where nothing can be read.
    """
    frames = _folder_frames(path) if path.is_dir() else _file_frames(path)
    seconds = np.cumsum([0.0, *(milliseconds / 1000 for _, _, milliseconds in frames)])
    edges = np.round(seconds * TICKS).astype(np.int64)
    rate = Fraction(len(frames) / float(seconds[-1])).limit_denominator(1001)
    readable, warning, kept = np.arange(len(frames)), None, dict[int, Kept]()
    while len(readable):
        # The times are those in the whole folder: a picture that cannot be read moves no other.
        last = int(edges[readable[-1] + 1])
        timeline = Timeline(edges[readable], last, Fraction(1, TICKS), rate, begin=0)
        indices = choose(timeline)
        unreadable = list[int]()
        for number in np.unique(readable[indices]).tolist():
            file, position, _ = frames[number]
            if number not in kept:
                try:
                    kept[number] = keep(_rgb(file, position))
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                    unreadable.append(number)
                    warning = f"{path}: {file.name} cannot be read ({error})"
        if not unreadable:
            if warning is not None:
                lost = len(frames) - len(readable)
                warning = f"{path.name}: {lost} of {len(frames)} pictures cannot be read; the others are used"
            chosen = {place: kept[readable[place]] for place in np.unique(indices).tolist()}
            return Reading(chosen, indices, timeline, warning)
        readable = np.setdiff1d(readable, unreadable)
    raise VideoError(warning or f"{path}: the folder holds no picture.")


def _folder_frames(folder: Path) -> list[tuple[Path, int, float]]:
    pictures = folder_pictures(folder)
    if not pictures:
        raise VideoError(f"{folder}: a folder without pictures; give a video file or a folder of pictures.")
    return [(picture, 0, float(1000 / FOLDER_RATE)) for picture in pictures]


def _file_frames(file: Path) -> list[tuple[Path, int, float]]:
    """Every frame of a picture file with the milliseconds it is shown."""
    frames = []
    try:
        with Image.open(file) as image:
            # The pages of a TIFF are no film.
            moving = getattr(image, "is_animated", False) and image.format != "TIFF"
            for position in range(getattr(image, "n_frames", 1) if moving else 1):
                image.seek(position)
                image.load()
                frames.append((file, position, float(image.info.get("duration", 0)) or 100.0))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if not frames:
            raise VideoError(f"{file}: not a picture that can be read ({error}).") from error
    return frames


def _rgb(file: Path, position: int) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8, upright by its EXIF tag; transparency is dropped, as in CLIP's preprocessing."""
    with Image.open(file) as image:
        image.seek(position)
        if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey at 255
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
