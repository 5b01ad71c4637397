"""`froster predict`: videos and action names in, ranked actions out."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.errors import FrosterError, VideoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from froster.recognizer import Prediction


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class SamplingName(StrEnum):
    uniform = "uniform"
    release = "release"


def predict(
    videos: Annotated[
        list[str], typer.Argument(help="Videos, folders of them, globs; a folder of pictures is a video.")
    ],
    labels: Annotated[
        str | None, typer.Option(help='Action names, "a, b, c", or a vocabulary (see `froster classes`).')
    ] = None,
    labels_file: Annotated[
        str | None,
        typer.Option(help="Names one a line, or JSON, with descriptions if you like: {name: description}."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="vit-b-16 (also vit-b-32, vit-l-14, vit-l-14-336), puppets, or a checkpoint file."),
    ] = "auto",
    student: Annotated[
        str | None, typer.Option(help="The video network: frame_clip, vclip, vclip:window=2,boundary=masked.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to show for each video.")] = 5,
    views: Annotated[int, typer.Option(min=1, help="Clips taken from each video; their scores are averaged.")] = 3,
    frames: Annotated[int, typer.Option(min=1, help="Frames a clip.")] = 8,
    sampling: Annotated[
        SamplingName, typer.Option(help="release: take and prepare frames as the authors' code does.")
    ] = SamplingName.uniform,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines (the default in a pipe).")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: video, rank, label, score, similarity.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(help="Also draw frames and ranked labels into this file (.png, .svg, .pdf)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: bfloat16 where the machine has it.")] = Precision.auto,
) -> None:
    """Recognise the actions in videos, among any labels you give.

    Example: froster predict clip.mp4 --labels "juggling, brushing teeth, fencing"
    """
    if (labels is None) == (labels_file is None):
        raise FrosterError('Say which actions to look for: either --labels "a, b, c" or --labels-file FILE.')
    if as_json and as_csv:
        raise FrosterError("Choose one of --json and --csv.")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from froster.models import default_model, load_model
    from froster.picture import check_picture_path, save_picture
    from froster.recognizer import Recognizer
    from froster.text.labels import parse_labels, read_labels
    from froster.video import find_videos

    if picture is not None:
        check_picture_path(picture)
    wanted = read_labels(labels_file) if labels_file is not None else parse_labels(labels or "")
    messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    if model == "auto":
        model, why = default_model()
        messages.print(why)
    with messages.status(f"Loading {model} and reading {len(wanted)} labels"):
        recognizer = Recognizer(
            load_model(model, student),
            wanted,
            views=views,
            frames=frames,
            sampling=sampling.value,
            device=device,
            precision=precision.value,
        )

    paths: list[Path] = []
    failures: list[VideoError] = []
    for argument in videos:
        try:
            paths += find_videos([argument])
        except VideoError as error:
            failures.append(error)
    show = pick_output(as_json, as_csv)
    predictions: list[Prediction] = []
    for failure in failures:
        messages.print(f"error: {failure}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True, disable=len(paths) < 2) as bar:
        for video, result in bar.track(recognizer.predict_many(paths), total=len(paths), description="Recognising"):
            if isinstance(result, VideoError):
                failures.append(result)
                messages.print(f"error: {result}")
                if show is show_json:
                    print(json.dumps({"video": video, "error": str(result)}, ensure_ascii=False), flush=True)
                continue
            if result.warning:
                messages.print(f"warning: {result.warning}")
            show(result, top)
            predictions.append(result)
    if picture is not None and predictions:
        save_picture(predictions, picture, top)
        messages.print(f"See {picture}")
    if failures:
        if len(videos) > 1 or len(paths) > 1:
            messages.print(f"{len(failures)} of {len(failures) + len(predictions)} videos could not be used:")
            for failure in failures:
                messages.print(f"  {failure}")
        raise typer.Exit(1)


def pick_output(as_json: bool, as_csv: bool) -> "Callable[[Prediction, int], None]":
    if as_csv:
        csv.writer(sys.stdout).writerow(["video", "rank", "label", "score", "similarity"])
        return show_csv
    return show_json if as_json or not sys.stdout.isatty() else show_table


def show_json(prediction: "Prediction", top: int) -> None:
    """One line: the video, its best labels with scores, and the cosine similarity of each."""
    best = [
        {"label": name, "score": score, "similarity": prediction.similarities[name]}
        for name, score in prediction.ranked[:top]
    ]
    line = {"video": prediction.video, "predictions": best}
    if prediction.warning:
        line["warning"] = prediction.warning
    print(json.dumps(line, ensure_ascii=False), flush=True)


def show_csv(prediction: "Prediction", top: int) -> None:
    rows = csv.writer(sys.stdout)
    for rank, (name, score) in enumerate(prediction.ranked[:top], start=1):
        rows.writerow([prediction.video, rank, name, score, prediction.similarities[name]])
    sys.stdout.flush()


def show_table(prediction: "Prediction", top: int) -> None:
    from rich.console import Console

    from froster.cli.table import ranked_table

    Console(highlight=False).print(ranked_table(prediction, top))
