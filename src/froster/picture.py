"""Plot predictions: frames of each video next to its ranked labels."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from froster.errors import FrosterError
from froster.extras import extra
from froster.files import printable_name, replace_when_written
from froster.recognizer import Prediction
from froster.video import decode_frames
from froster.video.sampling import uniform_indices

with extra("cli", "Plotting"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".jpg", ".svg", ".pdf")
MAX_FRAMES = 4
MAX_VIDEOS = 200  # an image has at most 65,536 rows of pixels
BEST, OTHERS = "#1b9e5a", "#9db4c8"


def check_picture_path(path: Path) -> None:
    """Raises `FrosterError` if no image can be written to `path`, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise FrosterError(f"Cannot write an image to {path}: the suffix must be one of {', '.join(SUFFIXES)}.")
    try:
        with replace_when_written(path.with_name(f"{path.name}.try")) as temporary:
            temporary.touch()
    except OSError as error:
        raise FrosterError(f"Cannot write an image to {path}: {error.strerror}.") from error
    path.with_name(f"{path.name}.try").unlink(missing_ok=True)


def save_picture(
    predictions: Sequence[Prediction],
    path: Path,
    top: int = 5,
    title: str = "",
    names: Sequence[str] | None = None,
) -> None:
    """Write an image with one row per video (at most 200): four frames, and bars for its best labels.

    The suffix of `path`, one of `SUFFIXES`, sets the format. `names`: what the videos are called, by default their
    paths; a path or URL is shown with its last two parts.
    """
    names = names or [prediction.video for prediction in predictions]
    predictions = predictions[:MAX_VIDEOS]
    inches = max(1.75, 0.3 * top) * len(predictions) + (0.55 if title else 0.1)
    figure = Figure(figsize=(11.5, inches), dpi=110, facecolor="white", layout="constrained")
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    rows = figure.subplots(len(predictions), MAX_FRAMES + 1, squeeze=False, width_ratios=[1] * MAX_FRAMES + [3.2])
    for prediction, name, axes in zip(predictions, names, rows, strict=False):
        for axis, frame in zip(axes, frames_to_show(prediction.video), strict=False):
            axis.imshow(frame, interpolation="lanczos")
            axis.set_axis_off()
        axes[0].set_title(
            printable_name("/".join(Path(name.partition("?")[0] if "://" in name else name).parts[-2:])),
            fontsize=9,
            loc="left",
            fontweight="bold",
            parse_math=False,
        )
        draw_bars(axes[-1], prediction, top)
    with replace_when_written(path) as temporary:
        figure.savefig(temporary)


def frames_to_show(video: str) -> NDArray[np.uint8]:
    """Evenly spaced frames: `(MAX_FRAMES, H, W, 3)` uint8."""
    return decode_frames(
        video,
        lambda timeline: uniform_indices(timeline.times, timeline.duration, frames=MAX_FRAMES, views=1),
    ).frames


def draw_bars(axis: Axes, prediction: Prediction, top: int) -> None:
    """Horizontal bars of the best labels, with the names inside the plot so that long ones fit."""
    best = prediction.ranked[:top]
    for row, (name, score) in enumerate(best):
        axis.barh(row, score, height=0.78, color=BEST if name in prediction.labels else OTHERS)
        weight = "bold" if name in prediction.labels else "normal"
        axis.text(
            0.012,
            row,
            textwrap.shorten(name, 52, placeholder=" …"),
            va="center",
            fontsize=9,
            fontweight=weight,
            parse_math=False,
        )
        axis.text(1.01, row, f"{100 * score:.1f} %", va="center", fontsize=9, fontweight=weight)
    axis.set(xlim=(0, 1.12), ylim=(max(len(best), 3) - 0.5, -0.5), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
