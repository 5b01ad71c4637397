"""The papers' five datasets in miniature: puppets in the official layouts, with the official names, lists and splits.

Every class has a few videos. Files with the same puppet are links to one drawing; training videos of Kinetics, of the
other datasets, and test videos are different drawings.
"""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import av

from froster.data.check import check_data
from froster.data.datasets import DATASETS
from froster.data.puppets import ACTIONS, draw_video
from froster.data.puppets.files import write_mp4
from froster.data.vocabularies import read_vocabulary

SIZE, FRAMES, RATE = 64, 6, 8
CODECS = {".avi": "mpeg4", ".webm": "libvpx"}
SPLITS = (1, 2, 3)


class Drawings:
    """Puppet videos by pool and action, each drawn once."""

    def __init__(self, folder: Path, actions: int = len(ACTIONS)) -> None:
        self.folder, self.actions = folder, actions
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, path: Path, pool: int, place: int) -> None:
        """The drawing of a class, the `place`-th of its dataset, as `path`."""
        action = place % self.actions
        source = self.folder / f"{pool}-{action}{path.suffix}"
        if not source.exists():
            video = draw_video(1000 * pool + action, action, FRAMES, SIZE)
            if path.suffix == ".mp4":
                write_mp4(source, video, RATE)
            else:
                with av.open(str(source), "w") as container:
                    stream = container.add_stream(CODECS[path.suffix], rate=RATE)
                    stream.height, stream.width, stream.pix_fmt = SIZE, SIZE, "yuv420p"
                    for frame in video:
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                    container.mux(stream.encode())
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)


KINETICS_TRAINING, TRAINING, TEST = range(3)  # pools


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def draw_ucf(folder: Path, drawings: Drawings, classes: int | None) -> Path:
    """UCF-101/CLASS/v_CLASS_g01_c01.avi, and ucfTrainTestlist; each class has a test video in each split, and one more.

    As in the official lists, what one split tests the others train on.
    """
    names = read_vocabulary("ucf-101")[:classes]
    lists = {f"{part}list0{split}": list[str]() for part in ("train", "test") for split in SPLITS}
    for place, name in enumerate(names):
        camel = "".join(word.capitalize() for word in name.split())
        for group in (1, 2, 3, 4):
            file = f"{camel}/v_{camel}_g{group:02}_c01.avi"
            drawings.put(folder / "UCF-101" / file, TEST if group == 1 else TRAINING, place)
            for split in SPLITS:
                tested = group == split
                lists[f"{'test' if tested else 'train'}list0{split}"].append(file if tested else f"{file} {place + 1}")
    for name, lines in lists.items():
        write_lines(folder / "ucfTrainTestlist" / f"{name}.txt", lines)
    return folder / "UCF-101"


def draw_hmdb(folder: Path, drawings: Drawings, classes: int | None) -> Path:
    """hmdb51_org/CLASS/NAME.avi; in each split two videos train, one tests and one is in neither list."""
    for place, name in enumerate(read_vocabulary("hmdb-51")[:classes]):
        own = name.replace(" ", "_")
        files = [f"Movie_{own}_u_nm_np1_ba_goo_{number}.avi" for number in range(4)]
        for number, file in enumerate(files):
            drawings.put(folder / "hmdb51_org" / own / file, TEST if number == 0 else TRAINING, place)
        for split, parts in zip(SPLITS, ((2, 1, 1, 0), (0, 2, 1, 1), (1, 0, 2, 1)), strict=True):
            rows = [f"{file} {part} " for file, part in zip(files, parts, strict=True)]
            write_lines(folder / "testTrainMulti_7030_splits" / f"{own}_test_split{split}.txt", rows)
    return folder / "hmdb51_org"


def draw_kinetics(folder: Path, drawings: Drawings, names: Sequence[str]) -> Path:
    """train/ID_000055_000065.mp4 and annotations/train.csv, the same with val: one video a class in each."""
    for split, pool in (("train", KINETICS_TRAINING), ("val", TEST)):
        rows = [("label", "youtube_id", "time_start", "time_end", "split", "is_cc")]
        for place, name in enumerate(names):
            video = f"-{split[:2]}_xY{place:05}"
            rows.append((name, video, "55", "65", {"val": "validate"}.get(split, split), "0"))
            drawings.put(folder / split / f"{video}_000055_000065.mp4", pool, place)
        path = folder / "annotations" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return folder


def draw_kinetics_400(folder: Path, drawings: Drawings, classes: int | None) -> Path:
    return draw_kinetics(folder, drawings, read_vocabulary("kinetics-400")[:classes])


def draw_kinetics_600(folder: Path, drawings: Drawings, classes: int | None) -> Path:
    """The classes that Kinetics-400 lacks."""
    return draw_kinetics(folder, drawings, read_vocabulary("kinetics-600-new")[:classes])


def draw_ssv2(folder: Path, drawings: Drawings, classes: int | None) -> Path:
    """20bn-something-something-v2/123.webm and labels/train.json, validation.json; one video a class in each."""
    entries: dict[str, list[dict[str, str]]] = {"train": [], "validation": []}
    for place, name in enumerate(read_vocabulary("ssv2")[:classes]):
        for split, pool in (("train", TRAINING), ("validation", TEST)):
            video = str(2 * place + (split == "validation") + 1)
            entries[split].append({"id": video, "label": name, "template": name})
            drawings.put(folder / "20bn-something-something-v2" / f"{video}.webm", pool, place)
    for split, content in entries.items():
        write_lines(folder / "labels" / f"{split}.json", [json.dumps(content)])
    return folder / "20bn-something-something-v2"


DRAW: dict[str, Callable[[Path, Drawings, int | None], Path]] = {
    "ucf-101": draw_ucf,
    "hmdb-51": draw_hmdb,
    "kinetics-400": draw_kinetics_400,
    "kinetics-600": draw_kinetics_600,
    "ssv2": draw_ssv2,
}


def draw_datasets(folder: Path, classes: dict[str, int | None], actions: int = len(ACTIONS)) -> Path:
    """Draw and check these datasets, each with its first classes (None: all); returns the folder of manifests."""
    drawings = Drawings(folder / "drawings", actions)
    for name, number in classes.items():
        root = DRAW[name](folder / name, drawings, number)
        check_data(DATASETS[name], root, [], folder / "manifests" / f"{name}.csv")
    return folder / "manifests"
