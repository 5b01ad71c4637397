import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.tokenizer import ClipTokenizer, tokenize
from froster.checkpoints.foreign import infer_config, to_clip_names
from froster.checkpoints.read import load_into
from froster.errors import FrosterWarning
from froster.students.frame_clip import FrameClip
from froster.text import classifier
from froster.text.classes import ClassText, ClassTexts
from froster.text.classifier import encode_classes, encode_texts, load_or_encode_classes, store
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES, class_prompts
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

LABELS = check_labels(
    {
        "juggling": "",
        "brushing teeth": "moving a small brush across the teeth",
        "throwing something onto a surface without it falling down": "",
    }
)


@pytest.fixture
def clip() -> FrameClip:
    torch.manual_seed(0)
    return FrameClip(Clip(ClipConfig(32, 8, 64, 1, 1, 64, 2, 1, 32))).eval()


class Counter(FrameClip):
    """A model that counts the texts it encodes."""

    def __init__(self, clip: FrameClip) -> None:
        super().__init__(clip)
        self.texts = self.positions = self.largest_batch = 0

    def encode_text(self, tokens: Tensor) -> Tensor:
        self.texts += len(tokens)
        self.positions += tokens.numel()
        self.largest_batch = max(self.largest_batch, tokens.numel())
        return super().encode_text(tokens)


def class_matrix_by_hand(clip: FrameClip, labels: ClassTexts) -> Tensor:
    """One prompt after another, all 77 positions."""
    rows = []
    for text in labels.values():
        features = [F.normalize(clip.encode_text(tokenize(p))[0], dim=0) for p in class_prompts(text)]
        rows.append(F.normalize(torch.stack(features).mean(dim=0), dim=0))
    return torch.stack(rows)


def test_class_matrix_of_the_released_code(golden_file: GoldenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_file(golden_file("more/text_classifier.safetensors"))
    state = to_clip_names({key: value for key, value in golden.items() if key.startswith("model.")})
    # The golden holds the text encoder alone.
    visual = Clip(ClipConfig(16, 16, 64, 1, 1, 64, 1, 1, 64, vocab_size=8)).state_dict()
    state |= {key: value for key, value in visual.items() if key.startswith("visual.")}
    clip = Clip(infer_config(state)).eval()
    load_into(clip, state, "text_classifier")
    tokens = golden["in.tokens"]
    texts = clip.encode_text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    assert (texts - golden["out.text_features"]).abs().max() < 2e-5
    # The same class matrix through `encode_classes`, each text standing for one row of the golden tokens.
    rows = {f"{k} {c}": tokens[k, c] for k in range(3) for c in range(6)}

    class GoldenTokens(ClipTokenizer):
        def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
            return torch.stack([rows[text] for text in texts])

    clip.tokenizer = GoldenTokens(vocab_size=clip.config.vocab_size)
    monkeypatch.setattr(classifier, "class_prompts", lambda text, *_: [f"{k} {text.name}" for k in range(3)])
    matrix = encode_classes(FrameClip(clip), {str(c): "" for c in range(6)})
    assert (matrix - golden["out.class_matrix"]).abs().max() < 2e-5


def test_sorted_and_cut_batches_change_nothing(clip: FrameClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "TOKENS_PER_BATCH", 64)
    matrix = encode_classes(clip, LABELS)
    assert (matrix - class_matrix_by_hand(clip, LABELS)).abs().max() < 1e-5
    assert (matrix.norm(dim=1) - 1).abs().max() < 1e-6


def test_one_long_text_does_not_make_a_large_batch(clip: FrameClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "TOKENS_PER_BATCH", 200)
    counter = Counter(clip)
    encode_texts(counter, ["short"] * 100 + ["a long description " * 15])
    assert counter.largest_batch <= 200
    assert counter.positions < 101 * 3 + 200


def test_features_come_in_the_order_of_the_texts(clip: FrameClip) -> None:
    texts = ["a long text about a person who juggles", "short", "a text of middle length", "short"]
    features = encode_texts(clip, texts)
    for text, feature in zip(texts, features, strict=True):
        assert (feature - clip.encode_text(tokenize(text))[0]).abs().max() < 1e-5


def test_second_run_encodes_no_text(clip: FrameClip) -> None:
    counter = Counter(clip)
    first = load_or_encode_classes(counter, LABELS)
    assert counter.texts == 29 * len(LABELS)
    assert counter.positions < 0.4 * 77 * counter.texts
    again = load_or_encode_classes(counter, LABELS)
    assert counter.texts == 29 * len(LABELS)
    assert torch.equal(first, again)


def test_cache_depends_on_labels_templates_weights_and_precision(clip: FrameClip) -> None:
    counter = Counter(clip)
    load_or_encode_classes(counter, LABELS)

    def encodes_again(labels: ClassTexts = LABELS, templates: tuple[str, ...] = TEMPLATES) -> bool:
        before = counter.texts
        load_or_encode_classes(counter, labels, templates)
        return counter.texts > before

    assert not encodes_again()
    assert encodes_again(LABELS | check_labels({"juggling": "throwing balls"}))
    assert encodes_again(LABELS.for_names(reversed(list(LABELS))))
    assert encodes_again(templates=TEMPLATES[:3])
    clip.text.ln_final.bias[0] += 1e-3
    assert encodes_again()
    counter.config = replace(clip.config, activation="gelu")
    assert encodes_again()
    clip.to(torch.bfloat16)
    assert encodes_again()


def test_cut_prompts_are_told_also_where_the_cache_has_the_classes(clip: FrameClip) -> None:
    labels = check_labels({"short": "", "run": " ".join(["run"] * 67)})
    counter = Counter(clip)
    long = sum(int(tokenize(prompt, 78)[0, -1] != 0) for prompt in class_prompts(labels["run"]))
    assert 0 < long < 29
    told = f"^{long} of 58 prompts exceed the maximum of 77 tokens of {clip.title} and are truncated.$"
    for _ in ("encoded", "from the cache"):
        with pytest.warns(FrosterWarning, match=told):
            load_or_encode_classes(counter, labels)
        assert counter.texts == 58
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in ("encoded", "from the cache"):
            load_or_encode_classes(counter, check_labels(["short"]))


def test_a_cached_matrix_without_the_number_of_cut_prompts_is_made_anew(clip: FrameClip, own_cache: Path) -> None:
    first = load_or_encode_classes(clip, LABELS)
    (file,) = (own_cache / "classes").iterdir()
    save_file({"classes": first + 1}, file)
    assert torch.equal(load_or_encode_classes(clip, LABELS), first)


def truncated(file: Path, _: torch.Tensor) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path, _: torch.Tensor) -> None:
    file.write_bytes(b"")


