"""`froster timeline`: when which action happens in a long video, a camera or a stream."""

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.interrupt import stop
from froster.cli.options import (
    DescriptionsOption,
    DeviceOption,
    FramesOption,
    LabelsFileOption,
    LabelsOption,
    ModelOption,
    Precision,
    PrecisionOption,
    StudentOption,
    TemplatesOption,
)
from froster.cli.terminal import Screen, echo, echo_json
from froster.cli.vocabularies import WHICH_ACTIONS, labels_of, tell_of_templates
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.recognizer import Recognizer
    from froster.timeline import Moment, Segment, Threshold


def timeline(
    video: Annotated[
        str,
        typer.Argument(
            help="A video, a folder of pictures, a camera (0, /dev/video0), a URL (rtsp://, http://), or -."
        ),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    descriptions: DescriptionsOption = None,
    templates: TemplatesOption = None,
    model: ModelOption = "auto",
    student: StudentOption = None,
    window: Annotated[float, typer.Option(help="Seconds that are looked at together.")] = 2.0,
    stride: Annotated[float, typer.Option(help="Seconds from window to window.")] = 1.0,
    frames: FramesOption = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(metavar="VIDEO", help="A video, or folder, that shows none of the actions; repeat for more."),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(help="Share of the negatives' windows that may be named all the same.")
    ] = 0.05,
    out: Annotated[
        Path | None,
        typer.Option(metavar="NAME", help="Writes NAME.png, NAME.csv, NAME.json. [default: VIDEO-timeline here]"),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Find out when which action happens: scores over time, and named segments.

    Example: froster timeline match.mp4 --labels "serving, running, falling down" --negatives breaks/
    """
    if labels is not None and labels_file is not None:
        raise FrosterError(WHICH_ACTIONS)

    from froster.models import default_model, load_model
    from froster.picture import check_picture_path
    from froster.recognizer import Recognizer
    from froster.text.descriptions import describe_labels
    from froster.text.prompts import read_templates
    from froster.timeline import USUAL_THRESHOLD
    from froster.timeline.files import clock, write_timeline
    from froster.video.stream import Sliding, is_stream, seconds_of

    wanted = labels_of(model, labels, labels_file)
    if descriptions is not None:
        wanted = describe_labels(wanted, descriptions)
    names = list(wanted)
    Sliding(window, stride, frames or 1)  # raises before anything is loaded
    out = out or Path("stream-timeline" if is_stream(video) else f"{Path(video).stem}-timeline")
    check_picture_path(out.with_name(f"{out.name}.png"))
    length = seconds_of(video)
    prompts = read_templates(templates) if templates is not None else None
    tell_of_templates(model, prompts)

    messages = Screen(stderr=True, soft_wrap=True)
    if model == "auto":
        model, why = default_model()
        messages.print(why)
    with messages.status(f"Loading {model} and reading {len(names)} labels"):
        recognizer = Recognizer(
            load_model(model, student, seed=0),
            wanted,
            templates=prompts,
            views=1,
            frames=frames,
            device=device,
            precision=precision.value,
        )
    threshold = USUAL_THRESHOLD
    if negatives:
        threshold = calibrate(recognizer, negatives, false_alarms, window, stride, messages)
    moments: list[Moment] = []
    segments: list[Segment] = []
    signal.signal(signal.SIGTERM, stop)
    interrupted, complete = 0, False
    try:
        watch(recognizer, video, length, window, stride, threshold, messages, moments, segments)
        complete = True
    except KeyboardInterrupt as interrupt:
        interrupted = interrupt.args[0] if interrupt.args else signal.SIGINT
    finally:
        if moments:
            files = write_timeline(out, video, moments, names, segments, threshold, complete)
            if not complete:
                messages.print(f"Stopped after {clock(moments[-1].end)}: what was done is written.")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if moments:
        if sys.stdout.isatty() and not is_stream(video):
            show_table(segments)
        messages.print(f"See {', '.join(map(str, files))}")
    if interrupted and not is_stream(video):
        raise typer.Exit(128 + interrupted)


def calibrate(
    recognizer: "Recognizer",
    negatives: list[str],
    false_alarms: float,
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
            false_alarms=false_alarms,
            window=window,
            stride=stride,
            done=done,
        )
    count = f"{len(read)} video{'s' * (len(read) > 1)}"
    messages.print(f"Named above a similarity of {threshold.value:.3f}, by {count} without the actions.")
    return threshold


def watch(
    recognizer: "Recognizer",
    video: str,
    length: float | None,
    window: float,
    stride: float,
    threshold: "Threshold",
    messages: "Screen",
    moments: "list[Moment]",
    segments: "list[Segment]",
) -> None:
    """Score the video into `moments` and `segments`, which an interrupt leaves filled; shows segments as they end."""
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
                echo_json(asdict(segment))
            elif live:
                echo(f"{clock(segment.start)}-{clock(segment.end)}  {segment.label}  {segment.score:.2f}")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[place]}"), TimeRemainingColumn())
    with Progress(
        *columns[:: 2 if live else 1], console=messages, transient=True, disable=not messages.is_terminal
    ) as bar:
        task = bar.add_task("Looking", total=length, place="00:00")
        try:
            for moment in score_timeline(recognizer, video, window=window, stride=stride):
                moments.append(moment)
                found(finder.add(moment))
                label = threshold.named(moment)
                now = "a gap" if moment.is_gap else "none of these" if label is None else names[label]
                bar.update(
                    task,
                    completed=moment.end,
                    place=f"{clock(moment.end)}  {now}" if live else clock(moment.end),
                )
        finally:
            found(finder.finish())


def show_table(segments: "list[Segment]") -> None:
    from rich.table import Table
    from rich.text import Text

    from froster.timeline.files import clock

    if not segments:
        echo("None of these: nothing stands out.")
        return
    table = Table("start", "end", "label", box=None, pad_edge=False)
    table.add_column("score", justify="right")
    for segment in segments:
        start, end = clock(segment.start, tenths=True), clock(segment.end, tenths=True)
        table.add_row(start, end, Text(segment.label), f"{100 * segment.score:.1f} %")
    Screen().print(table)
