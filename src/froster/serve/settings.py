"""Settings of a server, and checks that they are safe."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from froster.errors import FrosterError
from froster.settings import InferenceSettings

UNITS = {"": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


@dataclass(frozen=True)
class ServeSettings:
    """What `create_app` builds.

    `models`: what `load_model` takes, the first is the default. `host`: where the server listens; it decides which
    requests are believed to come from this machine. `root_path`: the prefix below which a reverse proxy shows the
    server, such as "/froster"; requests may come with it or without it. `token`: what clients must send, "" for none.
    `folder`: whose files `path` may name, None for no files at all. Limits: `max_upload` bytes, `max_seconds` of video,
    `max_labels`, and `queue` requests at a time. `batch`: videos that go through the network together. `templates`:
    prompts, by the name in `models`, of those models that have others than their student's. `backbone`: what bare
    weights files do not say of their backbone, as for `load_model`.

    Raises `FrosterError` for a host other machines can reach without a token, a `root_path` of another form, and
    limits below 1.
    """

    models: tuple[str, ...] = ("puppets",)
    host: str = "127.0.0.1"
    root_path: str = ""
    token: str = ""
    folder: Path | None = None
    max_upload: int = 200 * UNITS["MB"]
    max_seconds: float = 600.0
    max_labels: int = 1000
    queue: int = 64
    batch: int = 8
    device: str = "auto"
    precision: str = "auto"
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.is_local and not self.token:
            raise FrosterError(
                f"On {self.host} other machines can reach the server: set a token, with `token=` or the "
                "environment variable FROSTER_TOKEN, or leave out `host=`."
            )
        if not (self.token.isascii() and (self.token.isprintable() and " " not in self.token)):
            raise FrosterError("The token must be ASCII letters, digits and signs, without spaces.")
        if not re.fullmatch(r"(/[\w.~-]+)*", self.root_path, re.ASCII):
            raise FrosterError(
                f"{self.root_path!r} is not a path prefix: `root_path=` starts with / and does not end with it, "
                "like /froster."
            )
        if self.folder is not None and not self.folder.is_dir():
            raise FrosterError(f"There is no folder {self.folder}.")
        if min(self.max_upload, self.max_seconds, self.max_labels, self.queue, self.batch) < 1:
            raise FrosterError("max-upload, max-seconds, max-labels, queue and batch must be 1 or more.")

    def inference(self, model: str) -> InferenceSettings:
        """How one of the models is run."""
        return InferenceSettings(
            backbone=self.backbone,
            templates=self.templates.get(model),
            device=self.device,
            precision=self.precision,
        )

    @property
    def is_local(self) -> bool:
        """Whether the server listens on localhost only."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_size(text: str) -> int:
    """Bytes of `"200MB"`, `"1.5 GB"` or `"5000"`. Raises `FrosterError` for other forms."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B?)", text.strip().upper())
    if not found:
        raise FrosterError(f"{text!r} is not a size; write it like 200MB or 1.5GB.")
    number, unit = found.groups()
    return int(float(number) * UNITS["" if unit in ("", "B") else f"{unit.removesuffix('B')}B"])


def show_size(size: int) -> str:
    """`200 MB` of 200,000,000."""
    unit, factor = next((pair for pair in reversed(UNITS.items()) if size >= pair[1]), ("", 1))
    return f"{size / factor:g} {unit or 'bytes'}"
