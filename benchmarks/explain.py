"""How much of its attention a model spends on the figure, on puppets videos with segmentation masks.

    python benchmarks/explain.py                                            # trains two students first, four minutes
    python benchmarks/explain.py fine-tuned=RUN froster=RUN                 # trained ones: folders or checkpoints

Prints, in Markdown, for the frozen CLIP of the package, the others and CLIP with random weights the share of each kind
of map on the figure and its objects (mean ± standard error over the videos, percent), next to the figure's
share of the area. "another label" explains a wrong label by gradient. "of two actions" is another check: two videos
side by side in one picture, and the share of the gradient's map on the half in which the label is done; half of it
without any knowledge of the label. The videos, two of each action, are none that anything was trained on. The students
are those of `froster demo`: ten actions trained, the high learning rate, one draw.
"""

import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from froster.backbones.build import new_backbone
from froster.bench import puppets as bench
from froster.data.puppets import ACTIONS, draw_video_and_mask
from froster.explanation import Kind, relevance_maps, share_on
from froster.markdown import markdown_table
from froster.models import PUPPETS, load_model
from froster.students import VideoStudent, build_student
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.video.sampling import uniform_indices
from froster.video.transforms import Preprocessing

SEED, VIDEOS = 8_000_000, 2  # of each action
LENGTH, SIDE = 16, 72  # frames and pixels of the drawn videos, as those that are trained on
COLUMNS = ("attention", "rollout", "gradient", "another label", "of two actions")


def train_students(folder: Path) -> dict[str, Path]:
    """Fine-tuned VCLIP and FROSTER, as in the demo."""
    jobs = [bench.Job("hard", method, 0, bench.HARD_RATE) for method in ("fine_tuned", "residual")]
    setup = bench.Setup(folder / "work", bench.TEST_SEED, 1, models=folder)
    bench.run_jobs(jobs, setup, processes=2, done=lambda job, _: print(f"trained: {job.name}", file=sys.stderr))
    return {"fine-tuned": folder / "fine_tuned.safetensors", "FROSTER": folder / "froster_averaged.safetensors"}


def random_clip() -> VideoStudent:
    torch.manual_seed(0)
    return build_student("frame_clip", new_backbone(load_model(PUPPETS).config)).eval()


def test_video(seed: int, action: int, frames: int, size: int) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """What a model sees `(T, 3, S, S)`, and where the figure is in it `(T, SIDE, SIDE)`."""
    video, mask = draw_video_and_mask(seed, action, LENGTH, SIDE)
    chosen = uniform_indices(np.arange(LENGTH, dtype=np.float64), float(LENGTH), frames=frames, views=1)[0]
    return Preprocessing(size)(torch.from_numpy(video[chosen])), mask[chosen]


def share_of_two(model: VideoStudent, seed: int, action: int, other: int, classes: torch.Tensor) -> float:
    """The share of the gradient's map on the left half, where the action is done; on the right the other one is."""
    halves = [test_video(seed, shown, bench.FRAMES, model.config.image_size)[0] for shown in (action, other)]
    maps = relevance_maps(model, torch.cat(halves, dim=-1), "gradient", classes, action)
    return float(maps[..., : maps.shape[-1] // 2].sum() / maps.sum())


def shares(model: VideoStudent) -> dict[str, list[float]]:
    """The share of the maps on the figure for each of the videos, in percent, under the names of `COLUMNS`."""
    classes = encode_classes(model, check_labels(ACTIONS))
    found: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for action in range(len(ACTIONS)):
        for seed in range(SEED, SEED + VIDEOS):
            frames, mask = test_video(seed, action, bench.FRAMES, model.config.image_size)
            wrong = (action + len(ACTIONS) // 2) % len(ACTIONS)
            for kind in get_args(Kind):
                found[kind].append(100 * share_on(mask, relevance_maps(model, frames, kind, classes, action)))
            found["another label"].append(
                100 * share_on(mask, relevance_maps(model, frames, "gradient", classes, wrong))
            )
            found["of two actions"].append(100 * share_of_two(model, seed, action, wrong, classes))
    return found


def mean_and_error(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.1f}".replace("-", "−")


def main(named: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trained = {name: load_model(path) for name, path in (named or train_students(Path(folder))).items()}
    models = {"frozen CLIP": load_model(PUPPETS), **trained, "random weights": random_clip()}
    found = {name: shares(model) for name, model in models.items()}
    rows = [[name, *(mean_and_error(of_model[column]) for column in COLUMNS)] for name, of_model in found.items()]
    first = next(iter(trained))
    for name in (name for name in trained if name != first):
        gains = {column: np.subtract(found[name][column], found[first][column]).tolist() for column in COLUMNS}
        rows.append([f"{name} less {first}", *(mean_and_error(gains[column]) for column in COLUMNS)])
    config = models["frozen CLIP"].config
    patches = config.image_size // config.patch_size
    areas, ideals = [], []
    for action in range(len(ACTIONS)):
        for seed in range(SEED, SEED + VIDEOS):
            _, mask = test_video(seed, action, bench.FRAMES, SIDE)
            areas.append(100 * float(mask.mean()))
            covered = mask.reshape(len(mask), patches, SIDE // patches, patches, SIDE // patches).mean(axis=(2, 4))
            ideals.append(100 * share_on(mask, covered))
    print(
        f"{len(areas)} videos; the figure is {mean_and_error(areas)} % of the area. Maps that follow what it covers of "
        f"each of the {patches} x {patches} patches would have {mean_and_error(ideals)} %.\n"
    )
    print(markdown_table(["share on the figure (%)", *COLUMNS], rows))


if __name__ == "__main__":
    main({name: Path(path) for name, _, path in (argument.partition("=") for argument in sys.argv[1:])})
