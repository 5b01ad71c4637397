"""`froster serve`: the page and the REST API, on one port."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.options import (
    BackboneOption,
    DeviceOption,
    Precision,
    PrecisionOption,
    TemplatesOption,
    read_backbone,
)
from froster.cli.terminal import as_flags, echo
from froster.cli.vocabularies import announce_templates
from froster.extras import extra


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="As for `froster predict`; repeat for several models, the first is the default."),
    ] = None,
    backbone: BackboneOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; other than localhost needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 8000,
    root_path: Annotated[
        str, typer.Option(metavar="PREFIX", help="Path prefix of a reverse proxy, such as /froster.")
    ] = "",
    token: Annotated[
        str, typer.Option(envvar="FROSTER_TOKEN", help="Token that clients must send: Authorization: Bearer TOKEN.")
    ] = "",
    allow_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of videos that clients may name instead of uploading.")
    ] = None,
    max_upload: Annotated[str, typer.Option(help="Largest upload.")] = "200MB",
    max_seconds: Annotated[float, typer.Option(help="Longest video.")] = 600,
    max_labels: Annotated[int, typer.Option(help="Maximum labels per request.")] = 1000,
    queue: Annotated[int, typer.Option(help="Maximum waiting and running requests; others get 429.")] = 64,
    batch: Annotated[int, typer.Option(help="Maximum batch size in videos.")] = 8,
    templates: TemplatesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    access_log: Annotated[bool, typer.Option(help="Log each request on standard error.")] = True,
) -> None:
    """Serve a web page and a REST API for action recognition, by default on localhost only.

    Example: froster serve --model vit-b-16
    """
    from froster.serve.settings import ServeSettings, parse_size
    from froster.text.prompts import read_templates

    models, why = tuple(model or ()), ""
    if not models:
        from froster.models import default_model

        name, why = default_model()
        models = (name,)
    prompts = read_templates(templates) if templates is not None else None
    for name in models:
        announce_templates(name, templates)
    settings = ServeSettings(
        models=models,
        backbone=read_backbone(backbone),
        host=host,
        root_path=root_path.rstrip("/"),
        token=token,
        folder=allow_folder,
        max_upload=parse_size(max_upload),
        max_seconds=max_seconds,
        max_labels=max_labels,
        queue=queue,
        batch=batch,
        device=device,
        precision=precision.value,
        templates=dict.fromkeys(models, prompts) if prompts else {},
    )
    if why:
        echo(as_flags(why))
    with extra("serve", "The server"):
        from froster.serve.run import run
    run(settings, port, access_log=access_log)
