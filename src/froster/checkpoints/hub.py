"""Models of the Hugging Face hub, through the library huggingface_hub: it resumes, caches, knows the user's token.

What was fetched once is used from then on without a network: a name stays the same weights until its folder in the
cache is deleted. The environment variables of the library hold here too: HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN,
HF_HOME, HF_HUB_CACHE.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from froster.checkpoints.folders import FOLDER_LAYOUTS, SUFFIXES
from froster.checkpoints.openai import is_official
from froster.errors import FrosterError, WeightsError
from froster.files import cache_dir, replace_when_written, writing

PREFIX = "hf:"
REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[^@]+))?")
DESCRIPTIONS = ("open_clip_config.json", "config.json", "preprocessor_config.json", "tokenizer.json")
SHA256 = re.compile(r"[0-9a-f]{64}")  # the hub names large files in its cache by it


class HubError(WeightsError):
    """The hub cannot be reached, or refuses."""


@dataclass(frozen=True)
class HubReference:
    """A model on the hub: `repository` as owner/name; without a `file` its only weights, `revision` is usually main."""

    repository: str
    file: str | None = None
    revision: str = "main"

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{PREFIX}{self.repository}{file}" + f"@{self.revision}" * (self.revision != "main")


def parse_reference(text: str) -> HubReference:
    """`hf:owner/name`, with `/FILE` behind it where there are several, and `@REVISION`. Raises `WeightsError`."""
    found = REFERENCE.fullmatch(text)
    if not found or ".." in text:
        raise WeightsError(f"{text!r} is not hf:owner/name, hf:owner/name@revision or hf:owner/name/FILE.")
    return HubReference(found["repository"], found["file"], found["revision"] or "main")


def fetch_from_hub(reference: HubReference, usual_file: str | None = None) -> Path:
    """The weights file of a model on the hub, with the descriptions of the model beside it; downloaded if need be.

    `usual_file`: which of several weights files to take where the reference names none. Raises `WeightsError` that says
    what to do for an unknown or closed repository, without a network, and where what was sent is not what it should be.
    """
    if known := recorded(reference):
        return known
    try:
        with writing(hub_cache()):
            hub_cache().mkdir(parents=True, exist_ok=True)
        with FileLock(record_of(reference, "lock")):  # two processes must not download one model
            weights = recorded(reference) or download(reference, usual_file)
    except HubError:
        if found := find_in_hub_cache(reference, usual_file):  # fetched by another program, or copied there
            return found
        raise
    return weights


def find_in_hub_cache(reference: HubReference, usual_file: str | None = None) -> Path | None:
    """The weights file of a model of the hub if it is in the hub's cache, whoever put it there; nothing is fetched."""
    if known := recorded(reference):
        return known
    folder = repository_folder(reference)
    with suppress(OSError, FrosterError):
        refs = folder / "refs" / reference.revision
        commit = refs.read_text(encoding="utf-8").strip() if refs.is_file() else reference.revision
        snapshot = folder / "snapshots" / commit
        names = [path.relative_to(snapshot).as_posix() for path in sorted(snapshot.rglob("*")) if path.is_file()]
        weights = snapshot / choose_weights(names, reference, usual_file)
        check_whole([weights], reference)
        return weights
    return None


def download(reference: HubReference, usual_file: str | None) -> Path:
    """Fetch the descriptions and then the weights, check them and remember them."""
    from huggingface_hub import HfApi, hf_hub_download

    repository, revision = reference.repository, reference.revision
    with explaining(reference, usual_file):
        listed = HfApi().model_info(repository, revision=revision).siblings or []
        names = [file.rfilename for file in listed]
        weights = choose_weights(names, reference, usual_file)
        wanted = [*descriptions_of(weights, names), *shards_of(weights, names), weights]
        paths = [Path(hf_hub_download(repository, name, revision=revision)) for name in wanted]
    if len({path_of_snapshot(path, name) for path, name in zip(paths, wanted, strict=True)}) > 1:
        raise WeightsError(f"{reference} was changed on the hub while it was being downloaded; try again.")
    check_whole(paths, reference)
    with replace_when_written(record_of(reference, "json")) as temporary:
        temporary.write_text(json.dumps({"weights": str(paths[-1])}), encoding="utf-8")
    return paths[-1]


