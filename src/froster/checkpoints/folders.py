"""Folders of weights in the layouts of Hugging Face, OpenCLIP, DeepSpeed and a training run: which file to read."""

import re
from contextlib import suppress
from pathlib import Path

from froster.errors import WeightsError

FOLDER_LAYOUTS = (  # OpenCLIP's go first: beside them, timm's repositories have a model.safetensors of one tower
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "open_clip_model.safetensors.index.json",  # sharded
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
DEEPSPEED = "mp_rank_00_model_states.pt"
RUN_RECIPE = "recipe.json"  # of a training run; its weights come last
SUFFIXES = (".safetensors", ".pt", ".pth", ".pyth", ".bin")


def find_weights_file(path: Path) -> Path:
    """The weights file itself, also if `path` is a folder in the layout of Hugging Face, OpenCLIP or DeepSpeed.

    Of a sharded checkpoint it is the index. Raises `WeightsError` where there is none, or several.
    """
    if path.is_dir():
        found = [path / name for name in FOLDER_LAYOUTS if (path / name).is_file()]
        # An empty file is what a full disk leaves behind: another layout in the folder may be whole.
        if whole := next((file for file in found if file.stat().st_size), None):
            return whole
        if found:
            return found[0]
        if deepspeed := find_deepspeed(path):
            return deepspeed
        epochs = sorted(path.glob("checkpoints/epoch-*.safetensors"))
        if (path / RUN_RECIPE).is_file():
            so_far = f"; its last whole epoch is {epochs[-1]}" if epochs else ""
            raise WeightsError(f"{path} is an unfinished run: resume its training{so_far}.")
        others = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(others) == 1:
            return others[0]
        several = f"several weights files ({', '.join(file.name for file in others[:3])}): name one"
        raise WeightsError(f"The folder {path} holds {several if others else 'no weights'}.")
    if not path.exists():
        raise WeightsError(f"There is no weights file {path}.")
    if not path.is_file():  # reading a pipe or a device would wait for ever
        raise WeightsError(f"{path} is neither a file nor a folder.")
    return index_of_shard(path) or path


def find_deepspeed(folder: Path) -> Path | None:
    """The model states of a DeepSpeed folder, of the step that its file `latest` names."""
    if (folder / DEEPSPEED).is_file():
        return folder / DEEPSPEED
    with suppress(OSError, ValueError):
        step = (folder / "latest").read_text(encoding="utf-8").strip()
        if step and Path(step).name == step and (folder / step / DEEPSPEED).is_file():
            return folder / step / DEEPSPEED
    return None


def index_of_shard(path: Path) -> Path | None:
    """The index file of a shard of a checkpoint, `NAME-00001-of-00002.SUFFIX`."""
    if part := re.fullmatch(r"(.+)-\d{5}-of-\d{5}(\.\w+)", path.name):
        index = path.with_name(f"{part[1]}{part[2]}.index.json")
        return index if index.is_file() else None
    return None
