"""`froster demo`: fine-tuning against FROSTER on the synthetic benchmark (puppets), offline."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.terminal import Screen

TEST_CLIPS = 10
SHOWN_ACTIONS = (
    "skipping rope",  # a base action, the others are novel
    "juggling balls",
    "climbing a ladder",
    "riding a bicycle",
    "bowing",
    "crawling",
)
CAVEAT = (
    "On this synthetic benchmark, fine-tuning with weight averaging and patching can exceed FROSTER: over five draws\n"
    "its harmonic mean is 82.4, that of FROSTER with patching 81.0, with weight averaging alone 77.9.\n"
    "FROSTER improves on plain fine-tuning (71.2). See docs/results.md."
)
SEED = 7_000_000  # of the example videos, which are not among the training or test videos


def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, videos and the report.")] = Path("demo"),
) -> None:
    """Fine-tune a small CLIP with and without FROSTER and compare them; minutes, offline."""
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
        f"A small CLIP was pretrained on photos of {len(ACTIONS)} actions (puppets). Two students are trained on "
        f"{len(bench.FEW)} of them with {bench.TRAIN_CLIPS} video clips\neach, one by plain fine-tuning, one with "
        "the frozen CLIP as teacher (FROSTER). The other classes are novel to both."
    )
    trained = out / "models"
    setup = bench.Setup(out / "work", bench.TEST_SEED, TEST_CLIPS, models=trained)
    with console.status("Rendering videos"):
        write_videos(out / "videos", SHOWN_ACTIONS, videos=1, frames=32, size=224, seed=SEED)
        test = bench.open_test_clips(setup.work, setup.test_seed, setup.test_clips)
    results = [Result("hard", "frozen", 0, *bench.base_and_novel(load_model(PUPPETS), "hard", test))]
    with bench.progress(Screen(stderr=True), "Training (a minute or two)", total=2) as finish:

        def done(job: bench.Job, of_job: list[Result]) -> None:
            results.extend(of_job)
            finish(f"Trained and tested: {job.name}")

        jobs = [bench.Job("hard", method, 0, bench.HARD_RATE) for method in ("fine_tuned", "residual")]
        bench.run_jobs(jobs, setup, processes=2, done=done)
    console.print(summary_table(results, "hard"))
    console.print(CAVEAT)

    videos = [out / "videos" / name.replace(" ", "-") / f"{SEED}.mp4" for name in SHOWN_ACTIONS]
    models: dict[str, str | Path] = {
        "frozen CLIP": PUPPETS,
        "fine-tuned": trained / "fine_tuned.safetensors",
        "FROSTER": trained / "froster_averaged.safetensors",
    }
    predictions: dict[str, list[Prediction]] = {}
    for name, model in models.items():
        recognizer = Recognizer(model, ACTIONS)
        predictions[name] = [recognizer.predict(video) for video in videos]
    table = Table(
        "video", *models, title=f"\nAmong all {len(ACTIONS)} labels", title_justify="left", box=None, pad_edge=False
    )
    for row, truth in enumerate(SHOWN_ACTIONS):
        labels = [of_model[row].ranked[0][0] for of_model in predictions.values()]
        table.add_row(truth, *(f"[green]{label}[/]" if label == truth else label for label in labels))
    console.print(table)
    picture = out / "demo.png"
    save_picture(
        predictions["FROSTER"], picture, title=f"Puppets videos, predictions of FROSTER among {len(ACTIONS)} labels"
    )
    notes = (
        f"`froster demo`: one draw of the training clips, {TEST_CLIPS} test clips per action, learning rate "
        f"{bench.HARD_RATE:g} for both students; for several draws run `froster bench puppets`."
    )
    files = write_report(results, out, notes)
    page = next(path for path in files if path.suffix == ".html")
    console.print(f"\nTables and plots: {page}   Predictions: {picture}")
    console.print(
        "This small model knows puppets only. For real videos use a released model, or train on your own clips:\n"
        '  froster predict VIDEO --model vit-b-16 --labels "juggling, brushing teeth, fencing"\n'
        "  froster train recipes/few-clips.yaml data.manifest=my-clips.csv"
    )