def choose_weights(names: Sequence[str], reference: HubReference, usual_file: str | None) -> str:
    """Which file of a repository to load. Raises `WeightsError` where there is none, or several of unknown names."""
    weights = sorted(name for name in names if name.endswith(SUFFIXES) or name in FOLDER_LAYOUTS)
    if reference.file:
        if reference.file not in names:
            raise WeightsError(f"{reference.repository} has no file {reference.file}; {listed(weights)}.")
        return reference.file
    for name in (usual_file, *FOLDER_LAYOUTS):
        if name in names:
            return str(name)
    if len(weights) != 1:
        example = f"; name one, as in {PREFIX}{reference.repository}/{weights[0]}" if weights else ""
        raise WeightsError(f"{reference} cannot be loaded: {listed(weights)}{example}.")
    return weights[0]


def listed(weights: Sequence[str]) -> str:
    if not weights:
        return "the repository has no weights files"
    return f"its weights files are {', '.join(weights[:5])}{', …' if len(weights) > 5 else ''}"


def descriptions_of(weights: str, names: Iterable[str]) -> list[str]:
    """The descriptions of a model that are beside its weights."""
    beside = {str(PurePosixPath(weights).with_name(name)) for name in DESCRIPTIONS}
    return [name for name in names if name in beside]


def shards_of(weights: str, names: Iterable[str]) -> list[str]:
    """The parts of a sharded checkpoint whose index is `weights`."""
    if not weights.endswith(".index.json"):
        return []
    stem, suffix = re.fullmatch(r"(.*)(\.\w+)\.index\.json", weights).groups()  # type: ignore[union-attr]
    return [name for name in names if re.fullmatch(re.escape(stem) + r"-\d{5}-of-\d{5}" + re.escape(suffix), name)]


def path_of_snapshot(path: Path, name: str) -> Path:
    return path.parents[name.count("/")]


def check_whole(paths: Iterable[Path], reference: HubReference) -> None:
    """Raises `WeightsError` where the content of a large file has not the SHA-256 that the hub gave; it is deleted."""
    for path in paths:
        content = path.resolve()
        if SHA256.fullmatch(content.name) and not is_official(content, content.name):
            content.unlink()
            raise WeightsError(f"What was downloaded as {path.name} of {reference} is damaged (SHA-256); try again.")


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(reference: HubReference) -> Path:
    return hub_cache() / f"models--{reference.repository.replace('/', '--')}"


def record_of(reference: HubReference, suffix: str) -> Path:
    """Where froster keeps that it has fetched a model, or is doing so."""
    folder = cache_dir() / "hub"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{quote(str(reference).removeprefix(PREFIX), safe='@')}.{suffix}"


def recorded(reference: HubReference) -> Path | None:
    """The weights file of a model that was fetched whole, if it is still there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        path = Path(json.loads(record_of(reference, "json").read_text(encoding="utf-8"))["weights"])
        return path if path.is_file() and hub_cache() in path.parents else None
    return None


@contextmanager
def explaining(reference: HubReference, usual_file: str | None) -> Iterator[None]:
    """Turns whatever the library or the network raises into a `HubError` that says what to do."""
    try:
        with writing(hub_cache()):
            yield
    except FrosterError:
        raise
    except Exception as error:  # httpx's, requests' and urllib3's errors, as the version of the library has them
        raise HubError(explanation(error, reference, usual_file)) from error


def explanation(error: Exception, reference: HubReference, usual_file: str | None) -> str:
    from huggingface_hub import constants, errors, get_token

    repository, page = reference.repository, f"{constants.ENDPOINT}/{reference.repository}"
    login = "give a token in the environment variable HF_TOKEN, or log in with `hf auth login`"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        who = "the account of the token in use has no access to it" if get_token() else f"then {login}"
        return f"{reference} is gated: accept its conditions at {page}, {who}."
    if isinstance(error, errors.RepositoryNotFoundError):
        closed = "or the token in use may not read it" if get_token() else f"or it is private; for that, {login}"
        return f"There is no repository {repository} at {constants.ENDPOINT}, {closed}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {reference.revision!r}; see {page}/commits/main."
    if status in (401, 403):
        return f"{constants.ENDPOINT} refuses {reference} ({status}): {login}."
    return cannot_fetch(error, reference, usual_file)


def cannot_fetch(error: Exception, reference: HubReference, usual_file: str | None) -> str:
    """What to do without a network: which files to fetch on another machine, and where to put them."""
    cause: Any = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = " ".join(str(cause).split())[:200] or type(cause).__name__
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        reason = "HF_HUB_OFFLINE is set"
    file = reference.file or usual_file
    files = f"{file} and the .json files beside it" if file else "its weights and .json files"
    revision = f" --revision {reference.revision}" * (reference.revision != "main")
    return (
        f"Cannot fetch {reference} ({reason}). On a machine with a network, `hf download {reference.repository}"
        f"{revision}` keeps it in a folder {repository_folder(reference).name}; copy that folder to "
        f"{repository_folder(reference)}. Or put {files} into any folder, and load that folder."
    )
