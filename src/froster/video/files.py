"""Find videos from files, folders and glob patterns."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from froster.errors import VideoError
from froster.files import is_dead_link
from froster.video.images import IMAGE_SUFFIXES, folder_images, natural_key
from froster.video.jpegs import JPEGS_SUFFIX

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".3gpp", ".amv", ".asf", ".av1", ".avc", ".avi", ".dif", ".divx", ".dv", ".f4v",
    ".flv", ".gif", ".gifv", ".h264", ".h265", ".hevc", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v",
    ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg",
    ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".swf", ".tod",
    ".tp", ".trp", ".ts", ".vob", ".vro", ".webm", ".wmv", ".wtv", ".xvid", ".y4m",
})
# fmt: on
FILE_SUFFIXES = VIDEO_SUFFIXES | {JPEGS_SUFFIX}  # packed videos are files of one's own disk, never uploads


def find_videos(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The videos that match `paths`, in the given order, without duplicates.

    A file is taken whatever its suffix. A folder is searched through all its levels for files with a video's
    suffix, in natural order, hidden ones left out; dead links are included, so that whoever
    opens them says so. A folder that directly holds images, no video and no folder, is one video. A name with `*`,
    `?` or `[` that does not exist is a pattern (`**` for all levels).
    Raises `VideoError` for a name that does not exist, and for a folder or pattern that yields nothing.
    """
    found: dict[Path, None] = {}
    for name in paths:
        if not str(name):
            raise VideoError("''", "the name is empty")
        path = Path(os.path.expanduser(name))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
        if path.exists():
            found |= dict.fromkeys(_videos_in(path, named=True))
        elif glob.has_magic(str(path)):
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
            matches = sorted(map(Path, names), key=natural_key)
            videos = [video for match in matches for video in _videos_in(match, named=False)]
            if not videos:
                raise VideoError(name, "no video matches this pattern")
            found |= dict.fromkeys(videos)
        else:
            raise VideoError(name, "there is no such file or folder")
    return list(found)


def _videos_in(path: Path, *, named: bool) -> list[Path]:
    if not path.is_dir():
        return [path] if named or path.suffix.lower() in FILE_SUFFIXES | IMAGE_SUFFIXES else []
    try:
        videos = list(_search(path))
    except PermissionError as error:
        raise VideoError(error.filename, "cannot be opened, permission denied") from error
    if named and not videos:
        raise VideoError(path, "the folder contains no video and is not a folder of images")
    return videos


def _search(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    above = (*above, folder.resolve())
    entries = sorted((e for e in folder.iterdir() if not e.name.startswith(".")), key=natural_key)
    folders = [entry for entry in entries if entry.is_dir()]
    videos = [entry for entry in entries if _is_video(entry)]
    if not folders and not videos and folder_images(folder):
        yield folder
    yield from videos
    for inner in folders:
        if inner.resolve() not in above:  # a link to a parent would recurse forever
            yield from _search(inner, above)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in FILE_SUFFIXES and (path.is_file() or is_dead_link(path))
