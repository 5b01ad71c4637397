"""Evaluate a model and write the report page."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.evaluation import score_model
from froster.files import replace_when_written
from froster.reporting.charts import count_confusions
from froster.reporting.films import Film, film_of
from froster.reporting.mistakes import Mistake, find_mistakes
from froster.reporting.page import Content, page
from froster.reporting.run import read_run
from froster.text.labels import Labels
from froster.video import Sampling

SUFFIXES = (".html", ".htm")


def write_report(
    model: str | Path,
    videos: Sequence[LabeledVideo],
    vocabularies: Mapping[str, Labels] | None,
    manifest: Path,
    out: Path,
    *,
    split: str | None = None,
    student: str | None = None,
    templates: tuple[str, ...] | None = None,
    views: int | None = None,
    frames: int | None = None,
    sampling: Sampling | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 2,
    mistakes: int = 12,
    attention: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Evaluate a model, as `evaluate_model` does, and write the result atomically as one HTML page.

    `split`: the one that `videos` are of, to name it. `mistakes`: number of most confident errors shown;
    with `attention`, also where the model looked. `progress` is called with what is being done, how many videos of it
    are done, and of how many. Where `model` is a run's folder, the page has its training curves and recipe too. Returns
    `out`; warns of videos that could not be read.

    Raises `FrosterError` as `evaluate_model`, for a file that is no page or cannot be written, and a run that is
    damaged.
    """
    check_page_path(out)
    if mistakes < 0:
        raise FrosterError(f"mistakes ({mistakes}) must be 0 or more.")
    run = read_run(Path(model))

    def tell(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    scored = score_model(
        model,
        videos,
        vocabularies,
        manifest,
        student=student,
        templates=templates,
        views=views,
        frames=frames,
        sampling=sampling,
        device=device,
        precision=precision,
        workers=workers,
        seen=lambda done: tell("Evaluating", done, len(videos)),
    )
    chosen = scored.network.clip_sampling.override(frames, views, sampling)
    network = scored.network.float() if attention else None  # attention maps in bfloat16 would be coarse
    pictured: list[tuple[Mistake, LabeledVideo, Film | None]] = []
    worst = find_mistakes(scored, scored.classes, mistakes)
    for number, mistake in enumerate(worst, start=1):
        video = videos[mistake.index]
        film: Film | None = None
        with suppress(VideoError):  # it was readable before; a failure must not lose the report
            film = film_of(video, network, **asdict(chosen))
        pictured.append((mistake, video, film))
        tell("Drawing mistakes", number, len(worst))
    counts = {part: count_confusions(of_part) for part, of_part in scored.parts.items()}
    content = Content(scored.report, scored.network.title, split, scored.classes, counts, pictured, mistakes, run)
    with replace_when_written(out) as temporary:
        # File names may contain non-text bytes.
        temporary.write_text(page(content), encoding="utf-8", errors="backslashreplace")
    if scored.report.unreadable:
        unread = f"{len(scored.report.unreadable)} of {scored.report.videos} videos"
        warnings.warn(
            f"{unread} could not be read and are not counted; {out} lists them.", FrosterWarning, stacklevel=2
        )
    return out


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
