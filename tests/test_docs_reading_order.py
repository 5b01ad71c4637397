"""docs/reading-order.md leads to files and names that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reading-order.md").read_text(encoding="utf-8")
SOURCES = ROOT / "src" / "froster"


def test_eight_files() -> None:
    rows = re.findall(r"^\| (\d) \| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 9))
    assert [file for _, file in rows if not (SOURCES / file).is_file()] == []


def test_names_are_defined_where_the_page_says() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \| `(\w+)` \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) >= 12
    for file, name in rows:
        text = (SOURCES / file).read_text(encoding="utf-8")
        assert re.search(rf"^(class |def |){name}\b( =|:|\(| )", text, flags=re.MULTILINE), (file, name)


def test_other_paths_exist() -> None:
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", PAGE):
        assert (SOURCES / path).exists() or (ROOT / path).exists(), path
    section = PAGE.split("## Add a loss")[1]
    everything = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.py"))
    for name in re.findall(r"`([A-Z]\w+|\w+_loss|prepare)\b", section):
        assert re.search(rf"^(class|def) {name}\b", everything, flags=re.MULTILINE), name
    for name in re.findall(r"`[A-Z]\w+\.(\w+)`", section):
        assert re.search(rf"^    def {name}\b", everything, flags=re.MULTILINE), name
