"""`froster explain`: attention and relevance maps of a video, as an image and an animation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from froster.cli.options import (
    BackboneOption,
    DescriptionsOption,
    DeviceOption,
    LabelsFileOption,
    TemplatesOption,
    read_backbone,
)
from froster.cli.terminal import Screen, echo
from froster.cli.vocabularies import WHICH_ACTIONS, announce_templates
from froster.errors import FrosterError, VideoError


class KindName(StrEnum):
    attention = "attention"
    rollout = "rollout"
    gradient = "gradient"


def explain(
    video: Annotated[
        str, typer.Argument(help="A video file, a folder of images, an http(s) URL, or - (standard input).")
    ],
    label: Annotated[str, typer.Option(help="The action that is explained.")],
    labels: Annotated[
        str | None,
        typer.Option(help='The actions that it competes with, "a, b, c" or a vocabulary; by default those of a run.'),
    ] = None,
    labels_file: LabelsFileOption = None,
    descriptions: DescriptionsOption = None,
    templates: TemplatesOption = None,
    models: Annotated[
        str, typer.Option(help="name=MODEL, …, each what `froster predict --model` takes; frozen=puppets,froster=RUN.")
    ] = "auto",
    kind: Annotated[
        KindName,
        typer.Option(help="attention of the last layer, rollout through all layers, gradient: what is for the label."),
    ] = KindName.attention,
    out: Annotated[Path, typer.Option(help="Output image, a .png file.")] = Path("explain.png"),
    animation: Annotated[bool, typer.Option(help="Also write the animation, .mp4 and .gif.")] = True,
    backbone: BackboneOption = None,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Frames that the models see.")] = 8,
    device: DeviceOption = "auto",
) -> None:
    """Show where models look in a video, one row a model.

    Example: froster explain clip.mp4 --label pouring --labels "pouring, drinking" --models clip=vit-b-16,ours=runs/x
    """

    import froster
    from froster.explanation.sheet import save_explanation
    from froster.models import default_model
    from froster.picture import check_picture_path
    from froster.text.labels import parse_labels, read_labels
    from froster.video import find_videos, spooled
    from froster.video.spool import is_spooled

    if labels is not None and labels_file is not None:
        raise FrosterError(WHICH_ACTIONS)
    named = named_models(models)
    if out.suffix.lower() != ".png":
        raise FrosterError(f"--out {out} must end in .png; animations are written next to it.")
    check_picture_path(out)
    wanted = None if labels is None else parse_labels(labels)
    if labels_file is not None:
        wanted = read_labels(labels_file)
    if not is_spooled(video):
        found = find_videos([video])
        if len(found) != 1:
            raise FrosterError(f"{video} holds {len(found)} videos; name one of them.")
    messages = Screen(stderr=True, soft_wrap=True)
    if named == {"auto": "auto"}:
        model, why = default_model()
        messages.print(why)
        named = {model: model}
    for model in named.values():
        announce_templates(model, templates)
    with messages.status("Looking"), spooled(video if is_spooled(video) else found[0]) as path:
        try:
            explanation = froster.explain(
                named,
                path,
                label,
                wanted,
                kind=kind.value,
                descriptions=descriptions,
                templates=templates,
                backbone=read_backbone(backbone),
                frames=frames,
                device=device,
            )
        except VideoError as error:
            raise (VideoError(video, error.reason) if is_spooled(video) else error) from error
        files = save_explanation(explanation, out, animation)
    if explanation.warning:
        messages.print(f"warning: {explanation.warning}")
    for look in explanation.looks:
        echo(f"{look.model}: {explanation.label} {look.score}")
    messages.print(f"See {', '.join(map(str, files))}")


def named_models(text: str) -> dict[str, str]:
    """Models by name from `"frozen=puppets,froster=RUN"`; one without a name is called as it is given.

    Raises `FrosterError` when there are none, a name comes twice, or has nothing behind it.
    """
    named: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, model = (piece.strip() for piece in part.partition("="))
        if not name or (equals and not model):
            raise FrosterError(f"--models {part!r}: write NAME=MODEL, such as frozen=puppets.")
        if name in named:
            raise FrosterError(f"--models gives the name {name!r} twice.")
        named[name] = model or name
    if not named:
        raise FrosterError("--models names no model; write NAME=MODEL, such as frozen=puppets.")
    return named
