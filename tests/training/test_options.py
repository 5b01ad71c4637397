"""Recipe keys that decide what is trained, how fast, and how a model is used afterwards."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from froster.data.manifests import class_indices, read_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterError, FrosterWarning
from froster.models import load_model
from froster.processes import find_processes
from froster.shipped import find_recipe
from froster.students import VideoStudent
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES
from froster.training import loop
from froster.training.parameters import select_trainable
from froster.training.recipe import TrainRecipe
from froster.training.texts import CachedClassEmbeddings, ClassPrompts

ACTIONS = ["juggling balls", "sitting down", "walking"]
LABELS = check_labels({"juggling balls": "throwing balls up", "walking": ""})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("clips"), ACTIONS, videos=2, frames=6, size=72)


def recipe_of(manifest: Path, out: Path, *changes: str, name: str = "puppets/fine-tuned") -> TrainRecipe:
    common = [
        f"out={out}",
        f"data.manifest={manifest}",
        "data.puppets=null",
        "data.frames=2",
        "optimizer.epochs=2",
        "optimizer.warmup_epochs=0",
        "optimizer.batch_size=2",
        "precision=float32",
    ]
    return TrainRecipe.read(find_recipe(name), [*common, *changes])


def prepared(recipe: TrainRecipe) -> loop.Run:
    data = loop.read_data(recipe, False)
    targets = class_indices(data.videos, list(data.labels), recipe.data.manifest)
    return loop.prepare(recipe, loop.RunFolder(recipe.out), data, targets, find_processes())


def test_factors_multiply_the_rate_of_what_they_match(manifest: Path, tmp_path: Path) -> None:
    """The first pattern that matches counts; projectors have names too; 1-D parameters still have no decay."""
    changes = (
        "student=action_clip",
        'optimizer.factors={"^temporal": 10, "blocks.0": 0.5, "^distillation": 3}',
        "distillation={}",
    )
    run = prepared(recipe_of(manifest, tmp_path / "run", *changes))
    names = {id(p): name for name, p in run.student.named_parameters()}
    names |= {id(p): f"distillation.{name}" for name, p in run.objective.distillation.named_parameters()}
    seen: dict[str, tuple[float, float]] = {}
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            seen[name] = (group["factor"], group["weight_decay"])
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0)
    assert not names
    for name, (factor, _) in seen.items():
        expected = 10 if name.startswith("temporal") else 0.5 if "blocks.0" in name else 1
        assert factor == (3 if name.startswith("distillation") else expected), name


def test_factors_scale_the_steps(manifest: Path, tmp_path: Path) -> None:
    """AdamW's first step moves by the learning rate, whatever the gradient: ten times as far with a factor of ten."""
    rates = ("optimizer.learning_rate=1e-4", "optimizer.final_learning_rate=1e-4", "optimizer.weight_decay=0")
    recipe = recipe_of(manifest, tmp_path / "run", *rates, 'optimizer.factors={"^visual.proj$": 10}', "seed=1")
    run = prepared(recipe)
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    clips = loop.TrainingClips(videos := read_manifest(manifest), [0] * len(videos), recipe.data, 64, recipe.seed)
    loop.take_step(run, loop.load_batches(clips, run.keys, pin_memory=False))
    moved = {name: (value - before[name]).abs().max().item() for name, value in run.student.state_dict().items()}
    assert moved["visual.proj"] == pytest.approx(1e-3, rel=0.02)
    assert moved["text.text_projection" if "text.text_projection" in moved else "text.proj"] == pytest.approx(
        1e-4, rel=0.02
    )


