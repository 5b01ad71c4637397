from pathlib import Path

import pytest
import safetensors.torch
import torch

from froster.checkpoints.own import FORMAT
from froster.cli.checkpoints import (
    check_not_among,
    check_output_name,
    weights_file,
)
from froster.errors import FrosterError, WeightsError
from froster.models import puppets_weights


def labeled(path: Path, labels: str | None, form: str = FORMAT) -> Path:
    metadata = {"format": form} | ({"labels": labels} if labels is not None else {})
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    return path


def test_weights_file_of_names_folders_and_files(tmp_path: Path) -> None:
    model = labeled(tmp_path / "model.safetensors", None)
    assert weights_file("puppets") == puppets_weights()
    assert weights_file(tmp_path) == weights_file(model) == model
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        weights_file(tmp_path / "none.safetensors")


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    model = labeled(tmp_path / "model.safetensors", None)
    link = tmp_path / "link.safetensors"
    link.symlink_to(model)
    for out in (model, link, tmp_path / ".." / tmp_path.name / "model.safetensors"):
        with pytest.raises(FrosterError, match="is one of the input checkpoints"):
            check_not_among(out, [puppets_weights(), model])
    check_not_among(tmp_path / "new.safetensors", [model])
    check_not_among(labeled(tmp_path / "old.safetensors", None), [model])

    (tmp_path / "folder.safetensors").mkdir()
    for folder in (tmp_path, tmp_path / "folder.safetensors"):
        with pytest.raises(FrosterError, match=r"is a folder; give a \.safetensors file in it"):
            check_output_name(folder)
    with pytest.raises(FrosterError, match=r"mean\.pt must end in \.safetensors"):
        check_output_name(tmp_path / "mean.pt")
    check_output_name(tmp_path / "MEAN.SAFETENSORS")
