"""Device and precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from froster.errors import FrosterError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `"auto"` is the GPU if there is one. Raises `FrosterError` if it is not available."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise FrosterError(f"The device {name!r} cannot be used here ({reason}); try `device='cpu'`.") from error
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `"auto"` is bfloat16 if the hardware supports it. Raises `FrosterError`."""
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise FrosterError(f"There is no precision {name!r}; there are: auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


def pick_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for float32. Raises `FrosterError` for float16 without a GPU."""
    if precision == "float16" and device.type != "cuda":
        raise FrosterError(f"precision: float16 needs a CUDA GPU, not {device.type}; take bfloat16 or float32.")
    if precision == "auto":
        if has_bfloat16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else None
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context in which tensors on the device keep their own precision, also under autocast."""
    # The meta device, on which costs are counted, has no autocast to disable.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of PyTorch do not report the CPU's capabilities: then float32 unless bfloat16 is requested.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and capabilities.get("avx512_bf16", False)
