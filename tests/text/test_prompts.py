import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors import safe_open

from froster import Recognizer, load_model
from froster.backbones.clip import Clip, ClipConfig
from froster.data.puppets import write_videos
from froster.errors import FrosterError, FrosterWarning
from froster.students import VideoStudent, build_student
from froster.text.classifier import encode_classes, templates_for
from froster.text.prompts import TEMPLATES, check_templates, read_templates
from froster.training import loop
from froster.training.recipe import TrainRecipe
from froster.training.step import STEP_STREAM
from froster.training.texts import ClassPrompts

RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
ACTIONS = ["walking", "juggling balls", "sitting down"]


@pytest.fixture
def student() -> Callable[[str], VideoStudent]:
    def build(name: str) -> VideoStudent:
        torch.manual_seed(0)
        return build_student(name, Clip(ClipConfig(32, 8, 64, 1, 1, 64, 2, 1, 32))).eval()

    return build


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# of ours\n\na video of {}.\n  {}, a human action. \n"),
        ("a", "\ufeffa video of {}.\r\n{}, a human action."),
        ("a.json", '["a video of {}.", "{}, a human action."]'),
        ("a.txt", '["a video of {}.",\n "{}, a human action."]\n'),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_templates(tmp_path / name) == ("a video of {}.", "{}, a human action.")
    assert check_templates(str(tmp_path / name)) == check_templates(["a video of {}.", "{}, a human action."])


def test_a_template_may_begin_with_the_name_or_a_bracket(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{} again\n[video] of {}\n")
    assert read_templates(tmp_path / "a.txt") == ("{} again", "[video] of {}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "# one\na video of {}.\nno place\n", "line 3: a template needs exactly one {}.*not 'no place'"),
        ("a.txt", "{} and {}", "line 1: .*not '{} and {}'"),
        ("a.txt", "a {kind} of {}", "line 1: .*no other braces"),
        ("a.txt", "a video of {0}", "line 1: "),
        ("a.txt", "{{}}", "line 1: "),
        ("a.txt", "", "give at least one"),
        ("a.txt", "# nothing\n\n", "give at least one"),
        ("a.json", "[]", "give at least one"),
        ("a.json", '["a {}", 3]', "number 2: .*not 3"),
        ("a.json", '{"a": "{}"}', "must be a JSON list"),
        ("a.txt", '["a {}",\n', "not valid JSON: .*line 2"),
        ("a.json", "a video of {}", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
    ],
)
def test_wrong_files_are_named_with_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FrosterError, match=rf"^The templates file \S*{name}\b.*{message}"):
        read_templates(tmp_path / name)


def test_missing_file_and_wrong_lists(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match=r"none\.txt cannot be read: No such file"):
        read_templates(tmp_path / "none.txt")
    with pytest.raises(FrosterError, match=r"^The templates, number 2: .*'twice {} {}'"):
        check_templates(["a {}", "twice {} {}"])
    with pytest.raises(FrosterError, match="at least one"):
        check_templates([])


def test_own_templates_change_the_class_matrix(student: Callable[[str], VideoStudent], tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a drawing of {}\n")
    model, labels = student("vclip"), {"walking": "", "running": "going fast"}
    from_file, usual = (
        Recognizer(model, labels, templates=t, precision="float32", device="cpu").classes
        for t in (tmp_path / "own.txt", None)
    )
    with torch.no_grad():
        assert torch.equal(from_file, encode_classes(model, labels, ("a drawing of {}",)))
        assert torch.equal(usual, encode_classes(model, labels, TEMPLATES))
    assert (from_file - usual).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["vpt", "vita_clip", "x_clip", "tc_clip"])
def test_students_that_learn_their_prompts_keep_to_them(student: Callable[[str], VideoStudent], name: str) -> None:
    model = student(name)
    with pytest.warns(FrosterWarning, match=f"{model.title} has learned prompts, so the templates are not used"):
        given = Recognizer(model, ["walking", "running"], templates=["a drawing of {}"], precision="float32").classes
    assert torch.equal(given, Recognizer(model, ["walking", "running"], precision="float32").classes)


