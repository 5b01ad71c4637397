from pathlib import Path

import pytest
import torch

from froster.device import has_bfloat16, pick_device, pick_precision
from froster.errors import FrosterError

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="compares with Linux's list of CPU flags")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this PyTorch does not list a CPU's features")
def test_bfloat16_is_used_where_the_cpu_computes_in_it():
    assert has_bfloat16(CPU) == ("avx512_bf16" in Path("/proc/cpuinfo").read_text().split())


def test_auto_precision_on_an_older_pytorch_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16


def test_an_unusable_device_or_precision_is_named():
    with pytest.raises(FrosterError, match="device 'meta'"):
        pick_device("meta")
    with pytest.raises(FrosterError, match="precision 'int8'; there are: auto, float32, bfloat16"):
        pick_precision("int8", CPU)
