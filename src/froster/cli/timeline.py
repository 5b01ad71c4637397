"""`froster timeline`: localize actions in time in a long video, a camera or a stream."""

import math
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.interrupt import stop
from froster.cli.options import (
    BackboneOption,
    DescriptionsOption,
    DeviceOption,
    FramesOption,
    LabelsFileOption,
    LabelsOption,
    ModelOption,
    Precision,
    PrecisionOption,
    RawCsvOption,
    StudentOption,
    TemplatesOption,
    read_backbone,
)
from froster.cli.terminal import Screen, echo, echo_json
from froster.cli.vocabularies import WHICH_ACTIONS, announce_templates, labels_of
from froster.errors import FrosterError, VideoError

if TYPE_CHECKING:
    from froster.recognizer import Recognizer
    from froster.timeline import Segment, Threshold, WindowScores


def timeline(
    videos: Annotated[
        list[str],
        typer.Argument(help="Videos, folders of them, globs, cameras (0, /dev/video0), URLs (rtsp://, http://), or -."),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    descriptions: DescriptionsOption = None,
    templates: TemplatesOption = None,
    model: ModelOption = "auto",
    student: StudentOption = None,
    backbone: BackboneOption = None,
    window: Annotated[float, typer.Option(help="Window length in seconds.")] = 2.0,
    stride: Annotated[float, typer.Option(help="Seconds between the starts of consecutive windows.")] = 1.0,
    frames: FramesOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Minimum similarity of the best label of a window; below it: none of these."),
    ] = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(metavar="VIDEO", help="A video or folder that shows none of the actions; repeat for more."),
    ] = None,
    false_positive_rate: Annotated[
        float, typer.Option(help="Target false positive rate on the windows of the negatives.")
    ] = 0.05,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="NAME",
            help="Write NAME.png, NAME.csv, NAME.json; for several videos, a folder for them. "
            "[default: VIDEO-timeline here]",
        ),
    ] = None,
    raw_csv: RawCsvOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Localize actions in time: scores over time, and labeled segments.

    Example: froster timeline match.mp4 --labels "serving, running, falling down" --negatives breaks/
    """
    if labels is not None and labels_file is not None:
        raise FrosterError(WHICH_ACTIONS)
    if threshold is not None and negatives:
        raise FrosterError("Choose one of --threshold and --negatives.")
    if threshold is not None and not math.isfinite(threshold):
        raise FrosterError(f"--threshold must be a finite cosine similarity, not {threshold}.")

    from froster.models import default_model
    from froster.picture import check_picture_path
    from froster.recognizer import Recognizer
    from froster.text.descriptions import describe_labels
    from froster.text.prompts import read_templates
    from froster.timeline import DEFAULT_THRESHOLD, Threshold
    from froster.video.stream import SlidingWindows, seconds_of

    wanted = labels_of(model, labels, labels_file)
    if descriptions is not None:
        wanted = describe_labels(wanted, descriptions)
    names = list(wanted)
    SlidingWindows(window, stride, frames or 1)  # raises before anything is loaded
    sources, failures = find_sources(videos)
    several = len(sources) + len(failures) > 1
    if not several:
        for error in failures.values():
            raise error
    outs = outputs_of(sources, out, several)
    for name in outs:
        check_picture_path(name.with_name(f"{name.name}.png"))
    if not several:
        seconds_of(sources[0])  # raises before anything is loaded
    prompts = read_templates(templates) if templates is not None else None
    announce_templates(model, templates)

    messages = Screen(stderr=True, soft_wrap=True)

    def fail(video: str, error: VideoError) -> None:
        failures[video] = error
        messages.print(f"error: {error}")
        if not sys.stdout.isatty():
            echo_json({"video": video, "error": str(error)})

    for video, missing in list(failures.items()):
        fail(video, missing)
    if sources:
        if model == "auto":
            model, why = default_model()
            messages.print(why)
        with messages.status(f"Loading {model} and encoding {len(names)} labels"):
            recognizer = Recognizer(
                model,
                wanted,
                student=student,
                backbone=read_backbone(backbone),
                templates=prompts,
                views=1,
                frames=frames,
                device=device,
                precision=precision.value,
            )
        limit = DEFAULT_THRESHOLD if threshold is None else Threshold(threshold, "similarity")
        if negatives:
            limit = calibrate(recognizer, negatives, false_positive_rate, window, stride, messages)
        for video, name in zip(sources, outs, strict=True):
            try:
                score_and_write(recognizer, video, name, window, stride, limit, messages, several, raw_csv)
            except VideoError as error:
                if not several:
                    raise
                fail(video, error)
    if failures:
        messages.print(f"{len(failures)} of {len(failures.keys() | set(sources))} videos could not be used:")
        for failure in failures.values():
            messages.print(f"  {failure}")
        raise typer.Exit(1)


def find_sources(names: list[str]) -> tuple[list[str], dict[str, VideoError]]:
    """The streams and videos of the arguments, without duplicates, and the arguments that match none."""
    from froster.video import find_videos
    from froster.video.stream import is_stream

    sources: dict[str, None] = {}
    failures: dict[str, VideoError] = {}
    for name in names:
        try:
            sources |= dict.fromkeys([name] if is_stream(name) else map(str, find_videos([name])))
        except VideoError as error:
            failures[name] = error
    return list(sources), failures


def outputs_of(sources: list[str], out: Path | None, several: bool) -> list[Path]:
    """The path of each source's output files without suffix; numbered if two sources have the same name."""
    from froster.video.stream import is_stream

    if out is not None and not several:
        return [out]
    outs: dict[Path, None] = {}
    for source in sources:
        name, number = "stream" if is_stream(source) else Path(source).stem, 1
        while (found := (out or Path()) / f"{name}{f'-{number}' * (number > 1)}-timeline") in outs:
            number += 1
        outs[found] = None
    return list(outs)