def test_only_those_given_by_the_user_are_warned_of(
    student: Callable[[str], VideoStudent], recwarn: pytest.WarningsRecorder
) -> None:
    assert templates_for(student("vpt"), None) == ()
    assert templates_for(student("vclip"), None) == TEMPLATES
    assert templates_for(student("vclip"), ("a {}",)) == ("a {}",)
    assert templates_for(student("vpt"), ("a {}",), warn=False) == ()
    assert not [warning for warning in recwarn if warning.category is FrosterWarning]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("clips"), ACTIONS, videos=2, frames=4, size=64)


def recipe(manifest: Path, out: Path, *changes: str) -> TrainRecipe:
    short = ["optimizer.epochs=1", "optimizer.warmup_epochs=0", "optimizer.batch_size=3", "average_from=null"]
    short += ["data.frames=2", "data.workers=0", "precision=float32", "data.puppets=null", "student=frame_clip"]
    return TrainRecipe.read(RECIPE, [*short, f"out={out}", f"data.manifest={manifest}", *changes])


def test_training_with_the_usual_templates_in_a_file_is_the_same_and_with_others_is_not(
    manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "usual.txt").write_text("\n".join(TEMPLATES))
    (tmp_path / "own.txt").write_text("a drawing of {}\n")
    files = {"none": "null", "usual": tmp_path / "usual.txt", "own": tmp_path / "own.txt"}
    trained = {
        name: load_model(loop.train(recipe(manifest, tmp_path / name, f"data.templates={file}"))).state_dict()
        for name, file in files.items()
    }
    assert all(torch.equal(value, trained["usual"][key]) for key, value in trained["none"].items())
    assert not torch.equal(trained["none"]["visual.proj"], trained["own"]["visual.proj"])


def test_a_step_draws_one_of_all_templates_for_student_and_teacher(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.json").write_text(json.dumps([f"drawing {number} of {{}}" for number in range(40)]))
    asked: list[tuple[list[str], int]] = []
    rows = ClassPrompts.rows

    def record(texts: ClassPrompts, template: int) -> list[int]:
        asked.append((texts.prompts[template], len(texts.prompts)))
        return rows(texts, template)

    monkeypatch.setattr(ClassPrompts, "rows", record)
    loop.train(recipe(manifest, tmp_path / "run", f"data.templates={tmp_path / 'own.json'}", "seed=3"))
    drawn = [int(np.random.default_rng((3, STEP_STREAM, step)).integers(40)) for step in range(2)]
    assert max(drawn) >= 28  # more than there are usually
    expected = [([f"drawing {number} of {name} {name}" for name in sorted(ACTIONS)], 41) for number in drawn]
    assert asked == [entry for entry in expected for _ in ("student", "teacher")]


def test_a_run_does_not_go_on_with_other_words(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates, descriptions = tmp_path / "own.txt", tmp_path / "descriptions.json"
    templates.write_text("a drawing of {}\n")
    descriptions.write_text(json.dumps(dict.fromkeys(ACTIONS, "what they do")))
    own = recipe(
        manifest,
        tmp_path / "run",
        f"data.templates={templates}",
        f"data.descriptions={descriptions}",
        "optimizer.epochs=2",
    )
    end_epoch = loop.end_epoch

    def stop(run: loop.Run, processes: PartialState) -> None:
        end_epoch(run, processes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "end_epoch", stop)
        loop.train(own)
    templates.write_text("a painting of {}\n")
    with pytest.raises(FrosterError, match="cannot be resumed with other templates than before"):
        loop.train(own, resume=True)
    templates.write_text("a drawing of {}\n")
    descriptions.write_text(json.dumps(dict.fromkeys(ACTIONS, "something else")))
    with pytest.raises(FrosterError, match="cannot be resumed with other labels than before"):
        loop.train(own, resume=True)
    descriptions.write_text(json.dumps(dict.fromkeys(ACTIONS, "what they do")))
    loop.train(own, resume=True)
    with safe_open(own.out / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["labels"]) == dict.fromkeys(sorted(ACTIONS), "what they do")
