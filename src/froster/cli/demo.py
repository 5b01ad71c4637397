"""`froster demo`: the whole story on the embedded world, offline: what fine-tuning forgets, and what FROSTER keeps."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.terminal import Screen

TEST_CLIPS = 10
SHOWN = (
    "skipping rope",  # a base action, the others are novel
    "juggling balls",
    "climbing a ladder",
    "riding a bicycle",
    "bowing",
    "crawling",
)
CAVEAT = (
    "In this small world fine-tuning that is averaged and patched with CLIP can end above FROSTER: over five draws\n"
    "it has 82.4 points of harmonic mean, FROSTER patched likewise 81.0, and with averaged epochs alone 77.9.\n"
    "FROSTER's gain is over plain fine-tuning (71.2). See docs/results.md."
)
SEED = 7_000_000  # of the videos shown: not among those trained or tested on


def demo(
    out: Annotated[Path, typer.Option(help="Folder for students, videos, the picture and the page.")] = Path("demo"),
) -> None:
    """Fine-tune a small CLIP with and without FROSTER, compare, recognize; minutes, offline."""
    from rich.table import Table

    from froster.bench import puppets as bench
    from froster.bench.report import summary_table, write_report
    from froster.bench.results import Result
    from froster.data.puppets import ACTIONS, write_videos
    from froster.models import PUPPETS, load_model
    from froster.picture import save_picture
    from froster.recognizer import Prediction, Recognizer

    console = Screen(soft_wrap=True, markup=True)
    console.print(
        f"A small CLIP knows {len(ACTIONS)} actions of drawn puppets from photos. Two students learn "
        f"{len(bench.FEW)} of them from {bench.TRAIN_CLIPS} video clips\neach, one by fine-tuning alone, one "
        "with the frozen CLIP as its teacher (FROSTER). The others are novel to both."
    )
    trained = out / "models"
    setup = bench.Setup(out / "work", bench.TEST_SEED, TEST_CLIPS, models=trained)
    with console.status("Drawing videos"):
        write_videos(out / "videos", SHOWN, videos=1, frames=32, size=224, seed=SEED)
        test = bench.open_test_clips(setup.work, setup.test_seed, setup.test_clips)
    results = [Result("hard", "frozen", 0, *bench.base_and_novel(load_model(PUPPETS), "hard", test))]
    with bench.progress(Screen(stderr=True), "Training, a minute or two", total=2) as finish:

        def done(job: bench.Job, of_job: list[Result]) -> None:
            results.extend(of_job)
            finish(f"Trained and tested: {job.name}")

        jobs = [bench.Job("hard", method, 0, bench.HARD_RATE) for method in ("fine_tuned", "residual")]
        bench.run_jobs(jobs, setup, processes=2, done=done)
    console.print(summary_table(results, "hard"))
    console.print(CAVEAT)

    videos = [out / "videos" / name.replace(" ", "-") / f"{SEED}.mp4" for name in SHOWN]
    models: dict[str, str | Path] = {
        "frozen CLIP": PUPPETS,
        "fine-tuned": trained / "fine_tuned.safetensors",
        "FROSTER": trained / "froster_averaged.safetensors",
    }
    seen: dict[str, list[Prediction]] = {}
    for name, model in models.items():
        recognizer = Recognizer(model, ACTIONS)
        seen[name] = [recognizer.predict(video) for video in videos]
    table = Table(
        "video", *models, title=f"\nAmong all {len(ACTIONS)} labels", title_justify="left", box=None, pad_edge=False
    )
    for row, truth in enumerate(SHOWN):
        labels = [predictions[row].ranked[0][0] for predictions in seen.values()]
        table.add_row(truth, *(f"[green]{label}[/]" if label == truth else label for label in labels))
    console.print(table)
    picture = out / "demo.png"
    save_picture(seen["FROSTER"], picture, title=f"Puppet videos seen by FROSTER, among {len(ACTIONS)} labels")
    notes = (
        f"`froster demo`: one draw of the training clips, {TEST_CLIPS} test clips an action, learning rate "
        f"{bench.HARD_RATE:g} for both students; one draw says little, `froster bench puppets` does it properly."
    )
    files = write_report(results, out, notes)
    page = next(path for path in files if path.suffix == ".html")
    console.print(f"\nTables and plots: {page}   What FROSTER saw: {picture}")
    console.print(
        "This small model knows drawn puppets only. For your own videos take a real one, and your own clips:\n"
        '  froster predict VIDEO --model vit-b-16 --labels "juggling, brushing teeth, fencing"\n'
        "  froster train recipes/few-clips.yaml data.manifest=my-clips.csv"
    )
