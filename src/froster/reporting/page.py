"""The report's HTML: one function per section; all names from users are escaped."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from froster import __version__
from froster.data.manifests import LabeledVideo
from froster.evaluation import Evaluation, ModelReport
from froster.reporting.charts import Counts, classes_shown, confusion_matrix, curve
from froster.reporting.films import Film
from froster.reporting.mistakes import Mistake
from froster.reporting.run import Run
from froster.webpage import html_page

MAX_ROWS = 16  # of a table, beyond which it scrolls
MAX_LISTED = 15  # confusions below a matrix
SPACE = "\u00a0"


@dataclass(frozen=True)
class Content:
    """The content of a page.

    `names`, `counts`: by vocabulary, its classes and confusion matrix `(K, K)`. `pictured`:
    mistakes with their videos, and a film unless the video could not be read again. `asked`: how many were wanted.
    """

    report: ModelReport
    student: str
    split: str | None
    names: Mapping[str, Sequence[str]]
    counts: Mapping[str, Counts]
    pictured: Sequence[tuple[Mistake, LabeledVideo, Film | None]]
    asked: int
    run: Run | None


def report_page(content: Content) -> str:
    """The whole page."""
    settings = content.report.settings
    name = Path(settings.model).name or settings.model
    sections = {
        "mistakes": ("Most confident errors", mistakes_section(content)),
        "classes": ("Each class", classes_section(content)),
        "confusions": ("Confusions", confusions_section(content)),
        "training": ("Training", training_section(content.run) if content.run else ""),
        "tested": ("What was tested, and how", tested_section(content)),
        "unusable": ("Videos that could not be used", unusable_section(content.report)),
    }
    shown = {key: (title, body) for key, (title, body) in sections.items() if body}
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, (title, _) in shown.items())
    bodies = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{title}</h2>\n{body}\n</section>'
        for key, (title, body) in shown.items()
    )
    body = (
        f"<header>\n<h1>Report on {escape(name)}</h1>\n<p>{summary(content)}</p>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{results(content.report)}\n{bodies}\n</main>\n"
        f"<footer>Made by froster {__version__}. This file is self-contained.</footer>"
    )
    own = files("froster.reporting")
    return html_page(
        title=f"{escape(name)} on {escape(Path(settings.manifest).name)}",
        style=own.joinpath("page.css").read_text(encoding="utf-8"),
        script=own.joinpath("sort.js").read_text(encoding="utf-8"),
        body=body,
    )


def summary(content: Content) -> str:
    """One sentence: model, data, accuracy."""
    report = content.report
    clips = sum(part.clips for part in report.parts.values())
    split = f", split {escape(content.split)}" if content.split else ""
    manifest = Path(report.settings.manifest).name
    source = "" if manifest == "videos" else f" of {escape(manifest)}"  # rows without a manifest
    return f"{escape(content.student)}, right on {right_count(content)} of {videos(clips)}{source}{split}."


def right_count(content: Content) -> int:
    return sum(int(counts.trace()) for counts in content.counts.values())


# --- results --------------------------------------------------------------------------------------------------------


def results(report: ModelReport) -> str:
    """The main numbers, and a table for base and novel classes."""
    tiles = []
    if report.harmonic_mean is None:
        (part,) = report.parts.values()
        note = f"of {videos(part.clips)}; chance {percent(1 / part.classes)}"
        tiles.append(tile("top-1", percent(part.top1), note, main=True))
        if part.top5 is not None:
            tiles.append(tile("top-5", percent(part.top5), f"among {part.classes} classes"))
        tiles.append(tile("mean per class", percent(part.mean_class_accuracy), f"of {classes(len(part.per_class))}"))
    else:
        for name, part in report.parts.items():
            tiles.append(tile(f"{name} classes, top-1", percent(part.top1), part_note(part)))
        tiles.append(tile("harmonic mean", percent(report.harmonic_mean), "of base and novel", main=True))
    if report.unreadable:
        tiles.append(tile("not read", str(len(report.unreadable)), f"of {videos(report.videos)}; not counted"))
    if (trained := report.settings.trained_videos) and trained["videos"]:
        tiles.append(tile("trained on", str(trained["videos"]), f"of {videos(report.videos)}; not new to the model"))
    table = "" if report.harmonic_mean is None else totals(report)
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n{table}'


def part_note(part: Evaluation) -> str:
    return f"{videos(part.clips)}, {classes(part.classes)}"


def tile(name: str, number: str, note: str, main: bool = False) -> str:
    kind = ' class="main"' if main else ""
    return f'<div{kind}><dt>{name}</dt><dd>{number}</dd><dd class="note">{note}</dd></div>'


def totals(report: ModelReport) -> str:
    rows = []
    for name, part in report.parts.items():
        top5 = "–" if part.top5 is None else percent(part.top5)
        numbers = (str(part.clips), str(part.classes), percent(part.top1), top5, percent(part.mean_class_accuracy))
        rows.append(f'<tr><th scope="row">{name}</th>{"".join(f"<td>{number}</td>" for number in numbers)}</tr>')
    heads = ("videos", "classes", "top-1", "top-5", "mean per class")
    head = '<tr><th scope="col" class="words">classes</th>' + "".join(f'<th scope="col">{h}</th>' for h in heads)
    return scroll(
        f'<table class="totals"><caption>Each video among the classes of its own kind</caption><thead>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>",
        "Accuracies",
    )


# --- mistakes -------------------------------------------------------------------------------------------------------


def mistakes_section(content: Content) -> str:
    clips = sum(part.clips for part in content.report.parts.values())
    wrong = clips - right_count(content)
    if not wrong:
        return "<p>None: every video was recognized.</p>"
    if not content.asked:
        return ""
    every = len(content.pictured) == wrong
    errors = f"{wrong} error{'s' * (wrong != 1)}"
    which = f"{errors}, most confident first" if every else f"The {len(content.pictured)} most confident of {errors}"
    has_strips = any(film and film.strip for _, _, film in content.pictured)
    strips = " With each video, input frames and attention maps." if has_strips else ""
    hold = (
        '<label class="hold"><input type="checkbox" id="hold"><span class="if-moving">Hold the videos still</span>'
        '<span class="if-still">Play the videos</span></label>'
        if any(film and film.moving for _, _, film in content.pictured)
        else ""
    )
    cards = "\n".join(mistake_card(content, *pictured) for pictured in content.pictured)
    return (
        f"<p>{which}, by the score of the prediction minus that of the true class.{strips}</p>"
        f"\n{hold}\n"
        f'<ol class="mistakes">\n{cards}\n</ol>'
    )


def mistake_card(content: Content, mistake: Mistake, video: LabeledVideo, film: Film | None) -> str:
    path = relative_path(video.path, Path(content.report.settings.manifest))
    part = "" if video.start is None and video.end is None else f", {segment(video)}"
    length = f" · {film.seconds:.1f}{SPACE}s" if film and film.moving else ""
    rows = []
    for ranked in mistake.ranked:
        kind, tag = "other", ""
        if ranked.label == mistake.truth:
            kind, tag = "truth", '<span class="tag">truth</span>'
        elif ranked.rank == 1:
            kind, tag = "said", '<span class="tag">said</span>'
        rows.append(
            f'<tr class="{kind}"><td>{ranked.rank}</td><th scope="row">{escape(ranked.label)}{tag}</th>'
            f'{bar(ranked.share)}<td class="share">{percent(ranked.share)}</td></tr>'
        )
    return (
        f'<li class="mistake">\n<div class="film">{moving_picture(film, path, mistake.truth)}</div>\n<div>\n'
        f"<h3>{escape(mistake.truth)} <span>predicted as</span> {escape(mistake.said)}</h3>\n"
        f'<p class="path">{escape(path)}{part}{length}</p>\n'
        f'<table class="ranked"><caption class="hidden">Shares of the labels</caption><thead class="hidden"><tr>'
        f'<th scope="col">rank</th><th scope="col">label</th><th scope="col">bar</th><th scope="col">share</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>\n</div>\n{attention_strip(film, mistake)}</li>"
    )


def moving_picture(film: Film | None, path: str, truth: str) -> str:
    if film is None:
        return '<p class="none-shown">The video could not be read again.</p>'
    width, height = film.sides
    still = f"{escape(path)}: {escape(truth)}"
    if film.moving is None:
        return f'<img src="{data_url(film.still)}" width="{width}" height="{height}" alt="{still}">'
    return (
        f'<img class="moving" src="{data_url(film.moving)}" width="{width}" height="{height}" '
        f'alt="{still}, playing in a loop">'
        f'<img class="still" src="{data_url(film.still)}" width="{width}" height="{height}" '
        f'alt="{still}, a frame from its middle">'
    )


def attention_strip(film: Film | None, mistake: Mistake) -> str:
    if film is None or film.strip is None:
        return ""
    width, height = film.strip_sides
    at = (
        f"{film.times[0]:.1f} to {film.times[-1]:.1f}{SPACE}s"
        if len(film.times) > 1
        else f"{film.times[0]:.1f}{SPACE}s"
    )
    alt = f"{len(film.times)} frames of {escape(mistake.truth)}, with attention maps below"
    picture = f'<img src="{data_url(film.strip)}" width="{width}" height="{height}" alt="{alt}">'
    return (
        f'<figure class="strip">{scroll(picture, "Frames and attention")}<figcaption>Frames from {at}; below, bright '
        "the model’s attention.</figcaption></figure>\n"
    )


def data_url(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def relative_path(path: Path, manifest: Path) -> str:
    """Relative to the manifest, if the video is in its folder."""
    folder = manifest.parent
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def segment(video: LabeledVideo) -> str:
    end = "its end" if video.end is None else f"{video.end:g}{SPACE}s"
    return f"{video.start or 0:g}{SPACE}s to {end}"


# --- classes and confusions -----------------------------------------------------------------------------------------


def classes_section(content: Content) -> str:
    return "\n".join(
        f"{part_title(content, name)}{class_table(part, name)}" for name, part in content.report.parts.items()
    )


def part_title(content: Content, name: str) -> str:
    return f"<h3>{name.capitalize()} classes</h3>\n" if len(content.report.parts) > 1 else ""


def class_table(part: Evaluation, name: str) -> str:
    """Accuracies, worst first, and the most frequent confusion of each class."""
    taken: dict[str, tuple[str, int]] = {}
    for truth, predicted, count in part.confusions:
        taken.setdefault(truth, (predicted, count))
    rows = []
    for label, accuracy in part.per_class.items():
        wrong, count = taken.get(label, ("", 0))
        mostly = f"{escape(wrong)}{SPACE}×{SPACE}{count}" if count else ""
        rows.append(
            f'<tr><th scope="row" data-value="{escape(label)}">{escape(label)}</th>'
            f'<td data-value="{part.clips_per_class[label]}">{part.clips_per_class[label]}</td>'
            f'<td data-value="{accuracy!r}">{percent(accuracy)}</td>{bar(accuracy)}'
            f'<td class="words">{mostly}</td></tr>'
        )
    without = part.classes - len(part.per_class)
    missing = f"; {without} without videos not shown" if without else ""
    table = (
        f'<table class="classes wide"><caption>{classes(len(rows))}, worst first{missing}</caption><thead><tr>'
        '<th scope="col" class="words" data-sorts="words">class</th><th scope="col" data-sorts="numbers">videos</th>'
        '<th scope="col" data-sorts="numbers" aria-sort="ascending">right</th><td class="bar"></td>'
        '<th scope="col" class="words">most often predicted as</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    box = "tall" if len(rows) > MAX_ROWS else "scroll"
    of_part = "" if name == "all" else f" of {name} classes"
    return f'<div class="{box}" role="region" aria-label="Accuracy of each class{of_part}" tabindex="0">{table}</div>'


def confusions_section(content: Content) -> str:
    parts = []
    for name, part in content.report.parts.items():
        if not part.confusions:
            parts.append(f"{part_title(content, name)}<p>None.</p>")
            continue
        names, counts = content.names[name], content.counts[name]
        shown = classes_shown(counts, part, names)
        wrong = part.clips - int(counts.trace())
        inside = int(counts[shown][:, shown].sum() - counts[shown, shown].sum())
        if len(shown) == len(names):
            which = "Rows are the truth, columns what the model said."
        else:
            which = (
                f"The {len(shown)} most confused of {len(names)} classes, with {inside} of {wrong} errors among "
                "them. Rows are the truth, columns what the model said."
            )
        parts.append(
            f"{part_title(content, name)}<p>{which}</p>\n"
            '<p class="key"><span>right</span><span class="wrong">wrong</span>'
            "the fuller the color, the larger the share of the row</p>\n"
            f"{scroll(confusion_matrix(counts, shown, names), 'Confusion matrix')}\n{confusion_table(part)}"
        )
    return "\n".join(parts)


def confusion_table(part: Evaluation) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(truth)}</th><td class="words">{escape(predicted)}</td>'
        f"<td>{count} of {part.clips_per_class[truth]}</td></tr>"
        for truth, predicted, count in part.confusions[:MAX_LISTED]
    )
    number = len(part.confusions)
    which = f"The {MAX_LISTED} most frequent of {number} confusions" if number > MAX_LISTED else "Most frequent first"
    return scroll(
        f'<table><caption>{which}</caption><thead><tr><th scope="col" class="words">truth</th>'
        f'<th scope="col" class="words">said</th><th scope="col">videos</th></tr></thead><tbody>{rows}</tbody></table>',
        "Most frequent confusions",
    )


# --- training, settings, failures -----------------------------------------------------------------------------------


def training_section(run: Run) -> str:
    if not run.steps:
        return ""
    figures = []
    for name, values in run.curves.items():
        words = name.replace("_", " ")
        if drawn := curve(words, run.steps, values):
            figures.append(f"<figure><figcaption>{escape(words)}</figcaption>{drawn}</figure>")
    took = duration(run.seconds)
    return (
        f"<p>{run.steps[-1]} steps on {run.clips} clips{f' in {took}' if took else ''}. Pale: every step, or the mean "
        f'of a few; full: running mean.</p>\n<div class="curves">{"".join(figures)}</div>' + validation_curves(run)
    )


def validation_curves(run: Run) -> str:
    """Cross entropy and accuracies on held-out videos while training."""
    figures = []
    for name, values in run.validations.items():
        words, is_share = name.replace("top", "top-").replace("_", " "), name != "cross_entropy"
        if is_share:
            words, values = f"{words}, %", [None if share is None else 100 * share for share in values]
        if drawn := curve(words, run.validated, values):
            figures.append(f"<figure><figcaption>{escape(words)}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    return f'<p>Validation on held-out videos:</p>\n<div class="curves">{"".join(figures)}</div>'


def tested_section(content: Content) -> str:
    of = content.report.settings
    options = "".join(f", {key} {value}" for key, value in of.student_options.items())
    vocabulary = " and ".join(
        f"{len(names)}{'' if part == 'all' else f' {part}'}" for part, names in content.names.items()
    )
    described = f", {of.descriptions} of them described" if of.descriptions else ""
    split = f", split {content.split}" if content.split else ""
    facts: dict[str, Any] = {
        "Model": of.model,
        "Student": f"{content.student}{options}",
        "Data": f"{of.manifest}{split}: {videos(content.report.videos)}",
        "Classes": f"{vocabulary}{described}",
        "Prompts": f"{of.templates} templates" if of.templates else "bare names",
        "Clips": f"{of.views} per video, {of.frames} frames each, {of.sampling} sampling; scores averaged",
        "Computed": f"{of.precision} on {of.device}",
    }
    recipe = ""
    if content.run:
        keys = facts_list({key: shown_value(value) for key, value in content.run.recipe.items()})
        recipe = f"<details><summary>Training recipe</summary>{keys}</details>"
    return f"{facts_list(facts)}\n{recipe}"


def facts_list(facts: Mapping[str, Any]) -> str:
    pairs = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    return f'<dl class="facts">{pairs}</dl>'


def shown_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(shown_value, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def unusable_section(report: ModelReport) -> str:
    parts = []
    for failures, what in (
        (report.unreadable, "could not be read and are not counted"),
        (report.partial, "could be read only in part and are counted all the same"),
    ):
        if failures:
            items = "".join(f"<li>{escape(reason)}</li>" for _, reason in failures)
            box = "tall" if len(failures) > MAX_ROWS else "scroll"
            parts.append(
                f"<p>{len(failures)} of {videos(report.videos)} {what}:</p>\n"
                f'<div class="{box}" role="region" aria-label="Videos that {what}" tabindex="0">'
                f'<ul class="files">{items}</ul></div>'
            )
    return "\n".join(parts)


# --- words and pieces -----------------------------------------------------------------------------------------------


def scroll(inside: str, name: str) -> str:
    return f'<div class="scroll" role="region" aria-label="{name}" tabindex="0">{inside}</div>'


def bar(share: float) -> str:
    return f'<td class="bar" aria-hidden="true"><i><b style="width:{100 * share:.1f}%"></b></i></td>'


def percent(share: float) -> str:
    return f"{100 * share:.1f}{SPACE}%"


def videos(number: int) -> str:
    return f"{number} video{'s' * (number != 1)}"


def classes(number: int) -> str:
    return f"{number} class{'es' * (number != 1)}"


def duration(seconds: float) -> str:
    """In words; "" if unknown."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    if seconds >= 90:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} seconds" if seconds else ""
