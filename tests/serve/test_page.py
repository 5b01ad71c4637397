"""The web page in a real browser, against a real server."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
pytest.importorskip("fastapi", reason="needs the extra serve: pip install -e '.[serve]'")

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

import froster.serve
from froster.data.puppets import action_index, draw_video
from froster.data.puppets.files import write_mp4
from serve.conftest import running_server

FILES = Path(froster.serve.__file__).with_name("page")
SAMPLE_LABELS = ["juggling balls", "crawling", "bowing", "riding a bicycle"]
COMMAS = ["running, fast", "walking", '5" nails', "letting go, slowly"]
FINGER = 44  # CSS pixels, WCAG 2.5.5

TIMEOUT = 120_000  # milliseconds, for machines that have much else to do

NewPage = Callable[..., Page]
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(browser: Browser, server_folder: Path) -> Iterator[str]:
    with running_server(server_folder, "--model", "puppets") as running:
        yield running.url


@pytest.fixture
def new_page(browser: Browser, address: str) -> Iterator[NewPage]:
    """Opens pages of the server; at the end none of them may have said an error, but for `allowed`."""
    opened, said = [], []

    def open_page(query: str = "", allowed: str = "", at: str = "", **options: object) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})  # type: ignore[arg-type]
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)

        def listen(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not (allowed and allowed in message.text):
                said.append(message.text)

        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((at or address) + query)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def juggling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("videos") / "my video.mp4", "juggling balls")


def draw(path: Path, *actions: str, frames: int = 32) -> Path:
    """Write the actions one after the other, at 16 frames a second."""
    parts = [draw_video(90 + i, action_index(action), frames, 128, "easy") for i, action in enumerate(actions)]
    write_mp4(path, np.concatenate(parts), 16)
    return path


def labels_of(page: Page) -> list[str]:
    return page.locator(".chip-name").all_inner_texts()


def add(page: Page, labels: list[str]) -> None:
    for label in labels:
        page.get_by_role("textbox", name="Add a label").fill(label)
        page.keyboard.press("Enter")


def best(page: Page) -> str:
    expect(page.locator("#result")).to_be_visible()
    return page.locator("#best").inner_text()


def test_uploaded_video_is_recognized(new_page: NewPage, juggling: Path) -> None:
    page = new_page()
    expect(page.locator("#empty")).to_be_visible()
    page.locator("#file").set_input_files(juggling)
    expect(page.locator("#chosen-name")).to_have_text("my video.mp4")
    expect(page.locator("#stage-note")).to_contain_text("not this file")
    add(page, SAMPLE_LABELS)
    page.get_by_role("button", name="Recognize").click()
    assert best(page) == "juggling balls"
    ranked = page.locator(".ranked-label").all_inner_texts()
    assert ranked[0] == "juggling balls"
    assert sorted(ranked) == sorted(SAMPLE_LABELS)
    shares = [float(text.strip(" <%")) for text in page.locator(".ranked-score").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.5
    widths = page.locator(".bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(getComputedStyle(bar, '::after').width) / bar.clientWidth)"
    )
    assert abs(100 * widths[0] - shares[0]) < 1
    expect(page.locator("#frames img")).to_have_count(8)
    assert page.locator("#frames img").evaluate_all("all => all.every(image => image.naturalWidth > 0)")
    expect(page.locator("#timeline")).to_be_hidden()  # two seconds need none


def test_sample_and_its_maps(new_page: NewPage) -> None:
    page = new_page()
    page.locator(".sample", has_text="Juggling balls").click()
    assert "juggling balls" in labels_of(page)
    page.get_by_role("button", name="Recognize").click()
    assert best(page) == "juggling balls"
    expect(page.locator("#looked img")).to_have_count(8)
    maps = {}
    for kind in ("Attention", "Rollout", "Gradient", "Attention"):
        page.locator(".switch").get_by_text(kind).click()
        expect(page.locator("#looked")).not_to_have_attribute("aria-busy", "true")
        pictures = page.locator("#looked img").evaluate_all("all => all.map(image => image.src)")
        assert len(pictures) == 8
        assert maps.setdefault(kind, pictures) == pictures
    assert len({tuple(pictures) for pictures in maps.values()}) == 3
    page.locator(".sample", has_text="Crawling").click()
    expect(page.locator("#stale")).to_be_visible()
    page.get_by_role("button", name="Recognize").click()
    expect(page.locator("#best")).to_have_text("crawling")
    expect(page.locator("#stale")).to_be_hidden()


def test_labels_that_were_written_are_not_replaced_by_a_sample(new_page: NewPage) -> None:
    page = new_page()
    add(page, ["waving"])
    page.locator(".sample", has_text="Bowing").click()
    assert labels_of(page) == ["waving"]


def test_everything_by_keyboard(new_page: NewPage) -> None:
    page = new_page("", viewport={"width": 1280, "height": 900})
    expect(page.locator(".sample")).to_have_count(6)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.value || ''")
        seen.append(focused)
        ring = page.evaluate(
            """() => { for (let place = document.activeElement; place; place = place.parentElement) {
                const look = getComputedStyle(place);
                if (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) >= 2) return true;
                if ([...place.children].some(child => parseFloat(getComputedStyle(child).outlineWidth) >= 3
                    && getComputedStyle(child).outlineStyle !== 'none')) return true; } return false; }"""
        )
        assert ring, f"{focused} has no visible focus"
        if focused == "skipping-rope":
            page.keyboard.press("ArrowRight")  # to the second sample, which takes it
        if focused == "label":
            break
    assert [name for name in seen if name in ("file", "label")] == ["label"] or seen.index("file") < seen.index("label")
    assert "juggling balls" in labels_of(page)

    for _ in labels_of(page):
        page.keyboard.press("Backspace")
    assert labels_of(page) == []
    page.keyboard.type("crawling,juggling balls")
    page.keyboard.press("Enter")
    page.keyboard.type("bowing")
    page.keyboard.press("Enter")
    page.keyboard.type("bowing")
    page.keyboard.press("Enter")  # twice is once
    assert labels_of(page) == ["crawling", "juggling balls", "bowing"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    assert labels_of(page) == ["juggling balls", "bowing"]
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")  # back into the text field, to be changed
    expect(page.locator("#label")).to_have_value("bowing")
    page.keyboard.type(" down")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "recognize":
            break
    assert labels_of(page) == ["juggling balls", "bowing down"]
    page.keyboard.press("Enter")
    assert best(page) == "juggling balls"
    assert "juggling balls" in page.locator("#live").inner_text()


@pytest.mark.parametrize(
    ("pasted", "labels"),
    [
        ("walking\nrunning, fast\n\n walking \n", ["walking", "running, fast"]),
        ('["doing sit ups", "letting go, slowly"]', ["doing sit ups", "letting go, slowly"]),
        ('walking, "bowing" ,walking', ["walking", "bowing"]),
        ('"running, fast",walking,5" nails, "letting go, slowly"', COMMAS),
        ("Walking, bowing,walking,BOWING", ["Walking", "bowing"]),
    ],
)
def test_lists_are_pasted(new_page: NewPage, pasted: str, labels: list[str]) -> None:
    page = new_page()
    page.locator("#label").evaluate(
        """(field, text) => { const data = new DataTransfer(); data.setData('text', text);
        field.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, cancelable: true, bubbles: true})); }""",
        pasted,
    )
    assert labels_of(page) == labels
    expect(page.locator(".sample")).to_have_count(6)
    page.reload()
    assert labels_of(page) == labels


def test_quotes_hold_a_label_together(new_page: NewPage) -> None:
    page = new_page("?" + urlencode({"labels": '"running, fast",walking, Walking'}))
    assert labels_of(page) == ["running, fast", "walking"]
    expect(page.locator(".sample")).to_have_count(6)
    field = page.get_by_role("textbox", name="Add a label")
    field.press_sequentially('"letting go, slowly",bowing,')
    assert labels_of(page) == ["running, fast", "walking", "letting go, slowly", "bowing"]
    page.get_by_role("button", name="Edit running, fast").click()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.type("not ")
    page.keyboard.press("Enter")
    assert labels_of(page) == ["not running, fast", "walking", "letting go, slowly", "bowing"]
    page.reload()
    assert labels_of(page) == ["not running, fast", "walking", "letting go, slowly", "bowing"]


def test_labels_that_differ_in_case_are_one(new_page: NewPage) -> None:
    page = new_page()
    add(page, ["Crawling", "crawling", "Sleeping"])
    assert labels_of(page) == ["Crawling", "Sleeping"]
    expect(page.locator("#live")).to_have_text("Sleeping added.")
    page.locator("#vocabulary").select_option("puppets")
    expect(page.locator("#count")).to_have_text("46")
    page.locator(".sample", has_text="Crawling").click()
    page.get_by_role("button", name="Recognize").click()
    assert best(page) == "Crawling"
    page.get_by_role("button", name="Open puppets").click()
    assert len(labels_of(page)) == 46


def test_vocabulary_is_one_chip_that_opens(new_page: NewPage) -> None:
    page = new_page()
    page.locator("#vocabulary").select_option("puppets-base")
    expect(page.locator("#count")).to_have_text("10")
    add(page, ["sleeping"])
    expect(page.locator("#count")).to_have_text("11")
    assert parse_qs(urlsplit(page.url).query) == {"vocabulary": ["puppets-base"], "labels": ["sleeping"]}
    page.get_by_role("button", name="Open puppets-base").click()
    assert len(labels_of(page)) == 11
    page.get_by_role("button", name="Clear").click()
    assert labels_of(page) == []


def test_broken_file_is_explained_and_the_next_one_works(new_page: NewPage, juggling: Path, tmp_path: Path) -> None:
    page = new_page(allowed="422")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 100)
    page.locator("#file").set_input_files(broken)
    add(page, SAMPLE_LABELS)
    page.get_by_role("button", name="Recognize").click()
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    expect(page.locator("#error-message")).to_contain_text("not a video")
    expect(page.locator("#error-advice")).to_contain_text("another file")
    expect(page.locator("#result")).to_be_hidden()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.locator("#file").set_input_files(juggling)
    page.get_by_role("button", name="Recognize").click()
    assert best(page) == "juggling balls"
    expect(alert).to_be_hidden()


def test_what_is_missing_is_said(new_page: NewPage, juggling: Path) -> None:
    page = new_page()
    page.get_by_role("button", name="Recognize").click()
    expect(page.locator("#hint")).to_have_text("Choose a video or a sample first.")
    page.locator("#file").set_input_files(juggling)
    page.get_by_role("button", name="Recognize").click()
    expect(page.locator("#hint")).to_have_text("Add at least one label first.")
    expect(page.locator("#label")).to_be_focused()


@pytest.mark.parametrize("way", ["escape", "button"])
def test_cancel_aborts_the_request(new_page: NewPage, juggling: Path, way: str) -> None:
    page = new_page()
    page.locator("#file").set_input_files(juggling)
    add(page, SAMPLE_LABELS)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2000}
    network.send("Network.emulateNetworkConditions", slow)
    page.get_by_role("button", name="Recognize").click()
    expect(page.locator("#doing")).to_have_text("Sending my video.mp4")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
    with page.expect_event("requestfailed") as failed:
        if way == "escape":
            page.keyboard.press("Escape")
        else:
            page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#empty")).to_contain_text("Cancelled.")
    assert urlsplit(failed.value.url).path == "/v1/recognize"
    assert "ABORTED" in (failed.value.failure or "")
    network.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    page.get_by_role("button", name="Recognize").click()
    assert best(page) == "juggling balls"


def test_link_restores_what_was_asked(new_page: NewPage) -> None:
    first = new_page()
    first.locator(".sample", has_text="Riding a bicycle").click()
    add(first, ["sleeping"])
    first.get_by_role("button", name="Recognize").click()
    assert best(first) == "riding a bicycle"
    first.locator(".switch").get_by_text("Gradient").click()
    second = new_page("?" + urlsplit(first.url).query)
    assert best(second) == "riding a bicycle"
    assert labels_of(second) == labels_of(first)
    expect(second.locator("input[value=gradient]")).to_be_checked()
    expect(second.locator("#chosen-name")).to_have_text("Riding a bicycle")
    assert second.url == first.url


def test_link_to_what_is_not_there_says_so(new_page: NewPage) -> None:
    page = new_page("?" + urlencode({"sample": "flying", "model": "huge", "labels": "walking"}))
    expect(page.locator("#hint")).to_contain_text("no model huge, no sample flying")
    assert labels_of(page) == ["walking"]


def test_long_video_has_a_timeline_that_moves_the_player(new_page: NewPage, tmp_path: Path) -> None:
    page = new_page()
    page.locator("#file").set_input_files(draw(tmp_path / "long.mp4", "juggling balls", "crawling", frames=80))
    add(page, SAMPLE_LABELS)
    page.get_by_role("button", name="Recognize").click()
    expect(page.locator(".segment").first).to_be_visible()
    names = page.locator(".segment-label").all_inner_texts()
    assert names[0] == "juggling balls"
    assert "crawling" in names
    second = page.locator(".segment", has_text="crawling").first
    second.click()
    assert 3.5 < page.locator("#video").evaluate("video => video.currentTime") < 6.5
    assert page.locator(".plot polyline").count() >= 2


def test_labels_are_never_markup(new_page: NewPage) -> None:
    page = new_page()
    evil = "<img src=x onerror=alert(1)>"
    page.locator(".sample", has_text="Bowing").click()
    add(page, [evil])
    page.get_by_role("button", name="Recognize").click()
    assert best(page)
    page.get_by_role("button", name=re.compile("^Show")).click()
    assert evil in page.locator(".ranked-label").all_inner_texts()
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(new_page: NewPage, scheme: str) -> None:
    page = new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, color_scheme=scheme)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        small = page.evaluate(
            """least => [...document.querySelectorAll('button, select, input:not(.unseen), .sample, .switch span, a')]
            .filter(place => place.checkVisibility())
            .filter(place => { const box = place.getBoundingClientRect();
                return box.height < least || box.width < 32; })
            .map(place => place.outerHTML.slice(0, 80))""",
            FINGER,
        )
        assert small == []

    expect(page.locator(".sample")).to_have_count(6)
    check()
    page.locator(".sample", has_text="Climbing a ladder").tap()
    add(page, ["a label with many words that is all the longer because it has " + "x" * 60])
    page.get_by_role("button", name="Recognize").tap()
    assert best(page) == "climbing a ladder"
    check()
    expect(page.locator("#best")).to_be_in_viewport()


def test_an_error_leaves_with_what_it_was_about(new_page: NewPage, juggling: Path, tmp_path: Path) -> None:
    page = new_page(allowed="422")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    add(page, SAMPLE_LABELS)
    for otherwise in ("file", "sample", "labels", "nothing"):
        if otherwise == "nothing":
            page.locator("#remove-video").click()
        page.locator("#file").set_input_files(broken)
        page.get_by_role("button", name="Recognize").click()
        expect(page.locator("#error")).to_be_visible()
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#error")).to_be_visible()
        if otherwise == "file":
            page.locator("#file").set_input_files(juggling)
        elif otherwise == "sample":
            page.locator(".sample", has_text="Bowing").click()
        elif otherwise == "labels":
            add(page, ["sleeping"])
        else:
            page.locator("#remove-video").click()
        expect(page.locator("#error")).to_be_hidden()
        expect(page.locator("#empty")).to_be_visible()


def test_labels_that_a_model_was_trained_on(new_page: NewPage, trained: Path, juggling: Path, tmp_path: Path) -> None:
    """They stand there as one chip, and give way to what a person wants."""
    with running_server(tmp_path, "--model", str(trained), "--model", "puppets") as running:
        page = new_page(at=running.url)
        expect(page.locator(".chip-name")).to_have_text("Labels of my-run 3 labels")
        page.locator("#file").set_input_files(juggling)
        page.get_by_role("button", name="Recognize").click()
        assert best(page) == "juggling balls"
        assert sorted(page.locator(".ranked-label").all_inner_texts()) == ["bowing", "crawling", "juggling balls"]
        assert parse_qs(urlsplit(page.url).query) == {}
        page.locator("#model").select_option("puppets")
        expect(page.locator(".chip-name")).to_have_count(0)
        page.locator("#model").select_option("my-run")
        expect(page.locator(".chip-name")).to_have_count(1)
        add(page, ["walking", "bowing"])
        assert parse_qs(urlsplit(page.url).query) == {"labels": ["juggling balls,crawling,bowing,walking"]}
        page.locator(".chip-name").first.click()
        assert labels_of(page) == ["juggling balls", "crawling", "bowing", "walking"]
        page.locator("#model").select_option("puppets")
        assert len(labels_of(page)) == 4
        page.reload()
        assert len(labels_of(page)) == 4
        page.close()  # before its server, which it would go on asking


def test_token_is_asked_for_and_kept_for_the_tab(new_page: NewPage, server_folder: Path) -> None:
    with running_server(server_folder, "--model", "puppets", "--token", "sesame") as running:
        page = new_page("?sample=bowing&labels=bowing,crawling", allowed="401", at=running.url)
        expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-note")).to_contain_text("rejected that token")
        page.get_by_role("textbox", name="Token").fill("sesame")
        page.keyboard.press("Enter")
        assert best(page) == "bowing"
        page.reload()
        assert best(page) == "bowing"
        assert page.evaluate("localStorage.length") == 0


def test_colors_have_contrast() -> None:
    """WCAG AA: 4.5 for text, 3 for the edges of fields."""
    style = (FILES / "page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in re.findall(r":root \{.*?\}", style, re.S)
    ]
    assert len(schemes) == 2
    light, dark = schemes
    for colors in (light, light | dark):
        for ground in ("paper", "panel", "field", "tint", "note-tint"):
            assert contrast(colors["ink"], colors[ground]) >= 4.5, ground
        for ground in ("paper", "panel", "field", "tint"):
            assert contrast(colors["soft"], colors[ground]) >= 4.5, ground
        for ground in ("paper", "field"):
            assert contrast(colors["green"], colors[ground]) >= 4.5, ground
        for ground in ("green", "green-hover"):
            assert contrast(colors["on-green"], colors[ground]) >= 4.5
        assert contrast(colors["edge"], colors["paper"]) >= 3
        assert contrast(colors["focus"], colors["paper"]) >= 3
        for line in range(5):
            assert contrast(colors[f"line-{line}"], colors["paper"]) >= 3


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio"""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_files_need_no_network_and_no_inline_code() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES.iterdir()}
    for name, text in texts.items():
        assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}, name
    page = texts["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)
    for name in [name for name in texts if name.endswith(".js")]:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", texts[name]), name
    headings = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
