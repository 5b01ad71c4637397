"""`froster predict`: videos and action names in, ranked actions out."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from froster.cli.options import (
    BackboneOption,
    DescriptionsOption,
    DeviceOption,
    EnsembleOption,
    FramesOption,
    LabelsFileOption,
    LabelsOption,
    ModelOption,
    Precision,
    PrecisionOption,
    RawCsvOption,
    SamplingOption,
    StudentOption,
    TemplatesOption,
    ViewsOption,
    read_backbone,
)
from froster.cli.terminal import Screen, echo_csv, echo_json
from froster.cli.vocabularies import WHICH_ACTIONS, announce_templates, labels_of
from froster.errors import FrosterError, VideoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from froster.recognizer import Prediction


def predict(
    videos: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of them, globs, http(s) URLs, or - (standard input); a folder of images is a video."
        ),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    descriptions: DescriptionsOption = None,
    templates: TemplatesOption = None,
    model: ModelOption = "auto",
    student: StudentOption = None,
    backbone: BackboneOption = None,
    ensemble: EnsembleOption = None,
    top: Annotated[int, typer.Option(min=1, help="Number of labels to show per video.")] = 5,
    views: ViewsOption = None,
    frames: FramesOption = None,
    sampling: SamplingOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Minimum similarity of the best label; below, the answer is none of these."),
    ] = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(metavar="VIDEO", help="A video or folder that shows none of the actions; repeat for more."),
    ] = None,
    false_positive_rate: Annotated[float, typer.Option(help="Target false positive rate on the negatives.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines (the default in a pipe).")] = False,
    as_csv: Annotated[
        bool,
        typer.Option("--csv", help="CSV: video, rank, label, score, similarity, and the threshold, if any."),
    ] = False,
    raw_csv: RawCsvOption = False,
    picture: Annotated[
        Path | None,
        typer.Option(help="Also plot frames and ranked labels into this file (.png, .svg, .pdf)."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Recognize the actions in videos, among any labels.

    Example: froster predict clip.mp4 --labels "juggling, brushing teeth, fencing"
    """
    if labels is not None and labels_file is not None:
        raise FrosterError(WHICH_ACTIONS)
    if as_json and as_csv:
        raise FrosterError("Choose one of --json and --csv.")
    if threshold is not None and negatives:
        raise FrosterError("Choose one of --threshold and --negatives.")

    from froster.cli.progress import progress_bar
    from froster.inference import Ensemble
    from froster.models import default_model
    from froster.recognizer import Recognizer
    from froster.text.descriptions import describe_labels
    from froster.text.prompts import read_templates

    if picture is not None:
        from froster.picture import check_picture_path, save_picture

        check_picture_path(picture)
    wanted = labels_of(model, labels, labels_file)
    if descriptions is not None:
        wanted = describe_labels(wanted, descriptions)
    prompts = read_templates(templates) if templates is not None else None

    as_table = sys.stdout.isatty() and not as_json and not as_csv
    errors = Screen(stderr=True, soft_wrap=True)
    # In a terminal, results, messages and the bar share one screen; otherwise standard output has only results.
    screen = Screen(soft_wrap=True) if as_table else errors
    messages = screen if errors.is_terminal else errors
    show: Callable[[Prediction], None]
    if as_table:
        show = partial(show_table, top=top, screen=screen)
    elif as_csv:
        header = ["video", "rank", "label", "score", "similarity"]
        echo_csv(header + ["threshold"] * (threshold is not None or bool(negatives)))
        show = partial(show_csv, top=top, raw=raw_csv)
    else:
        show = partial(show_json, top=top)

    with ExitStack() as temporary:
        sources, failures = find_all(videos, temporary)

        def fail(video: str, error: VideoError) -> None:
            failures[video] = error
            messages.print(f"error: {error}")
            if not as_table and not as_csv:
                show_json_error(video, error)

        if labels is None and labels_file is None:
            messages.print(f"Using the {len(wanted)} label{'s' * (len(wanted) > 1)} the model was trained on.")
        announce_templates(model, templates)
        for name, missing in list(failures.items()):
            fail(name, missing)
        predictions: list[Prediction] = []
        if sources:
            if model == "auto":
                model, why = default_model()
                messages.print(why)
            with screen.status(f"Loading {model} and encoding {len(wanted)} labels"):
                recognizer = Recognizer(
                    model,
                    wanted,
                    student=student,
                    backbone=read_backbone(backbone),
                    templates=prompts,
                    views=views,
                    frames=frames,
                    sampling=None if sampling is None else sampling.value,
                    device=device,
                    precision=precision.value,
                    ensemble=Ensemble.parse(ensemble) if ensemble else None,
                )
            network, numbers = recognizer.model.name, recognizer.runtime.precision
            how = f"{recognizer.clip_sampling.views} x {recognizer.clip_sampling.frames} frames"
            how += f" ({recognizer.clip_sampling.sampling} sampling)" * (recognizer.clip_sampling.sampling != "uniform")
            messages.print(f"{network} on {model}, {how}, {numbers} on {recognizer.device}")
            if negatives:
                from froster.video import find_videos

                negative_videos = find_videos(negatives)
                with screen.status(f"Calibrating on {len(negative_videos)} negatives"):
                    threshold = recognizer.calibrate_threshold(negative_videos, false_positive_rate=false_positive_rate)
                messages.print(f"Similarity threshold {threshold:.3f}.")
            with progress_bar(screen, hide=len(sources) < 2) as bar:
                results = recognizer.predict_many(sources, threshold=threshold)
                for path, result in bar.track(results, len(sources), description="Recognizing"):
                    video = sources[Path(path)]
                    if isinstance(result, VideoError):
                        fail(video, VideoError(video, result.reason) if result.path == path else result)
                        continue
                    if result.warning:
                        messages.print(f"warning: {result.warning}")
                    show(replace(result, video=video))
                    predictions.append(result)
        if picture is not None and predictions:
            named = [sources[Path(prediction.video)] for prediction in predictions]
            save_picture(predictions, picture, top, names=["standard input" if of == "-" else of for of in named])
            messages.print(f"See {picture}")
        if failures:
            if len(failures) + len(predictions) > 1:
                messages.print(f"{len(failures)} of {len(failures) + len(predictions)} videos could not be used:")
                for failure in failures.values():
                    messages.print(f"  {failure}")
            raise typer.Exit(1)