def test_patterns_choose_what_is_trained(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of(manifest, tmp_path / "run", 'trained=["^visual.blocks.3", "^text.ln_final"]')
    chosen = select_trainable(student := load_model("puppets", "vclip"), recipe)
    assert chosen.keys() == {n for n, p in student.named_parameters() if p.requires_grad}
    assert {".".join(name.split(".")[:2]) for name in chosen} == {"visual.blocks", "text.ln_final"}
    assert all("visual.blocks.3." in name for name in chosen if name.startswith("visual"))


@pytest.mark.parametrize("trained", ["vision", "text"])
def test_distillation_of_a_frozen_encoder_is_left_out(manifest: Path, tmp_path: Path, trained: str) -> None:
    run = prepared(recipe_of(manifest, tmp_path / "run", f"trained={trained}", "distillation={}"))
    assert run.objective.term_names == [
        "cross_entropy",
        "video_distillation" if trained == "vision" else "text_distillation",
        "loss",
    ]


def test_a_tuned_text_encoder_learns_with_a_frozen_image_encoder(manifest: Path, tmp_path: Path) -> None:
    start = load_model("puppets", "vclip").state_dict()
    path = loop.train(recipe_of(manifest, tmp_path / "run", name="puppets/table-4-h"), show=False)
    changed = {name for name, value in load_model(path).state_dict().items() if not torch.equal(value, start[name])}
    assert changed and all(name.startswith("text.") for name in changed)
    with pytest.raises(FrosterError, match="with trained: text the image encoder is frozen"):
        recipe_of(manifest, tmp_path / "run", "distillation.text=false", name="puppets/table-4-h")


def test_weights_are_averaged_every_few_steps(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 clips in batches of 2: 3 steps an epoch. From the end of epoch 1 on, every second step: steps 5 and 7."""
    taken: list[tuple[int, dict[str, Tensor]]] = []
    take_step = loop.take_step

    def recorded(run: loop.Run, *arguments: object) -> dict[str, float]:
        metrics = take_step(run, *arguments)  # type: ignore[arg-type]
        taken.append((run.step, {name: value.clone() for name, value in run.student.state_dict().items()}))
        return metrics

    monkeypatch.setattr(loop, "take_step", recorded)
    changes = ("optimizer.epochs=3", "average_from=1", "average_every=2")
    path = loop.train(recipe_of(manifest, tmp_path / "run", *changes), show=False)
    assert [step for step, _ in taken] == list(range(1, 10))
    samples = [state for step, state in taken if step in (5, 7, 9)]
    for name, value in load_model(path).state_dict().items():
        mean = torch.stack([sample[name].double() for sample in samples]).mean(dim=0)
        torch.testing.assert_close(value.double(), mean, atol=1e-6, rtol=1e-5)


def test_an_interval_that_is_never_reached_is_refused(manifest: Path, tmp_path: Path) -> None:
    changes = ("optimizer.epochs=3", "average_from=1", "average_every=7")
    with pytest.raises(FrosterError, match="average_every=7: only 6 steps of the run may be averaged"):
        prepared(recipe_of(manifest, tmp_path / "run", *changes))


def test_mixing_needs_two_clips_in_a_micro_batch(manifest: Path, tmp_path: Path) -> None:
    changes = ("optimizer.batch_size=4", "optimizer.gradient_accumulation_steps=4")
    for mixing in ("mixup=0.8", "cutmix=1"):
        with pytest.raises(FrosterError, match="mixup and cutmix blend the clips of a micro-batch"):
            prepared(recipe_of(manifest, tmp_path / "run", *changes, mixing))


def test_a_model_in_training_is_not_warned_of_as_untrained(manifest: Path, tmp_path: Path) -> None:
    run = prepared(recipe_of(manifest, tmp_path / "run", "student=x_clip", "distillation=null"))
    assert run.student.random_start and not loop.final_model(run).random_start


def class_embeddings(model: VideoStudent, prompts: list[str]) -> Tensor:
    rows = [model.encode_text(model.tokenizer([prompt]))[0] for prompt in prompts]
    mean = torch.stack([row / row.norm() for row in rows]).mean(dim=0)
    return mean / mean.norm()


def test_class_texts_of_open_vclip_are_the_templates_alone() -> None:
    model = load_model("puppets", "vclip")
    model.prompt_style = "templates"
    expected = torch.stack([class_embeddings(model, [t.format(name) for t in TEMPLATES]) for name in LABELS])
    with torch.no_grad():
        torch.testing.assert_close(encode_classes(model, LABELS), expected, atol=1e-5, rtol=0)
        prompts = ClassPrompts(LABELS, TEMPLATES, "templates")
        frozen = CachedClassEmbeddings(model, prompts, all_prompts=True)
        for template in (0, 27):  # whatever is drawn
            torch.testing.assert_close(frozen(template), expected, atol=1e-5, rtol=0)
        one = torch.stack([class_embeddings(model, [TEMPLATES[3].format(name)]) for name in LABELS])
        torch.testing.assert_close(prompts.encode(model, 3), one, atol=1e-5, rtol=0)


def test_a_model_keeps_its_prompt_style_and_pooling(manifest: Path, tmp_path: Path) -> None:
    changes = ("data.prompt_style=templates", "temporal_pooling=features", "trained=vision", "average_from=null")
    path = loop.train(recipe_of(manifest, tmp_path / "run", *changes), show=False)
    model = load_model(path)
    assert (model.prompt_style, model.temporal_pooling) == ("templates", "features")
    expected = torch.stack([class_embeddings(model, [t.format(name) for t in TEMPLATES]) for name in ACTIONS])
    torch.testing.assert_close(encode_classes(model, dict.fromkeys(ACTIONS, "")), expected, atol=1e-5, rtol=0)
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():  # FROSTER Eq. 1: the cosine of the mean embedding
        embeddings = model.encode_video(frames).mean(dim=1)
        cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], expected[None], dim=-1)
        torch.testing.assert_close(model(frames, expected).logits, model.logit_scale.exp() * cosines, atol=1e-4, rtol=0)


def test_descriptions_of_several_files_are_merged(manifest: Path, tmp_path: Path) -> None:
    one, two, other = (tmp_path / f"{name}.json" for name in ("one", "two", "other"))
    one.write_text(json.dumps({"walking": "on two feet", "sitting down": "onto a chair"}))
    two.write_text(json.dumps({"juggling balls": "up and down", "walking": "on two feet"}))
    other.write_text(json.dumps({"walking": "another one"}))
    recipe = recipe_of(manifest, tmp_path / "run", f"data.descriptions=[{one}, {two}]")
    assert loop.read_data(recipe, warn=True).labels.descriptions == {
        "juggling balls": "up and down",
        "sitting down": "onto a chair",
        "walking": "on two feet",
    }
    recipe = recipe_of(manifest, tmp_path / "run", f"data.descriptions=[{one}, {other}]")
    with pytest.raises(FrosterError, match=r"one\.json and .*other\.json describe 'walking' differently; leave"):
        loop.read_data(recipe, warn=True)
    recipe = recipe_of(manifest, tmp_path / "run", f"data.descriptions=[{one}, {tmp_path / 'none.json'}]")
    with pytest.raises(FrosterError, match=r"none\.json"):
        loop.read_data(recipe, warn=True)
    recipe = recipe_of(manifest, tmp_path / "run", f"data.descriptions={one}")
    with pytest.warns(FrosterWarning, match="no description of 1 of the 3 labels"):
        loop.read_data(recipe, warn=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "trained=visoin",
            "trained: must be default, all, vision, text, or a list of regular expressions, not 'visoin'",
        ),
        ("trained=['(']", "'\\(' is not a regular expression"),
        ("optimizer.factors={'[': 2}", "'\\[' is not a regular expression"),
        ("optimizer.factors={head: 0}", "greater than 0"),
        ("average_every=2", "average_every needs average_from"),
        ("data.color_jitter=2", "less than or equal to 1"),
        ("data.preprocess=fast", "data.preprocess: input should be 'clip' or 'release'"),
        ("temporal_pooling=mean", "temporal_pooling: input should be 'logits' or 'features'"),
    ],
)
def test_wrong_values_are_explained(change: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        TrainRecipe.read(find_recipe("puppets/fine-tuned"), [change])


def test_descriptions_have_no_place_in_templates_alone() -> None:
    changes = ["data.prompt_style=templates", "data.descriptions=some.json"]
    with pytest.raises(FrosterError, match="prompt_style: templates uses no descriptions"):
        TrainRecipe.read(find_recipe("puppets/fine-tuned"), changes)
