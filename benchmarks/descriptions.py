"""Do class descriptions help? FROSTER on puppets, without and with them in training and test (Table 4, I and J).

    python benchmarks/descriptions.py --draws 3

Three ways to word a class: its name alone, a phrase of our templates around it, and a description written for it in
words that the small CLIP knows. All else is the same: clips, schedule, seeds.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.puppets import ACTIONS, write_videos
from froster.data.vocabularies import read_vocabulary
from froster.files import replace_when_written
from froster.markdown import markdown_table
from froster.models import load_model
from froster.protocols.base_to_novel import Halves, TrainingLists, base_to_novel, draw_training_lists
from froster.protocols.data import load_data
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.protocols.results import Results, measured_cell
from froster.settings import InferenceSettings
from froster.shipped import find_recipe
from froster.text.classes import ClassTexts
from froster.text.classifier import unknown_labels
from froster.text.descriptions import describe_labels, plain_description, read_descriptions

WRITTEN = Path(__file__).with_name("puppets-descriptions.json")
SHOTS, TEST_CLIPS = 16, 40  # of each action
KEYS = ("base", "novel", "hm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/descriptions"), help="folder for videos and runs")
    parser.add_argument("--changes", nargs="*", default=[], help="to the recipe: optimizer.epochs=2")
    arguments = parser.parse_args()
    work: Path = arguments.work
    draw_manifest(work, arguments.draws)
    data = load_data("puppets", work / "manifests")
    plain = work / "plain.json"
    write_json(plain, {name: plain_description(name) for name in ACTIONS})
    rows = []
    without: Results | None = None
    for title, file in (("names alone", None), ("a phrase around the name", plain), ("descriptions", WRITTEN)):
        descriptions = ClassTexts() if file is None else read_descriptions(file)
        if unknown := unknown_labels(load_model("puppets"), descriptions.descriptions.values()):
            print(f"{title}: the small CLIP does not know all words of {len(unknown)} of {len(descriptions)} texts.")
        parts = [ClassTexts.of_names(read_vocabulary(f"puppets-{part}")) for part in ("base", "novel")]
        halves = Halves(*(describe_labels(part, descriptions) if descriptions else part for part in parts))
        changes = [] if file is None else [f"data.descriptions={file.resolve()}"]
        recipe = TrainFromRecipe(find_recipe("froster-puppets"), (*arguments.changes, *changes))
        lists = draw_training_lists(data, list(halves.base), SHOTS, arguments.draws)
        out = work / (file.stem if file else "names")
        settings = InferenceSettings(views=1, frames=8, sampling="uniform")
        measured = base_to_novel(data, halves, recipe, lists, out, settings)
        frozen = base_to_novel(data, halves, Pretrained("puppets"), TrainingLists([]), out / "frozen", settings)
        without = without or measured
        gained = measured.scores[data.title]["hm"].mean - without.scores[data.title]["hm"].mean
        cells = [measured_cell(of.scores[data.title][key]) for of in (frozen, measured) for key in KEYS]
        rows.append([title, *cells, f"{gained:+.1f}"])
        print(" | ".join(rows[-1]))
    print(
        "\n"
        + markdown_table(
            [
                "a class is",
                *(f"{who} {key}" for who in ("frozen", "FROSTER") for key in ("base", "novel", "HM")),
                "HM gained",
            ],
            rows,
        )
    )


def draw_manifest(work: Path, draws: int) -> None:
    """Videos of all actions: enough of the base ones to draw different clips from, and test clips of their own."""
    manifest = work / "manifests" / "puppets.csv"
    if manifest.exists():
        return
    rows: list[LabeledVideo] = []
    base = read_vocabulary("puppets-base")
    for split, actions, videos, seed in (
        ("train", base, SHOTS * draws, 1_000_000),
        ("test", ACTIONS, TEST_CLIPS, 2_000_000),
    ):
        drawn = write_videos(work / split, actions, videos, frames=16, size=72, seed=seed)
        rows += [replace(video, splits=(split,)) for video in read_manifest(drawn)]
    write_manifest(manifest, rows)


def write_json(path: Path, content: dict[str, str]) -> None:
    with replace_when_written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
