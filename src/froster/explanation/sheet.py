"""Write an explanation as an image and as an animation."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from froster.data.puppets.files import write_mp4
from froster.explanation.overlay import color_map, overlay
from froster.explanation.video import Explanation, maps_between
from froster.extras import extra
from froster.files import replace_when_written
from froster.text.distance import font_families

with extra("cli", "Drawing an explanation"):
    from matplotlib.font_manager import FontProperties, findfont, get_font

KINDS = {
    "attention": "attention of the class tokens in the last layer",
    "rollout": "attention followed through all layers",
    "gradient": "what speaks for the label: attention weighted by gradient",
}
INK, GRAY, PAPER = (34, 34, 34), (118, 118, 118), (255, 255, 255)
GIF_WIDTH = 960  # pixels at most


def save_explanation(explanation: Explanation, path: Path, animation: bool = True) -> list[Path]:
    """Write the image, and with `animation` also `.mp4` and `.gif`; all of them or none.

    Returns the files. Raises `OSError` when they cannot be written.
    """
    paths = [path, path.with_suffix(".mp4"), path.with_suffix(".gif")] if animation else [path]
    with ExitStack() as stack:
        picture, *films = [stack.enter_context(replace_when_written(file)) for file in paths]
        draw_sheet(explanation).save(picture, format="PNG")
        if films:
            film = np.stack([np.asarray(frame) for frame in draw_film(explanation)])
            write_mp4(films[0], film, explanation.rate)
            write_gif(films[1], film, explanation.rate)
    return paths


def draw_sheet(explanation: Explanation) -> Image.Image:
    """The frames in a row, and below them a row of heat maps for each model."""
    clip, looks = explanation.clip, explanation.looks
    side = clip.frames.shape[1]
    unit = side / 160  # for all other lengths
    margin, gap, names = round(18 * unit), round(4 * unit), round(112 * unit)
    head = round(68 * unit)
    width = 2 * margin + names + len(clip.frames) * (side + gap) - gap
    height = head + (1 + len(looks)) * (side + gap) - gap + margin
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    legend = draw_legend(sheet, width - margin, round(14 * unit), unit)
    put_text(draw, (margin, round(12 * unit)), explanation.label, 15 * unit, True, legend - 2 * margin)
    put_text(draw, (margin, round(33 * unit)), KINDS[explanation.kind], 9 * unit, False, names + side * 4, GRAY)
    rows = [("video", "", clip.frames)]
    rows += [(look.model, look.score, overlay(clip.frames, look.maps)) for look in looks]
    for row, (name, score, pictures) in enumerate(rows):
        top = head + row * (side + gap)
        put_text(draw, (margin, top + round(62 * unit)), name, 11 * unit, True, names - margin // 2)
        put_text(draw, (margin, top + round(79 * unit)), score, 11 * unit, False, names - margin // 2, GRAY)
        for column, picture in enumerate(pictures):
            left = margin + names + column * (side + gap)
            sheet.paste(Image.fromarray(picture), (left, top))
            if row == 0:
                time = f"{clip.times[column]:.1f} s"
                put_text(draw, (left, top - round(13 * unit)), time, 8 * unit, False, side, GRAY)
    return sheet


def draw_film(explanation: Explanation) -> Iterator[Image.Image]:
    """The video next to each model's maps, frame by frame; maps are interpolated linearly between the clip's frames."""
    film = explanation.film
    side = film.frames.shape[1]
    unit = side / 160
    margin, gap, head = round(10 * unit), round(5 * unit), round(60 * unit)
    panels = [film.frames]
    panels += [overlay(film.frames, maps_between(look, explanation.clip, film.times)) for look in explanation.looks]
    width = 2 * margin + len(panels) * (side + gap) - gap
    ground = Image.new("RGB", (width + width % 2, (head + side + margin) // 2 * 2), PAPER)
    draw = ImageDraw.Draw(ground)
    put_text(draw, (margin, round(7 * unit)), explanation.label, 12 * unit, True, width - 2 * margin)
    for place, (name, score) in enumerate([("video", ""), *((look.model, look.score) for look in explanation.looks)]):
        left = margin + place * (side + gap)
        put_text(draw, (left, round(29 * unit)), name, 9.5 * unit, True, side)
        put_text(draw, (left, round(43 * unit)), score, 9.5 * unit, False, side, GRAY)
    for pictures in zip(*panels, strict=True):
        frame = ground.copy()
        for place, picture in enumerate(pictures):
            frame.paste(Image.fromarray(picture), (margin + place * (side + gap), head))
        yield frame


def write_gif(path: Path, film: NDArray[np.uint8], rate: int) -> None:
    """Write `(N, H, W, 3)` uint8 RGB as an endless GIF, at most `GIF_WIDTH` pixels wide."""
    height, width = film.shape[1:3]
    size = (min(width, GIF_WIDTH), round(height * min(width, GIF_WIDTH) / width))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in film]
    # One palette for all frames: with one for each, still parts would flicker.
    together = Image.fromarray(np.concatenate([np.asarray(p) for p in pictures[:: max(1, len(pictures) // 8)]]))
    palette = together.quantize(256, Image.Quantize.FASTOCTREE)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 / rate), loop=0, optimize=False
    )


def draw_legend(sheet: Image.Image, right: int, top: int, unit: float) -> int:
    """The color scale, ending at `right`; returns its left edge."""
    draw = ImageDraw.Draw(sheet)
    width, height = round(90 * unit), round(8 * unit)
    much, little = (text_length(word, font_files(word, False), 8 * unit) for word in ("much", "little"))
    bar = right - round(much + 5 * unit) - width
    colors = np.rint(255 * color_map()(np.linspace(0, 1, width))[:, :3]).astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(colors[None], height, axis=0)), (bar, top))
    begin = bar - round(little + 5 * unit)
    put_text(draw, (begin, top - round(unit)), "little", 8 * unit, False, right, GRAY)
    put_text(draw, (bar + width + round(5 * unit), top - round(unit)), "much", 8 * unit, False, right, GRAY)
    return begin


def put_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: float,
    bold: bool,
    room: float,
    color: tuple[int, int, int] = INK,
) -> None:
    """Write one line from its upper left corner, shortened to `room` pixels."""
    files = font_files(text, bold)
    if text_length(text, files, size) > room:
        while text and text_length(f"{text}…", files, size) > room:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    left, baseline = float(place[0]), place[1] + font(files[0], size).getmetrics()[0]
    for stretch, file in stretches(text, files):
        draw.text((left, baseline), stretch, fill=color, font=font(file, size), anchor="ls")
        left += font(file, size).getlength(stretch)


def text_length(text: str, files: Sequence[str], size: float) -> float:
    """Width of a line, in pixels."""
    return sum(font(file, size).getlength(stretch) for stretch, file in stretches(text, files))


def stretches(text: str, files: Sequence[str]) -> list[tuple[str, str]]:
    """Split the text into parts, each with the first font file that has its characters (the first file if none has)."""

    def file_of(letter: str) -> str:
        return next((file for file in files if ord(letter) in letters_of(file)), files[0])

    return [("".join(letters), file) for file, letters in groupby(text, file_of)]


@cache
def font_files(text: str, bold: bool) -> tuple[str, ...]:
    """Matplotlib's default font, then others for the characters that it lacks.

    Warns of letters that no font has.
    """
    families = font_families(text)
    # A bold face may have fewer characters than the regular one.
    weights = ("bold", "normal") if bold else ("normal",)
    files = [findfont(FontProperties(family=family, weight=weight)) for weight in weights for family in families]
    return tuple(dict.fromkeys(files))


@cache
def letters_of(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


@cache
def font(file: str, size: float) -> ImageFont.FreeTypeFont:
    # matplotlib's names of collections say which of their faces is meant, since its version 3.11.
    return ImageFont.truetype(file, size, index=getattr(file, "face_index", 0))
