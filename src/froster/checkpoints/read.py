"""Every checkpoint format there is, in; a model's tensors, filled.

Read: OpenAI release files (TorchScript, float16), plain state dicts, OpenCLIP and Hugging Face CLIP safetensors, the
released FROSTER and Open-VCLIP checkpoints, those of other video students, and our own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from froster.checkpoints.checkpoint import Checkpoint, StateDict
from froster.checkpoints.containers import read_tensors, reading
from froster.checkpoints.folders import find_weights_file
from froster.checkpoints.foreign import read_foreign
from froster.checkpoints.own import read_own
from froster.checkpoints.releases import ReleasedModel
from froster.errors import FrosterError, WeightsError


def read_checkpoint(
    path: str | Path, backbone: Mapping[str, Any] | None = None, released: ReleasedModel | None = None
) -> Checkpoint:
    """Read a checkpoint of any supported format; sizes are inferred from the tensors.

    `backbone`: what a file of another program does not say of its network, see `froster.checkpoints.descriptions`.
    `released`: the released model that the file holds, if that is known.

    Raises `WeightsError`, one sentence that names the file, when it is missing, damaged, not a checkpoint, not a CLIP,
    or a pickle with code in it.
    """
    path = find_weights_file(Path(path))
    tensors, metadata = read_tensors(path)
    with reading(path):
        is_own = "format" in metadata and "config" in metadata
        if is_own and backbone:
            raise FrosterError(f"{path} says all about its backbone itself: give nothing of it.")
        if is_own:
            checkpoint = read_own(tensors, metadata, path)
        else:
            checkpoint = read_foreign(tensors, metadata, path, backbone, released)
    check_finite(checkpoint.state, path)
    return checkpoint


def check_finite(state: StateDict, path: Path) -> None:
    """Raises `WeightsError` that names tensors with NaN or infinite numbers: every score of the model would be NaN."""
    # A sum is one pass; it overflows without either only where single numbers are close to float32's limit.
    suspects = [name for name, tensor in state.items() if not tensor.sum().isfinite()]
    if broken := [name for name in suspects if not state[name].isfinite().all()]:
        some = ", ".join(broken[:3]) + (", …" if len(broken) > 3 else "")
        raise WeightsError(
            f"{path} cannot be used: {len(broken)} of its {len(state)} tensors hold NaN or infinite numbers ({some}); "
            "the training went wrong, take an earlier checkpoint."
        )


def load_into(model: nn.Module, state: StateDict, path: str | Path) -> None:
    """Load `state` into `model`; every tensor must find its place.

    Raises `WeightsError` that names what is missing, left over or of another shape.
    """
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    for keys, what in ((missing, "lacks"), (unknown, "belongs to another network: this one does not have")):
        if keys:
            some = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
            raise WeightsError(f"{path} {what} {len(keys)} tensors ({some}).")
    for key, value in state.items():
        wanted = expected[key]
        if value.shape != wanted.shape:
            raise WeightsError(
                f"{path} does not fit this network: {key} is {tuple(value.shape)}, expected {tuple(wanted.shape)}."
            )
        if value.is_floating_point() != wanted.is_floating_point():
            raise WeightsError(
                f"{path} does not fit this network: {key} is {value.dtype}; quantized weights are not read."
            )
    model.load_state_dict(state, assign=True)
