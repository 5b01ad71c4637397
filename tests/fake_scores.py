"""Stand-ins for trained networks and their scores: the protocols' own arithmetic, without videos."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from froster.data.manifests import LabeledVideo
from froster.data.trained import TrainedVideos
from froster.protocols.scores import Scores
from froster.text.classes import ClassTexts


class FakeScores:
    """Scores that no network made.

    The class of a video called `right-…` is the best one, that of `fifth-…` the fifth, any other's the last.
    The model of a second draw is right about every video. `calls` are the arguments of every scoring.
    """

    def __init__(self, unreadable: tuple[str, ...] = ()) -> None:
        self.unreadable = unreadable
        self.calls: list[tuple[Any, ...]] = []

    def score(self, labels: ClassTexts, videos: Sequence[LabeledVideo], all_right: bool = False) -> Scores:
        names, readable = list(labels), [video for video in videos if video.path.name not in self.unreadable]
        values = torch.linspace(0.5, 0.1, len(names)).repeat(len(readable), 1)
        for row, video in zip(values, readable, strict=True):
            kind, place = video.path.name.partition("-")[0], names.index(video.label)
            others = row[torch.arange(len(names)) != place]
            row[place] = 1.0 if kind == "right" or all_right else others[3:5].mean() if kind == "fifth" else 0.0
        return Scores(values, readable, names, [(name, "no video") for name in self.unreadable], [])

    def score_with_ensemble(self, model: Any, labels: ClassTexts, videos: Any, *more: Any) -> Scores:
        self.calls.append((model, labels, videos, *more))
        return self.score(labels, videos, all_right=getattr(model, "number", 0) == 1)

    def score_dataset(self, models: Sequence[Any], labels: ClassTexts, videos: Any, *more: Any) -> list[Scores]:
        self.calls.append((models, labels, videos, *more))
        return [self.score(labels, videos) for _ in models]


@dataclass
class FakeSource:
    """Notes the runs that it is asked for, instead of training them."""

    is_trained: bool = True
    trained_on: TrainedVideos | None = None
    runs: list[tuple[Path, list[LabeledVideo], int]] = field(default_factory=list)

    def load(self, folder: Path, videos: Sequence[LabeledVideo] = (), number: int = 0) -> SimpleNamespace:
        self.runs.append((folder, list(videos), number))
        return SimpleNamespace(trained_on=self.trained_on, number=number)


def fake_videos(*rows: str) -> list[LabeledVideo]:
    """`"right-1 running test1 train2"`: file name, class and splits."""
    return [LabeledVideo(Path(row.split()[0]), row.split()[1], tuple(row.split()[2:])) for row in rows]
