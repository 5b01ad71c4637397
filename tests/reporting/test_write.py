import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from froster import FrosterError, Recognizer
from froster.data.manifests import LabeledVideo, write_manifest
from froster.data.puppets import write_videos
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterWarning
from froster.evaluation import Evaluation, EvaluationSettings, ModelReport, evaluate
from froster.models import puppets_weights
from froster.reporting import report
from froster.reporting.page import results

LABELS = ["juggling balls", "catching a ball", "sitting down", "standing up", "walking", "crawling", "kicking"]
EVIL = '<u>& "it\'s" <script>alert(1)</script>'


class Page(HTMLParser):
    """The texts of a page by tag, the cells of its tables, and its attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.terms: list[str] = []
        self.headings: list[str] = []
        self.inside: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("dt", "dd"):
            self.terms.append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.inside):
            self.tables[-1][-1][-1] += data
        elif {"dt", "dd"} & set(self.inside):
            self.terms[-1] += data
        elif {"h1", "h2", "h3"} & set(self.inside):
            self.headings[-1] += data

    def after(self, term: str) -> str:
        return self.terms[self.terms.index(term) + 1]

    def table_with(self, heading: str) -> list[list[str]]:
        return next(table for table in self.tables if heading in table[0])

    def cards(self) -> list[str]:
        return [heading for heading in self.headings if " predicted as " in heading]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[LabeledVideo]:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, LABELS, videos=3, frames=14, size=64, seed=900)
    names = [(name, folder / name.replace(" ", "-") / f"{seed}.mp4") for name in LABELS for seed in (900, 901, 902)]
    # Wrong labels make mistakes that are sure.
    return [
        LabeledVideo(path, LABELS[(place // 3 + 1) % 7] if place % 4 == 0 else name)
        for place, (name, path) in enumerate(names)
    ]


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def test_numbers_are_those_of_evaluate(videos: list[LabeledVideo], tmp_path: Path) -> None:
    out = tmp_path / "made" / "report.html"
    write_manifest(tmp_path / "clips.csv", [replace(video, splits=("test",)) for video in videos])
    steps: list[tuple[str, int, int]] = []
    returned = report(
        "puppets",
        tmp_path / "clips.csv",
        out,
        LABELS,
        split="test",
        mistakes=2,
        progress=lambda *step: steps.append(step),
    )
    assert [file.name for file in out.parent.iterdir()] == ["report.html"]
    assert steps[-1] == ("Drawing mistakes", 2, 2)
    assert ("Evaluating", 21, 21) in steps
    page, part = Page(out), evaluate("puppets", videos, LABELS).parts["all"]
    assert returned.parts["all"] == part
    assert part.top5 is not None
    assert 0 < part.top1 < part.top5 < 1
    assert page.after("top-1") == percent(part.top1)
    assert page.after("top-5") == percent(part.top5)
    assert page.after("mean per class") == percent(part.mean_class_accuracy)
    assert page.after("Data") == f"{tmp_path / 'clips.csv'}, split test: 21 videos"
    rows = page.table_with("most often predicted as")[1:]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (name, str(part.clips_per_class[name]), percent(share)) for name, share in part.per_class.items()
    ]
    said = {truth: predicted for truth, predicted, _ in reversed(part.confusions)}
    assert [row[4].split("\u00a0")[0] for row in rows] == [said.get(row[0], "") for row in rows]
    assert [tuple(row) for row in page.table_with("said")[1:]] == [
        (truth, predicted, f"{count} of {part.clips_per_class[truth]}")
        for truth, predicted, count in part.confusions[:15]
    ]
    assert "training" not in page.source.split("<main>")[0].split("<nav")[1]


def test_base_and_novel_and_their_harmonic_mean(videos: list[LabeledVideo], tmp_path: Path) -> None:
    halves = {"base": LABELS[:4], "novel": LABELS[4:]}
    found = report("puppets", videos, tmp_path / "report.html", mistakes=0, **halves)
    page = Page(tmp_path / "report.html")
    assert found == evaluate("puppets", videos, **halves)
    assert found.harmonic_mean is not None
    assert page.after("harmonic mean") == percent(found.harmonic_mean)
    rows = page.table_with("mean per class")[1:]
    for row, (name, part) in zip(rows, found.parts.items(), strict=True):
        assert row[0] == name
        assert row[1:4] == [str(part.clips), str(part.classes), percent(part.top1)]
        assert row[5] == percent(part.mean_class_accuracy)
        assert page.after(f"{name} classes, top-1") == percent(part.top1)
    assert not page.cards()


def test_mistakes_are_the_surest_by_the_recognizer(videos: list[LabeledVideo], tmp_path: Path) -> None:
    options = {"views": 2, "frames": 4, "precision": "float32"}
    report("puppets", videos, tmp_path / "report.html", LABELS, mistakes=3, **options)
    page = Page(tmp_path / "report.html")
    recognizer = Recognizer("puppets", LABELS, **options)
    expected = []
    for video in videos:
        ranked = recognizer.predict(video.path).ranked
        if ranked[0][0] != video.label:
            expected.append((ranked[0][1] - dict(ranked)[video.label], video, ranked))
    assert len(expected) > 3
    expected.sort(key=lambda entry: -entry[0])
    assert page.cards() == [f"{video.label} predicted as {ranked[0][0]}" for _, video, ranked in expected[:3]]
    tables = [table for table in page.tables if table[0] == ["rank", "label", "bar", "share"]]
    for table, (_, video, ranked) in zip(tables, expected[:3], strict=True):
        shown = [(label, share) for label, share in ranked[:3]]
        if video.label not in dict(shown):
            shown.append((video.label, dict(ranked)[video.label]))
        order = [label for label, _ in ranked]
        assert [int(row[0]) for row in table[1:]] == [order.index(label) + 1 for label, _ in shown]
        assert [row[1].removesuffix("said").removesuffix("truth") for row in table[1:]] == [label for label, _ in shown]
        assert [float(row[3].split("\u00a0")[0]) for row in table[1:]] == pytest.approx(
            [100 * share for _, share in shown], abs=0.06
        )
    films = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [attributes.get("class") for attributes in films] == ["moving", "still", None] * 3
    assert all(str(attributes["src"]).startswith("data:image/webp;base64,") for attributes in films)
    assert all(attributes["alt"] for attributes in films)


def test_nothing_is_loaded_and_what_users_name_is_text(videos: list[LabeledVideo], tmp_path: Path) -> None:
    strange = tmp_path / "<s>&.mp4"
    shutil.copy(videos[0].path, strange)
    wanted = [LabeledVideo(strange, EVIL), *(LabeledVideo(video.path, LABELS[0]) for video in videos[:2])]
    missing = LabeledVideo(tmp_path / "<u>.mp4", EVIL)
    out, manifest = tmp_path / "report.html", tmp_path / "<s>.csv"
    write_manifest(manifest, [replace(video, splits=("<s>",)) for video in (*wanted, missing)])
    with (
        pytest.warns(FrosterWarning, match="1 of 2 labels contain words unseen"),
        pytest.warns(FrosterWarning, match="1 of 4 videos"),
    ):
        report("puppets", manifest, out, [LABELS[0], EVIL], split="<s>")
    page = Page(out)
    assert page.after("not read") == "1"
    assert EVIL in [row[0] for row in page.table_with("most often predicted as")]
    assert f"{EVIL} predicted as {LABELS[0]}" in page.cards()  # who has seen juggling does not say this
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"u", "s"} & {tag for tag, _ in page.tags}
    assert "&lt;u&gt;.mp4: there is no such file" in page.source
    assert "http:" not in page.source and "https:" not in page.source and "url(" not in page.source
    for _, attributes in page.tags:
        assert not attributes.get("href", "#") or str(attributes.get("href", "#")).startswith("#")
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert not any(name.startswith("on") for name in attributes)


def test_run_shows_its_recipe_and_its_curves(videos: list[LabeledVideo], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(puppets_weights(), run / "model.safetensors")
    (run / "recipe.json").write_text(
        json.dumps({"student": "frame_clip", "teacher": None, "optimizer": {"epochs": 3, "betas": [0.9, 0.999]}})
    )
    steps = [
        {
            "step": n,
            "epoch": n / 10,
            "clips": 16,
            "learning_rate": 0.1 / n,
            "loss": None if n == 4 else 3 / n,
            "cross_entropy": 2 / n,
            "video_distillation": 1 / n,
            "gradient_norm": 1.0,
            "seconds": 30.0 * n,
        }
        for n in range(1, 21)
    ]
    log = "".join(f"{json.dumps(step)}\n" for step in steps)
    (run / "log.jsonl").write_text(log + '{"step": 21, "lo')
    validations = [
        {"step": n, "epoch": n / 10, "videos": 3, "cross_entropy": 0.5, "top1": 0.5 + n / 100, "top5": None}
        for n in (0, 10, 20)
    ]
    (run / "validation.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in validations))
    report(run, videos[:3], tmp_path / "report.html", LABELS, mistakes=0)
    page = Page(tmp_path / "report.html")
    assert page.after("optimizer.epochs") == "3"
    assert page.after("optimizer.betas") == "0.9, 0.999"
    assert "teacher" not in page.terms
    assert "20 steps on 320 clips in 10 minutes" in page.source
    told = [attributes["aria-label"] for tag, attributes in page.tags if attributes.get("class") == "curve"]
    assert told == [
        "loss: first 3, last 0.15, from 0.15 to 3.",
        "cross entropy: first 2, last 0.1, from 0.1 to 2.",
        "video distillation: first 1, last 0.05, from 0.05 to 1.",
        "learning rate: first 0.1, last 0.005, from 0.005 to 0.1.",
        "gradient norm: first 1, last 1, from 1 to 1.",
        "cross entropy: first 0.5, last 0.5, from 0.5 to 0.5.",
        "top-1, %: first 50, last 70, from 50 to 70.",
    ]
    (run / "log.jsonl").write_text("")
    report(run, videos[:3], tmp_path / "report.html", LABELS, mistakes=0)
    page = Page(tmp_path / "report.html")
    assert "Training" not in page.headings
    (run / "recipe.json").write_text("{")
    with pytest.raises(FrosterError, match=r"recipe\.json cannot be read"):
        report(run, videos[:3], tmp_path / "report.html", LABELS)


def test_two_classes_and_no_mistake(videos: list[LabeledVideo], tmp_path: Path) -> None:
    sure = [video for video in videos if video.label.replace(" ", "-") == video.path.parent.name]
    wanted = [video for video in sure if video.label in ("sitting down", "juggling balls")]
    found = report("puppets", wanted, tmp_path / "r.html", ["sitting down", "juggling balls"], attention=False)
    page = Page(tmp_path / "r.html")
    assert found.parts["all"].top1 == 1
    assert page.after("top-1") == percent(1)
    assert "top-5" not in page.terms
    assert "None: every video was recognized." in page.source
    assert "<p>None.</p>" in page.source


def test_the_page_stays_small_and_is_the_same_every_time(tmp_path: Path) -> None:
    """Noise is the worst that can be compressed."""
    frames = np.random.default_rng(5).integers(0, 256, (24, 160, 284, 3), np.uint8)
    write_mp4(tmp_path / "noise.mp4", frames, 12)
    wanted = [LabeledVideo(tmp_path / "noise.mp4", label) for label in LABELS[:2]]
    out = tmp_path / "report.html"
    report("puppets", wanted, out, LABELS[:2], views=1)
    first = out.read_bytes()
    assert first.count(b'<li class="mistake">') == 1
    pictures = sum(len(url) for url in re.findall(rb"data:image/webp;base64,[^\"]*", first))
    assert 12 * pictures + len(first) - pictures < 8e6
    report("puppets", wanted, out, LABELS[:2], views=1)
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "message"),
    [("report.txt", r"must end in \.html"), ("", "is a folder"), ("file/report.html", "Cannot write")],
)
def test_pages_that_cannot_be_written_are_errors_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    missing = [LabeledVideo(Path("missing.mp4"), "walking")]
    with pytest.raises(FrosterError, match=message):
        report("no such model", missing, tmp_path / name, ["walking"])


def test_a_failed_report_leaves_the_old_one(videos: list[LabeledVideo], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(FrosterError, match="no video can be read"):
        report("puppets", [LabeledVideo(Path("missing.mp4"), "walking")], out, ["walking"])
    with pytest.raises(FrosterError, match="mistakes"):
        report("puppets", videos, out, LABELS, mistakes=-1)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


def test_training_videos_among_the_tested_ones_have_a_tile() -> None:
    part = Evaluation(12, 2, 0.5, None, 0.5, {"a": 1.0, "b": 0.0}, {"a": 6, "b": 6}, [("b", "a", 6)])
    for trained, shown in ((9, True), (0, False), (None, False)):
        found = None if trained is None else {"videos": trained, "share": trained / 12, "manifests": ["train.csv"]}
        settings = EvaluationSettings("m", "vclip", {}, "clips.csv", found, 28, 0, 3, 8, "uniform", "cpu", "float32")
        tiles = results(ModelReport(settings, {"all": part}, [], []))
        assert ("trained on" in tiles) == ("<dd>9</dd>" in tiles) == shown
