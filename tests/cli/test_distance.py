import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from froster.cli import main
from froster.data.puppets import ACTIONS
from froster.models import load_model
from froster.text.distance import compare, encode_vocabulary
from froster.text.labels import check_labels

FROSTER = Path(sys.executable).with_name("froster")
BASE, NOVEL = ACTIONS[::2], (*ACTIONS[1::2], "walking")  # one class is in both


@dataclass
class Result:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """The command in this process, which is quicker, in a folder with two labels files."""
    (tmp_path / "base.txt").write_text("\n".join(BASE), encoding="utf-8")
    (tmp_path / "novel.json").write_text(json.dumps(dict.fromkeys(NOVEL, "an action")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: object, model: str = "puppets") -> Result:
        monkeypatch.setattr(sys, "argv", ["froster", "distance", *map(str, arguments), "--model", model])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, *capsys.readouterr())

    return run


def test_table_has_a_row_a_vocabulary_nearest_first(distance: Callable[..., Result]) -> None:
    result = distance("puppets", "walking, running", "novel.json", "puppets", "--top", 3)
    assert (result.status, result.stderr) == (0, "")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0] == f"A: puppets ({len(ACTIONS)}), bare names, puppets"
    assert all(len(line) <= 80 for line in lines)
    model = load_model("puppets")
    a = encode_vocabulary(model, "puppets", check_labels(ACTIONS))
    rows = {}
    for title, names in {"puppets": ACTIONS, "novel.json": NOVEL, "walking, running": ("walking", "running")}.items():
        found = compare(a, encode_vocabulary(model, title, check_labels(names)))
        numbers = (found.hausdorff, found.a_to_b, found.b_to_a, found.release.mean)
        rows[title] = [*title.split(), str(len(names)), str(len(names)), *(f"{number:.3f}" for number in numbers)]
    assert [line.split() for line in lines[2:5]] == list(rows.values())
    assert "Class of puppets farthest from novel.json" in lines
    assert not any(line.startswith("Classes of") for line in lines)  # all are shared


def test_nearest_and_farthest_classes_leave_out_shared_names(distance: Callable[..., Result]) -> None:
    result = distance("base.txt", "novel.json", "--top", 3)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    model = load_model("puppets")
    a, b = (encode_vocabulary(model, "", check_labels(names)) for names in (BASE, NOVEL))
    found = compare(a, b)
    assert found.shared == {"walking"}
    others = [match for match in found.b_matches if match.name != "walking"]
    titles = {
        "Classes of novel.json closest to base.txt, except the 1 shared": others[:3],
        "Classes of novel.json farthest from base.txt": others[:-4:-1],
        "Class of base.txt farthest from novel.json": found.a_matches[-1:],
    }
    for title, matches in titles.items():
        start = lines.index(title) + 2
        for line, (name, nearest, similarity) in zip(lines[start:], matches, strict=False):
            assert line.split() == [*name.split(), *nearest.split(), f"{similarity:.3f}"]


def test_json_holds_every_class(distance: Callable[..., Result]) -> None:
    result = distance("base.txt", "novel.json", "--json", "--remove-shared")
    assert (result.status, result.stderr) == (0, "")
    content = json.loads(result.stdout)
    assert (content["model"], content["a"], content["classes"]) == ("puppets", "base.txt", len(BASE))
    assert (content["prompts"], content["remove_shared"]) == (False, True)
    (novel,) = content["b"]
    model = load_model("puppets")
    a, b = (encode_vocabulary(model, "", check_labels(names)) for names in (BASE, NOVEL[:-1]))
    found = compare(a, b)
    assert (novel["vocabulary"], novel["classes"], novel["shared"]) == ("novel.json", len(NOVEL) - 1, [])
    for key in ("hausdorff", "a_to_b", "b_to_a"):
        assert novel[key] == pytest.approx(getattr(found, key), abs=1e-5)
    assert list(novel["release"].values()) == pytest.approx(list(found.release), abs=1e-5)
    names = [(match["name"], match["nearest"]) for match in novel["b_nearest_first"]]
    assert names == [(match.name, match.nearest) for match in found.b_matches]
    assert [match["name"] for match in novel["a_nearest_first"]] == [match.name for match in found.a_matches]


def test_prompts_use_the_descriptions(distance: Callable[..., Result]) -> None:
    Path("two.json").write_text('{"running": "going fast", "walking": ""}')
    bare, as_recognized = (
        json.loads(distance("bowing, walking", "two.json", "--json", *how).stdout)["b"][0]["hausdorff"]
        for how in ([], ["--prompts"])
    )
    model = load_model("puppets")
    a = encode_vocabulary(model, "", check_labels(["bowing", "walking"]), prompts=True)
    found = compare(
        a, encode_vocabulary(model, "", check_labels({"running": "going fast", "walking": ""}), prompts=True)
    )
    assert as_recognized == pytest.approx(found.hausdorff, abs=1e-5)
    assert as_recognized != pytest.approx(bare, abs=1e-3)


@pytest.mark.slow
def test_picture_of_several_vocabularies(tmp_path: Path) -> None:
    command = [FROSTER, "distance", "walking, running", "puppets", "bowing", "--picture", "made/heat.png"]
    result = subprocess.run([*command, "--model", "puppets"], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (result.returncode, result.stderr) == (0, "See made/heat.png\n")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["heat.png"]
    with Image.open(tmp_path / "made" / "heat.png") as picture:
        colors = picture.convert("RGB").getcolors(1 << 24)
    assert colors is not None
    assert len(colors) > 50


def test_unknown_words_are_warned_of(distance: Callable[..., Result]) -> None:
    result = distance("puppets", "ucf-101")
    assert result.status == 0
    assert result.stderr.startswith(
        "warning: 91 of 101 classes of ucf-101 contain words unseen in this model's pretraining"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["puppets"], "Missing argument 'B'"),
        (["puppets", "ufc-101"], "did you mean the vocabulary 'ucf-101'"),
        (["puppets", "none.txt"], "The labels file none.txt cannot be read: No such file"),
        (["walking, walking", "puppets"], "A: the label 'walking' is given twice."),
        (["puppets", ","], "No action names in B"),
        (["puppets", "base.txt", "--remove-shared"], "All classes of base.txt are also in puppets"),
        (["puppets", "base.txt", "--picture", "heat.gif"], "Cannot write an image to heat.gif"),
        (["puppets", "base.txt", "--top", "0"], "greater than or equal to 1"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], message: str, distance: Callable[..., Result]) -> None:
    result = distance(*arguments)
    assert result.status == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_unknown_models_end_in_one_sentence(distance: Callable[..., Result]) -> None:
    result = distance("puppets", "base.txt", model="vit-b-61")
    assert (result.status, result.stdout) == (2, "")
    assert "did you mean 'vit-b-16' or " in result.stderr