def bit_flipped(file: Path, _: torch.Tensor) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def without_a_row(file: Path, classes: torch.Tensor) -> None:
    store(classes[:-1].contiguous(), 0, file)


def with_a_row_too_many(file: Path, classes: torch.Tensor) -> None:
    store(torch.cat([classes, classes[:1]]), 0, file)


@pytest.mark.parametrize("damage", [truncated, empty, bit_flipped, without_a_row, with_a_row_too_many])
def test_damaged_cache_is_made_anew(
    clip: FrameClip, own_cache: Path, damage: Callable[[Path, torch.Tensor], None]
) -> None:
    first = load_or_encode_classes(clip, LABELS)
    (file,) = (own_cache / "classes").iterdir()
    damage(file, first)
    assert torch.equal(load_or_encode_classes(clip, LABELS), first)
    assert torch.equal(load_file(file)["classes"], first)


def test_unwritable_cache_costs_only_time(clip: FrameClip, own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / "classes").write_text("a file where the folder should be")
    with pytest.warns(FrosterWarning, match=r"cannot be cached in .*classes .*FROSTER_CACHE"):
        assert load_or_encode_classes(clip, LABELS).shape == (3, 32)


def test_templates_are_the_authors() -> None:
    assert len(set(TEMPLATES)) == 28
    assert "a example of a person practicing {}." in TEMPLATES
    assert all(re.fullmatch(r"a (photo|video|example|demonstration) of [a-z ]*\{\}\.", t) for t in TEMPLATES)
    prompts = class_prompts(ClassText("archery", "shooting arrows"))
    assert prompts[1] == "a photo of a person archery. archery: shooting arrows"
    assert prompts[-1] == "archery: shooting arrows"
    assert class_prompts(ClassText("archery"))[0] == "a photo of archery. archery"
    assert len(prompts) == 29
