"""`froster demo`: the main job on the embedded world, offline."""

from pathlib import Path
from typing import Annotated

import typer

ACTIONS_SHOWN = (
    "juggling balls",
    "riding a bicycle",
    "climbing a ladder",
    "throwing a ball",
    "standing up",
    "flying a kite",
)
# Throwing and catching, standing up and sitting down differ mainly in time: hard for a model that sees single frames.
DISTRACTORS = (
    "catching a ball",
    "sitting down",
    "lifting a barbell",
    "waving hello",
    "playing guitar",
    "playing golf",
    "fishing",
    "sweeping with a broom",
)
SEED = 7_000_000  # not among the photos that the small model was pretrained on


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the videos and the picture.")] = Path("demo"),
) -> None:
    """Draw a few puppet videos and recognise them with the small model in the package; seconds, offline."""
    from rich.console import Console

    from froster.cli.table import ranked_table
    from froster.data.puppets import write_videos
    from froster.models import PUPPETS
    from froster.picture import save_picture
    from froster.recognizer import Recognizer

    console = Console(highlight=False, soft_wrap=True)
    labels = [*ACTIONS_SHOWN, *DISTRACTORS]
    with console.status("Drawing videos"):
        write_videos(out, ACTIONS_SHOWN, videos=1, frames=32, size=224, seed=SEED)
    videos = [out / name.replace(" ", "-") / f"{SEED}.mp4" for name in ACTIONS_SHOWN]
    recognizer = Recognizer(PUPPETS, labels)
    results, right = [], 0
    for truth, (_, prediction) in zip(ACTIONS_SHOWN, recognizer.predict_many(videos), strict=True):
        if isinstance(prediction, Exception):
            raise prediction
        console.print(ranked_table(prediction, top=3))
        right += prediction.label == truth
        results.append(prediction)
    picture = out / "demo.png"
    save_picture(results, picture, title=f"{right} of {len(results)} puppet videos right, among {len(labels)} labels")
    console.print(f"{right} of {len(results)} right, among {len(labels)} labels. See {picture}")
    console.print(
        "This small model ships with the package and knows drawn puppets only; it looks at one frame at a time, so\n"
        "what differs only in time (standing up, sitting down) is a guess to it. For your own videos take a real one:\n"
        '  froster predict VIDEO --model vit-b-16 --labels "juggling, brushing teeth, fencing"'
    )
