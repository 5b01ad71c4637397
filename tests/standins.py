"""Small stand-ins of the field's datasets: puppet videos in every layout that people keep, with lists as published."""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np

from froster.data.puppets import draw_video
from froster.data.puppets.files import write_mp4

CODECS = {".avi": "mpeg4", ".webm": "libvpx"}
UCF_CLASSES = {"ApplyEyeMakeup": "apply eye makeup", "HandstandPushups": "handstand pushups", "YoYo": "yo yo"}
HMDB_CLASSES = {"brush_hair": "brush hair", "kick": "kick", "kick_ball": "kick ball"}
KINETICS_CLASSES = ("abseiling", "arm wrestling", "petting animal (not cat)")
SSV2_TEMPLATES = ("Holding [something] next to [something]", "Moving [something] up")


@dataclass(frozen=True)
class Standin:
    """A dataset on the disk: `root` is what `froster data check` is given.

    `labels`: the class of every video by its path under the root. `splits`: how many videos the lists, or the folders,
    put into each split.
    """

    root: Path
    dataset: str
    labels: dict[str, str]
    splits: dict[str, int]


@cache
def video_bytes(suffix: str = ".mp4", frames: int = 4) -> bytes:
    """A video of `frames` 32x32 pictures at 8 a second, drawn once."""
    video = draw_video(0, 0, frames, 32, "easy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"puppet{suffix}"
        if suffix in CODECS:
            write_other(path, video)
        else:
            write_mp4(path, video, 8)
        return path.read_bytes()


def write_other(path: Path, video: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=8)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def put_video(path: Path, frames: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(video_bytes(path.suffix, frames))


def put_text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def ucf_lists(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Lists of six videos a class, two of them for testing in each split; names to labels, and counts."""
    labels, splits = {}, Counter[str]()
    lists = {f"{part}{split}": list[str]() for split in (1, 2, 3) for part in ("train", "test")}
    for number, (name, label) in enumerate(UCF_CLASSES.items(), start=1):
        for group in range(1, 7):
            # The real set spells its folder HandstandPushups and its files HandStandPushups.
            file = f"{name}/v_{name.replace('stand', 'Stand')}_g{group:02}_c01.avi"
            labels[file] = label
            for split in (1, 2, 3):
                part = "test" if (group + 1) // 2 == split else "train"
                lists[f"{part}{split}"].append(f"{file} {number}" if part == "train" else file)
    for name, lines in lists.items():
        put_text(folder / f"{name[:-1]}list0{name[-1]}.txt", lines)
        splits[name] = len(lines)
    put_text(folder / "classInd.txt", [f"{number} {name}" for number, name in enumerate(UCF_CLASSES, start=1)])
    return labels, dict(splits)


def ucf_official(folder: Path) -> Standin:
    """UCF-101/CLASS/v_CLASS_g01_c01.avi, with ucfTrainTestlist beside it."""
    labels, splits = ucf_lists(folder / "ucfTrainTestlist")
    for file in labels:
        put_video(folder / "UCF-101" / file)
    return Standin(folder / "UCF-101", "ucf-101", labels, splits)


def ucf_flat(folder: Path) -> Standin:
    """All videos in one folder, as mp4, the lists in annotations."""
    labels, splits = ucf_lists(folder / "annotations")
    flat = {f"videos/{Path(file).stem}.mp4": label for file, label in labels.items()}
    for file in flat:
        put_video(folder / file)
    return Standin(folder, "ucf-101", flat, splits)


def hmdb_official(folder: Path) -> Standin:
    """CLASS/NAME.avi, with a list for every class and split: 1 to train, 2 to test, 0 for neither."""
    labels, splits = {}, Counter[str]()
    for name, label in HMDB_CLASSES.items():
        files = [f"April_09_{name}_u_nm_np1_ba_goo_{number}.avi" for number in range(4)]
        for split in (1, 2, 3):
            parts = [1, 1, 1, 2] if split < 3 else [1, 2, 0, 0]
            rows = [f"{file} {part} " for file, part in zip(files, parts, strict=True)]
            put_text(folder / "testTrainMulti_7030_splits" / f"{name}_test_split{split}.txt", rows)
            splits[f"train{split}"] += parts.count(1)
            splits[f"test{split}"] += parts.count(2)
        labels |= {f"{name}/{file}": label for file in files}
    for file in labels:
        put_video(folder / "hmdb51_org" / file)
    return Standin(folder / "hmdb51_org", "hmdb-51", labels, dict(splits))


@dataclass(frozen=True)
class KineticsClip:
    label: str
    id: str
    split: str
    start: int = 55
    end: int = 65

    @property
    def name(self) -> str:
        return f"{self.id}_{self.start:06}_{self.end:06}"


def kinetics_clips(splits: Iterable[str] = ("train", "val")) -> list[KineticsClip]:
    """Three clips a class for training, one for anything else; ids as YouTube has them, eleven characters."""
    return [
        KineticsClip(label, f"-{split[:2]}{place}_xY{number:04}", split)
        for split in splits
        for place, label in enumerate(KINETICS_CLASSES)
        for number in range(3 if split == "train" else 1)
    ]


def kinetics_list(path: Path, clips: Iterable[KineticsClip]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
        for clip in clips:
            split = {"val": "validate"}.get(clip.split, clip.split)
            rows.writerow((clip.label, clip.id, clip.start, clip.end, split, 0))


def kinetics(folder: Path, place: Callable[[KineticsClip], str], lists: str | None) -> Standin:
    """Clips at `place`; `lists`: the path of an annotation file, `{}` for the split."""
    clips = kinetics_clips()
    for clip in clips:
        put_video(folder / place(clip))
    splits = Counter(clip.split for clip in clips)
    for split in splits if lists else ():
        kinetics_list(folder / lists.format(split), [clip for clip in clips if clip.split == split])
    return Standin(folder, "kinetics-400", {place(clip): clip.label for clip in clips}, dict(splits))


def underscored(name: str) -> str:
    return name.replace(" ", "_")


def kinetics_mmaction(folder: Path) -> Standin:
    """videos_train/CLASS/ID_000055_000065.mp4, annotations/kinetics_train.csv."""
    return kinetics(
        folder,
        lambda clip: f"videos_{clip.split}/{underscored(clip.label)}/{clip.name}.mp4",
        "annotations/kinetics_{}.csv",
    )


def kinetics_openmmlab(folder: Path) -> Standin:
    """videos/train/ID_000055_000065.mp4, without class folders."""
    return kinetics(folder, lambda clip: f"videos/{clip.split}/{clip.name}.mp4", "annotations/kinetics_{}.csv")


def kinetics_cvdf(folder: Path) -> Standin:
    """train/ID_000055_000065.mp4, annotations/train.csv."""
    return kinetics(folder, lambda clip: f"{clip.split}/{clip.name}.mp4", "annotations/{}.csv")


def kinetics_compressed(folder: Path) -> Standin:
    """The copy of 256 pixels: train_256/CLASS/ID_000055_000065.mp4 with underscores, and no lists."""
    return kinetics(folder, lambda clip: f"{clip.split}_256/{underscored(clip.label)}/{clip.name}.mp4", None)


def kinetics_spaces(folder: Path) -> Standin:
    """train/CLASS/ID_000055_000065.mkv, the classes with their spaces and brackets."""
    return kinetics(folder, lambda clip: f"{clip.split}/{clip.label}/{clip.name}.mp4", None)


def ssv2(folder: Path) -> Standin:
    """20bn-something-something-v2/123.webm, labels/train.json; the test list has no labels, the answers have."""
    labels, entries = {}, {"train": [], "validation": [], "test": []}
    answers = list[str]()
    for number in range(10):
        template = SSV2_TEMPLATES[number % 2]
        split = "test" if number > 7 else "validation" if number > 5 else "train"
        video = str(100 + number)
        entry = {"id": video, "label": template.replace("[something]", "a cup").lower(), "template": template}
        entry |= {"placeholders": ["a cup"] * template.count("[")}
        entries[split].append({"id": video} if split == "test" else entry)
        if split == "test":
            answers.append(f"{video};{template.replace('[', '').replace(']', '')}")
        label = template.replace("[", "").replace("]", "").lower()
        labels[f"{video}.webm"] = label
        put_video(folder / "20bn-something-something-v2" / f"{video}.webm")
    for split, content in entries.items():
        put_text(folder / "labels" / f"{split}.json", [json.dumps(content)])
    put_text(folder / "labels" / "test-answers.csv", answers)
    templates = {name.replace("[", "").replace("]", ""): str(place) for place, name in enumerate(SSV2_TEMPLATES)}
    put_text(folder / "labels" / "labels.json", [json.dumps(templates)])
    return Standin(folder / "20bn-something-something-v2", "ssv2", labels, {"train": 6, "val": 2, "test": 2})


def class_folders(folder: Path) -> Standin:
    """One's own: brush_hair, "shake hands" and push-ups, nothing else."""
    labels = {"brush_hair": "brush hair", "shake hands": "shake hands", "push-ups": "push ups"}
    files = {f"{name}/{number}.mp4": label for name, label in labels.items() for number in range(3)}
    for file in files:
        put_video(folder / file)
    return Standin(folder, "folder", files, {})


def split_folders(folder: Path) -> Standin:
    """One's own: train, val and test above the class folders."""
    labels = {"brush_hair": "brush hair", "shake hands": "shake hands"}
    files = {
        f"{split}/{name}/{split}{number}.mp4": label
        for split, videos in (("train", 3), ("val", 1), ("test", 2))
        for name, label in labels.items()
        for number in range(videos)
    }
    for file in files:
        put_video(folder / file)
    return Standin(folder, "folder", files, {"train": 6, "val": 2, "test": 4})


STANDINS: dict[str, Callable[[Path], Standin]] = {
    make.__name__: make
    for make in (
        ucf_official,
        ucf_flat,
        hmdb_official,
        kinetics_mmaction,
        kinetics_openmmlab,
        kinetics_cvdf,
        kinetics_compressed,
        kinetics_spaces,
        ssv2,
        class_folders,
        split_folders,
    )
}
