"""`froster inspect`: what a weights file is."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.options import BackboneOption, read_backbone
from froster.cli.terminal import echo, echo_json


def inspect(
    file: Annotated[str, typer.Argument(help="A weights file, its folder, a run's folder, or a model's name.")],
    backbone: BackboneOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write it in froster's format (.safetensors), with all that was read and given."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what a weights file is, what was read from where, and what is assumed.

    Example: froster inspect clip.pt --backbone activation=gelu --out clip.safetensors
    """
    from dataclasses import asdict

    from froster.cli.checkpoints import check_not_among, check_output_name, weights_file
    from froster.inspection import inspect_checkpoint

    said = read_backbone(backbone)
    path = weights_file(file)
    if out:
        check_output_name(out)
        check_not_among(out, [path])
    found = inspect_checkpoint(file, said)
    if json:
        echo_json({**asdict(found), "file": str(found.file), "assumed": found.assumed}, indent=2)
    else:
        echo(f"{found.file}: {found.title}, {found.tensors} tensors, {found.parameters / 1e6:.1f} million parameters")
        width, values = max(map(len, found.config)), max(len(in_words(value)) for value in found.config.values())
        for name, value in found.config.items():
            echo(f"  {name:{width}}  {in_words(value):{values}}  {found.sources[name]}")
        if found.assumed:
            echo(f"Assumed, because nothing says it: {', '.join(found.assumed)}. If that is wrong, so are all scores.")
    if out:
        from froster.checkpoints.own import save_checkpoint
        from froster.models import load_backbone, load_model

        # A plain backbone stays one, so that it can be trained from, patched with, and teach.
        model = load_backbone(file, said) if found.student is None else load_model(file, backbone=said)
        save_checkpoint(model, out)
        echo(str(out))


def in_words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"{part:g}" for part in value)
    return "4 times the width" if value is None else str(value)