def find_all(names: list[str], temporary: ExitStack) -> tuple[dict[Path, str], dict[str, VideoError]]:
    """The videos of the arguments without duplicates, with their display names, and the arguments that match none.

    URLs and standard input become temporary files, until `temporary` is closed.
    """
    from froster.video import find_videos, spooled
    from froster.video.spool import is_spooled

    sources: dict[Path, str] = {}
    failures: dict[str, VideoError] = {}
    for name in dict.fromkeys(names):
        try:
            if is_spooled(name):
                sources[temporary.enter_context(spooled(name))] = name
            else:
                sources |= {path: str(path) for path in find_videos([name])}
        except VideoError as error:
            failures[name] = error
    return sources, failures


def show_json(prediction: "Prediction", top: int) -> None:
    """One line: the video, its best labels with scores, and the cosine similarity of each."""
    best = [
        {"label": name, "score": score, "similarity": prediction.similarities[name]}
        for name, score in prediction.ranked[:top]
    ]
    line: dict[str, Any] = {"video": prediction.video, "predictions": best}
    if prediction.threshold is not None:
        line |= {"label": prediction.label, "threshold": prediction.threshold}
    if prediction.independent:
        line |= {"labels": prediction.labels}
    if prediction.warning:
        line["warning"] = prediction.warning
    echo_json(line)


def show_json_error(video: str, error: VideoError) -> None:
    echo_json({"video": video, "error": str(error)})


def show_csv(prediction: "Prediction", top: int, raw: bool) -> None:
    from froster.files import csv_cell

    cell = str if raw else csv_cell
    for rank, (name, score) in enumerate(prediction.ranked[:top], start=1):
        row = [cell(prediction.video), rank, cell(name), score, prediction.similarities[name]]
        echo_csv(row if prediction.threshold is None else [*row, prediction.threshold])


def show_table(prediction: "Prediction", top: int, screen: "Screen") -> None:
    from froster.cli.table import ranked_table

    screen.print(ranked_table(prediction, top, screen.width))
    if prediction.label is None:
        missed = "score is 50 % or more" if prediction.threshold is None else "similarity exceeds the threshold"
        screen.print(f"none of these: no {missed}")
