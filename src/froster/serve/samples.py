"""Six sample clips (puppets), rendered on first use and cached on disk."""

from pathlib import Path
from threading import Lock

from PIL import Image

from froster.data.puppets import action_index, draw_video
from froster.data.puppets.files import write_mp4
from froster.files import cache_dir, replace_when_written
from froster.serve.errors import RequestError
from froster.video import decode_frames

ACTIONS = ("skipping rope", "juggling balls", "climbing a ladder", "riding a bicycle", "bowing", "crawling")
OTHERS = ("walking", "kicking", "fishing")
SEED = 7_000_000  # not among the training or test clips
FRAMES, RATE, SIDE = 48, 16, 256

drawing = Lock()


def list_samples() -> list[dict[str, object]]:
    """The content of `/v1/samples`, without rendering. URLs are relative, since a proxy may add a prefix."""
    return [
        {
            "name": name,
            "title": action.capitalize(),
            "labels": [*ACTIONS, *OTHERS],
            "video": f"../samples/{name}.mp4",
            "picture": f"../samples/{name}.jpg",
        }
        for name, action in named_actions().items()
    ]


def sample_file(name: str, suffix: str) -> Path:
    """The video (`.mp4`) or thumbnail (`.jpg`) of a sample, rendered if needed. Raises `RequestError`."""
    actions = named_actions()
    if name not in actions or suffix not in (".mp4", ".jpg"):
        raise RequestError(404, "unknown_sample", f"There is no sample {name!r}; there are {', '.join(actions)}.")
    video = cache_dir() / "samples" / f"{name}-{SEED}.mp4"
    picture = video.with_suffix(".jpg")
    with drawing:
        if not video.is_file():
            write_mp4(video, draw_video(SEED, action_index(actions[name]), FRAMES, SIDE, "easy"), RATE)
        if suffix == ".jpg" and not picture.is_file():
            save_thumbnail(video, picture)
    return video if suffix == ".mp4" else picture


def named_actions() -> dict[str, str]:
    return {action.replace(" ", "-"): action for action in ACTIONS}


def save_thumbnail(video: Path, picture: Path) -> None:
    middle = decode_frames(video, [FRAMES // 2]).frames[0]
    with replace_when_written(picture) as temporary:
        Image.fromarray(middle).save(temporary, "JPEG", quality=85)
