"""OpenAI's releases, which are on no hub: downloaded once, resumed, checked, kept in the cache."""

import hashlib
import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from froster.errors import WeightsError
from froster.files import WriteError, cache_dir, replace_when_written, writing
from froster.progress import ProgressBar

HOST = "https://openaipublic.azureedge.net/clip/models"
RELEASES: dict[str, tuple[str, str]] = {  # name: (SHA-256, which is also the folder in the official URL; file)
    "vit-b-32": ("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "ViT-B-32.pt"),
    "vit-b-16": ("5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", "ViT-B-16.pt"),
    "vit-l-14": ("b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", "ViT-L-14.pt"),
    "vit-l-14-336": ("3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", "ViT-L-14-336px.pt"),
}
CHUNK = 1 << 20


def find_release(name: str) -> Path | None:
    """The file of the release `name` if this user has it whole: in froster's cache or in that of OpenAI's package."""
    digest, file = RELEASES[name]
    for path in (cache_dir() / "clip" / file, Path.home() / ".cache" / "clip" / file):
        if path.is_file() and is_official(path, digest):
            return path
    return None


def fetch_release(name: str) -> Path:
    """The release file of `name`, downloaded first if need be.

    An interrupted download is resumed, and only a file with the official SHA-256 is kept. Raises
    `WeightsError` without a network (it says which file to put where) or when the content is not the official one.
    """
    if found := find_release(name):
        return found
    digest, file = RELEASES[name]
    target = cache_dir() / "clip" / file
    partial = target.with_name(f"{file}.partial")
    url = f"{HOST}/{digest}/{file}"
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{file}.lock")):  # two processes must not write one download
            if found := find_release(name):
                return found
            download(url, partial)
            if sha256(partial) != digest:
                partial.unlink()
                raise WeightsError(f"What {url} sent is not the official file of {name} (SHA-256 differs); try again.")
            partial.replace(target)
            mark_official(target, digest)
    except WriteError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        wrong = " The file that is there is not the official one." if target.exists() else ""
        raise WeightsError(
            f"Cannot fetch {name} ({reason}). Download {url} on a machine with a network and put it at {target}.{wrong}"
        ) from error
    return target


def is_official(path: Path, digest: str) -> bool:
    """Whether the content of `path` has the SHA-256 `digest`; computed once for each state of the file."""
    with suppress(OSError):
        if record_of(digest).read_text(encoding="utf-8") == state_of(path, digest):
            return True
    if sha256(path) != digest:
        return False
    mark_official(path, digest)
    return True


def mark_official(path: Path, digest: str) -> None:
    """Remember that the file at `path`, as it is now, has been checked."""
    with suppress(OSError), replace_when_written(record_of(digest)) as temporary:
        temporary.write_text(state_of(path, digest), encoding="utf-8")


def record_of(digest: str) -> Path:
    return cache_dir() / "checked" / digest


def state_of(path: Path, digest: str) -> str:
    file = path.stat()
    return f"{path} {file.st_size} {file.st_mtime_ns} {digest}"


def download(url: str, partial: Path) -> None:
    """Fetch `url` into `partial` with a progress bar, after the bytes that are there already.

    Raises `WriteError` where they cannot be stored; downloaded parts are kept, to resume from.
    """
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # it was complete
            return
        raise
    resumed = response.status == http.client.PARTIAL_CONTENT
    done = start = have if resumed else 0
    length = int(response.headers.get("Content-Length") or 0)
    progress = ProgressBar(url.rsplit("/", 1)[-1], start + length or None, start, "bytes")
    with response, progress as bar, writing(partial), partial.open("ab" if resumed else "wb") as out:
        while chunk := response.read(CHUNK):
            out.write(chunk)
            done += len(chunk)
            bar.update(done)
    if length and partial.stat().st_size < start + length:
        raise OSError(f"the connection broke after {partial.stat().st_size} of {start + length} bytes")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
