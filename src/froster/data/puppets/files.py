"""Write puppets as files: H.264 videos with a manifest, and a contact sheet."""

import textwrap
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from froster.data.manifests import LabeledVideo, write_manifest
from froster.data.puppets.actions import ACTIONS, action_index
from froster.data.puppets.render import draw_photo, draw_video
from froster.data.puppets.scenes import DomainGap, find_gap
from froster.errors import FrosterError
from froster.files import replace_when_written

# mbtree off: its vector code is not deterministic (x264 in PyAV 18).
_X264 = {"crf": "18", "preset": "veryfast", "mbtree": "0"}


def write_videos(
    out: Path,
    actions: Sequence[str] = ACTIONS,
    videos: int = 4,
    frames: int = 32,
    fps: int = 16,
    size: int = 128,
    gap: str | DomainGap = "default",
    seed: int = 0,
    on_written: Callable[[Path], None] | None = None,
) -> Path:
    """Write H.264 files OUT/<action-with-dashes>/<seed>.mp4 and OUT/manifest.csv; return the manifest's path.

    There are `videos` per action, with the seeds `seed`, `seed + 1`, ...; the manifest has the columns path
    (relative to OUT) and label. `on_written` is called with every finished file. Raises `FrosterError` for an
    unknown action or gap and for an odd `size`.
    """
    gap = find_gap(gap)
    if size % 2:
        raise FrosterError(f"Videos are stored as yuv420p, which needs an even size; {size} is odd.")
    rows = []
    for name in actions:
        index = action_index(name)
        folder = out / name.replace(" ", "-")
        for number in range(seed, seed + videos):
            path = folder / f"{number}.mp4"
            write_mp4(path, draw_video(number, index, frames, size, gap), fps)
            rows.append(LabeledVideo(path, name))
            if on_written is not None:
                on_written(path)
    manifest = out / "manifest.csv"
    write_manifest(manifest, rows)
    return manifest


def write_mp4(path: Path, video: NDArray[np.uint8], fps: int) -> None:
    """Write a (T, H, W, 3) uint8 RGB video as H.264 in yuv420p; H and W are even."""

    with replace_when_written(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=_X264)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the bytes must not depend on the machine's number of cores
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def contact_sheet(
    path: Path,
    actions: Sequence[str] = ACTIONS,
    gap: str | DomainGap = "default",
    seed: int = 0,
    columns: int = 2,
) -> None:
    """Write a PNG with one row per action: its name, four photos, six frames of a video."""
    size, label, gutter = 112, 168, 4
    width, height = label + 10 * (size + gutter) + 12, size + gutter
    rows = -(-len(actions) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for position, name in enumerate(actions):
        index = action_index(name)
        x, y = position // rows * width, position % rows * height
        draw.multiline_text((x + 6, y + 20), "\n".join(textwrap.wrap(name, 16)), font=font, fill=(20, 20, 20))
        images = [draw_photo(seed + i, index, size).pixels for i in range(4)]
        images += list(draw_video(seed, index, 16, size, gap)[::3])
        for i, image in enumerate(images):
            left = x + label + i * (size + gutter) + (8 if i >= 4 else 0)
            sheet.paste(Image.fromarray(image), (left, y))
    with replace_when_written(path) as temporary:
        sheet.save(temporary, format="PNG")