def score_and_write(
    recognizer: "Recognizer",
    video: str,
    out: Path,
    window: float,
    stride: float,
    threshold: "Threshold",
    messages: "Screen",
    several: bool,
    raw_csv: bool,
) -> None:
    """Score one video, show its segments and write its files, even if it is interrupted or fails midway."""
    from froster.timeline.files import clock, write_timeline
    from froster.video.stream import is_stream, seconds_of

    windows: list[WindowScores] = []
    segments: list[Segment] = []
    signal.signal(signal.SIGTERM, stop)
    interrupted, complete = 0, False
    try:
        length = seconds_of(video)
        shown_as = video if several else None
        watch(recognizer, video, length, window, stride, threshold, messages, windows, segments, shown_as)
        complete = True
    except KeyboardInterrupt as interrupt:
        interrupted = interrupt.args[0] if interrupt.args else signal.SIGINT
    finally:
        if windows:
            names = list(recognizer.labels)
            files = write_timeline(out, video, windows, names, segments, threshold, complete, raw_csv)
            if not complete:
                messages.print(f"Stopped after {clock(windows[-1].end)}: the results so far are saved.")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if windows:
        if sys.stdout.isatty() and not is_stream(video):
            if several:
                echo(video)
            show_table(segments)
        messages.print(f"See {', '.join(map(str, files))}")
    if interrupted and (several or not is_stream(video)):
        raise typer.Exit(128 + interrupted)


def calibrate(
    recognizer: "Recognizer",
    negatives: list[str],
    false_positive_rate: float,
    window: float,
    stride: float,
    messages: "Screen",
) -> "Threshold":
    from rich.progress import Progress

    from froster.timeline import calibrate_threshold
    from froster.video import find_videos

    videos = find_videos(negatives)
    read = list[str | Path]()

    def done(video: str | Path) -> None:
        read.append(video)
        bar.advance(task)

    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("Calibrating", total=len(videos))
        threshold = calibrate_threshold(
            recognizer,
            videos,
            false_positive_rate=false_positive_rate,
            window=window,
            stride=stride,
            done=done,
        )
    count = f"{len(read)} video{'s' * (len(read) > 1)}"
    messages.print(f"Similarity threshold {threshold.value:.3f}, from {count} without the actions.")
    return threshold


def watch(
    recognizer: "Recognizer",
    video: str,
    length: float | None,
    window: float,
    stride: float,
    threshold: "Threshold",
    messages: "Screen",
    windows: "list[WindowScores]",
    segments: "list[Segment]",
    shown_as: str | None,
) -> None:
    """Append to `windows` and `segments` (which survive an interrupt) and show segments as they end.

    `shown_as`: the video's name in the JSON of each segment, None to leave it out.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from froster.timeline import SegmentFinder, score_timeline
    from froster.timeline.files import clock
    from froster.video.stream import is_stream

    live = is_stream(video)
    finder = SegmentFinder(recognizer.labels, threshold)
    names = finder.labels

    def found(new: "list[Segment]") -> None:
        segments.extend(new)
        for segment in new:
            if not sys.stdout.isatty():
                echo_json(({} if shown_as is None else {"video": shown_as}) | asdict(segment))
            elif live:
                echo(f"{clock(segment.start)}-{clock(segment.end)}  {segment.label}  {segment.score:.2f}")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[place]}"), TimeRemainingColumn())
    with Progress(
        *columns[:: 2 if live else 1], console=messages, transient=True, disable=not messages.is_terminal
    ) as bar:
        task = bar.add_task("Scoring", total=length, place="00:00")
        try:
            for scores in score_timeline(recognizer, video, window=window, stride=stride):
                windows.append(scores)
                found(finder.add(scores))
                label = threshold.predict_label(scores)
                now = "a gap" if scores.is_gap else "none of these" if label is None else names[label]
                bar.update(
                    task,
                    completed=scores.end,
                    place=f"{clock(scores.end)}  {now}" if live else clock(scores.end),
                )
        finally:
            found(finder.finish())


def show_table(segments: "list[Segment]") -> None:
    from rich.table import Table
    from rich.text import Text

    from froster.timeline.files import clock

    if not segments:
        echo("None of these: no label exceeds the threshold.")
        return
    table = Table("start", "end", "label", box=None, pad_edge=False)
    table.add_column("score", justify="right")
    for segment in segments:
        start, end = clock(segment.start, tenths=True), clock(segment.end, tenths=True)
        table.add_row(start, end, Text(segment.label), f"{100 * segment.score:.1f} %")
    Screen().print(table)
