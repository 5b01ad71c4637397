"""Evaluate a model and write the report page."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Unpack

from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.evaluation import ModelReport, choose_vocabularies, read_videos, score_model
from froster.files import replace_when_written
from froster.inference import Runtime
from froster.processes import process_index
from froster.reporting.charts import count_confusions
from froster.reporting.films import Film, film_of
from froster.reporting.mistakes import Mistake, find_mistakes
from froster.reporting.page import Content, report_page
from froster.reporting.run import read_run
from froster.settings import InferenceOptions, InferenceSettings
from froster.students import VideoStudent
from froster.text.labels import LabelSet

SUFFIXES = (".html", ".htm")


def report(
    model: VideoStudent | str | Path | Runtime,
    videos: str | Path | Sequence[LabeledVideo],
    page: str | Path,
    labels: LabelSet | None = None,
    *,
    base: LabelSet | None = None,
    novel: LabelSet | None = None,
    descriptions: Mapping[str, str] | str | Path | None = None,
    split: str | None = None,
    mistakes: int = 12,
    attention: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
    **settings: Unpack[InferenceOptions],
) -> ModelReport:
    """Evaluate a model, as `froster.evaluate` does, and write the result as one HTML page, whole or not at all.

    `page`: the file, which ends in .html. `mistakes`: how many of the most confident errors are shown as short films;
    with `attention`, also where the model looked. `progress` is called with what is being done, how many videos of it
    are done, and of how many. Where `model` is a run's folder, the page has its training curves and recipe too. The
    other arguments are those of `froster.evaluate`. Returns the evaluation; warns of videos that could not be read.
    Under `torchrun` the main process writes the page.

    Raises what `froster.evaluate` does, and `FrosterError` for a file that is no page or cannot be written, and a run
    that is damaged.
    """
    path, chosen = Path(page), InferenceSettings(**settings)
    check_page_path(path)
    if mistakes < 0:
        raise FrosterError(f"mistakes ({mistakes}) must be 0 or more.")
    run = read_run(Path(model)) if isinstance(model, str | Path) else None
    rows, manifest = read_videos(videos, split)
    vocabularies = choose_vocabularies(rows, labels, base, novel, descriptions)

    def tell(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    scored = score_model(
        model, rows, vocabularies, manifest, chosen, lambda done, total: tell("Evaluating", done, total)
    )
    if process_index():
        return scored.report
    runtime = scored.runtime.in_float32() if attention else None  # attention maps in bfloat16 would be coarse
    pictured: list[tuple[Mistake, LabeledVideo, Film | None]] = []
    worst = find_mistakes(scored, scored.classes, mistakes)
    for number, mistake in enumerate(worst, start=1):
        video = rows[mistake.index]
        film: Film | None = None
        with suppress(VideoError):  # it was readable before; a failure must not lose the report
            film = film_of(video, runtime)
        pictured.append((mistake, video, film))
        tell("Drawing mistakes", number, len(worst))
    counts = {part: count_confusions(of_part) for part, of_part in scored.parts.items()}
    title = scored.runtime.model.title
    content = Content(scored.report, title, split, scored.classes, counts, pictured, mistakes, run)
    with replace_when_written(path) as temporary:
        # File names may contain non-text bytes.
        temporary.write_text(report_page(content), encoding="utf-8", errors="backslashreplace")
    if scored.report.unreadable:
        unread = f"{len(scored.report.unreadable)} of {scored.report.videos} videos"
        warnings.warn(
            f"{unread} could not be read and are not counted; {path} lists them.", FrosterWarning, stacklevel=2
        )
    return scored.report


def check_page_path(path: Path) -> None:
    """Raises `FrosterError` if no page can be written to `path`, before any work is done."""
    if path.is_dir():
        raise FrosterError(f"{path} is a folder; give a file in it.")
    if path.suffix.lower() not in SUFFIXES:
        raise FrosterError(f"{path} must end in .html: it is a web page.")
    attempt = path.with_name(f"{path.name}.try")
    try:
        with replace_when_written(attempt) as temporary:
            temporary.touch()
    except OSError as error:
        raise FrosterError(f"Cannot write {path}: {error.strerror}.") from error
    attempt.unlink(missing_ok=True)
