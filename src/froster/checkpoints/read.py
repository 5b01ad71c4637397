"""Every checkpoint format there is, in; a model's tensors, filled.

Read: OpenAI release files (TorchScript, float16), plain state dicts, OpenCLIP and Hugging Face CLIP safetensors, the
released FROSTER and Open-VCLIP checkpoints, those of other video students, and our own.
"""

from pathlib import Path

from torch import nn

from froster.checkpoints.checkpoint import Checkpoint, StateDict
from froster.checkpoints.containers import read_tensors
from froster.checkpoints.foreign import read_foreign
from froster.checkpoints.hub import find_weights_file
from froster.checkpoints.own import read_own
from froster.errors import WeightsError


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of any supported format; sizes are inferred from the tensors.

    Raises `WeightsError`, one sentence that names the file, when it is missing, damaged, not a checkpoint, not a CLIP,
    or a pickle with code in it.
    """
    path = find_weights_file(Path(path))
    tensors, metadata = read_tensors(path)
    if "format" in metadata and "config" in metadata:
        return read_own(tensors, metadata, path)
    return read_foreign(tensors, metadata, path)


def load_into(model: nn.Module, state: StateDict, path: str | Path) -> None:
    """Load `state` into `model`; every tensor must find its place.

    Raises `WeightsError` that names what is missing, left over or of another shape.
    """
    expected = {key: value.shape for key, value in model.state_dict().items()}
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    for keys, what in ((missing, "lacks"), (unknown, "belongs to another network: this one does not have")):
        if keys:
            some = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
            raise WeightsError(f"{path} {what} {len(keys)} tensors ({some}).")
    for key, value in state.items():
        if value.shape != expected[key]:
            raise WeightsError(
                f"{path} does not fit this network: {key} is {tuple(value.shape)}, expected {tuple(expected[key])}."
            )
    model.load_state_dict(state, assign=True)
