"""Tables end to end on puppets in the official layouts: trained, tested, shared, resumed and written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from all_tables import CHANGES
from commands import froster
from froster.data.manifests import LabeledVideo, read_manifest
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.evaluation import harmonic_mean
from froster.published import read_table, table_names
from froster.settings import InferenceSettings
from froster.shipped import find_recipe
from froster.tables.plan import plan_lines, plan_table
from froster.tables.reproduce import TableSettings, reproduce
from froster.tables.runs import SharedRun
from froster.tables.texts import find_descriptions
from froster.tables.write import to_json, to_latex, to_markdown, write_table
from layouts import draw_datasets

SETTINGS = InferenceSettings(views=1, frames=4, sampling="release", precision="float32", workers=1)
FEW = dict.fromkeys(("kinetics-400", "ucf-101", "hmdb-51", "kinetics-600"), 4)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> TableSettings:
    """A few classes of each dataset of the cross-dataset tables."""
    place = tmp_path_factory.mktemp("few")
    manifests = draw_datasets(place, FEW, actions=4)
    return TableSettings(manifests, place / "out", CHANGES, SETTINGS, shots=1, draws=1)


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.mark.slow
def test_table_1_on_one_dataset(tmp_path: Path) -> None:
    manifests = draw_datasets(tmp_path, {"hmdb-51": None}, actions=4)
    settings = TableSettings(manifests, tmp_path / "out", CHANGES, SETTINGS, shots=2, draws=2)
    states = []
    result = reproduce(
        "froster-table-1",
        settings,
        ["froster", "Frozen CLIP"],
        after_row=lambda so_far: states.append([of.row.method for of in so_far.rows if of.is_measured]),
    )
    assert states == [["Frozen CLIP"], ["Frozen CLIP", "FROSTER"]]
    assert [of.error for of in result.rows] == [""] * 9
    frozen, trained = result.rows[0], result.rows[-1]
    # Base and novel classes of the first split: one test video of each class in this miniature.
    cells = [(one.part, one.evaluation.clips, one.evaluation.classes) for one in trained.results.part_results]
    assert cells == [("base", 26, 26), ("novel", 25, 25)] * 2
    assert [one.trained_clips for one in trained.results.part_results] == [52] * 4
    assert len(frozen.results.part_results) == 2
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(runs) == 2, "one for each draw"
    recipe = json.loads((runs[0] / "run" / "recipe.json").read_text(encoding="utf-8"))
    assert (recipe["student"], recipe["distillation"]["projector"]) == ("vclip", "residual")
    assert {video.label for video in read_manifest(runs[0] / "train.csv")} <= {
        video.label for video in read_manifest(manifests / "hmdb-51.csv", "train1")
    }

    content = to_json(result)
    hm = content["rows"][-1]["cells"]["HMDB-51"]["hm"]
    base, novel = (content["rows"][-1]["cells"]["HMDB-51"][key]["measured"]["mean"] for key in ("base", "novel"))
    assert hm["measured"]["mean"] == pytest.approx(harmonic_mean(base, novel))
    assert hm["published"] == 65.1
    assert hm["difference"] == pytest.approx(hm["measured"]["mean"] - 65.1)
    not_measured = {"measured": None, "published": 48.5, "difference": None, "secondhand": False}
    assert content["rows"][1]["cells"]["HMDB-51"]["hm"] == not_measured
    text = to_markdown(result)
    assert "| ActionCLIP | – (61.0) | – (46.2) | – (52.6) | – (69.1) |" in text
    assert "Without kinetics-400, ucf-101, ssv2: no manifest in" in text
    assert "No class descriptions were given" in text
    assert r"\toprule" in to_latex(result)

    before = written(tmp_path / "out")
    again = reproduce("froster-table-1", settings, ["FROSTER"])
    assert again.rows[-1].results == trained.results
    assert written(tmp_path / "out") == before, "neither trained nor scored again"
    plan = plan_table("froster-table-1", settings, ["FROSTER"])
    assert [run.done for run in plan.runs] == [True, True]
    assert {run.folder for run in plan.runs} == set(runs)
    other = replace(settings, changes=(*CHANGES, "seed=5"))
    assert [run.done for run in plan_table("froster-table-1", other, ["FROSTER"]).runs] == [False, False]


@pytest.mark.slow
def test_a_figure_and_a_table_share_their_runs(few: TableSettings, tmp_path: Path) -> None:
    figure = reproduce("open-vclip-figure-3", few, ["neither", "IWR + SWA"])
    assert [of.error for of in figure.rows] == [""] * 4
    neither = figure.rows[0].trade_off
    assert neither is not None
    # The closed set is the validation split of Kinetics-400; HMDB* is split 1; the first draw of Kinetics-600.
    first = read_vocabulary("kinetics-600-draw-1")
    draw = [video for video in read_manifest(few.manifests / "kinetics-600.csv", "val") if video.label in first]
    assert neither.clips == {"Kinetics-400": 4, "UCF*": 16, "HMDB*": 12, "K-600 draw 1": len(draw)}
    assert neither.classes == {"Kinetics-400": 400, "UCF*": 101, "HMDB*": 51, "K-600 draw 1": 160}
    files = write_table(figure, tmp_path)
    assert [path.suffix for path in files] == [".md", ".tex", ".json", ".png"]
    assert Image.open(files[-1]).size[0] > 1000
    assert f"| neither | 0 | {neither.top1['Kinetics-400'][-1]:.1f} |" in files[0].read_text(encoding="utf-8")

    runs = set((few.out / "runs").iterdir())
    assert len(runs) == 2
    table = reproduce("open-vclip-table-5", few, ["Fine-tuned", "Open-VCLIP"])
    assert set((few.out / "runs").iterdir()) == runs, "both rows were trained for the figure"
    tuned, ours = table.rows[0].results.scores, table.rows[2].results.scores
    assert list(tuned) == ["Kinetics-400", "UCF EP1", "UCF*", "UCF", "HMDB EP1", "HMDB*", "HMDB", "Kinetics-600"]
    # The figure's points: fine-tuned as it is (ratio 0), Open-VCLIP patched with 0.5.
    both = figure.rows[3].trade_off
    assert both is not None
    place = both.ratios.index(0.5)
    for column in ("Kinetics-400", "UCF*", "HMDB*"):
        assert tuned[column]["mean"].mean == neither.top1[column][-1]
        assert ours[column]["mean"].mean == both.top1[column][place]


@pytest.mark.slow
def test_the_command(few: TableSettings, tmp_path: Path) -> None:
    options = ("--manifests", few.manifests, "--views", 1, "--frames", 4, "--workers", 1, "--out", tmp_path)
    result = froster("reproduce", "froster-figure-1", *CHANGES, *options, "--rows", "Frozen CLIP", "--rows", "AIM")
    assert result.returncode == 0, result.stderr
    names = [Path(line).name for line in result.stdout.splitlines() if Path(line).is_file()]
    assert names == [f"froster-figure-1.{suffix}" for suffix in ("md", "tex", "json", "png")]
    content = json.loads((tmp_path / "froster-figure-1.json").read_text(encoding="utf-8"))
    assert set(content["similarities"]) >= {"UCF*", "HMDB*", "K-600"}
    assert all(0 < value <= 1 for value in content["similarities"].values())
    planned = froster("reproduce", "froster-figure-1", *CHANGES, *options, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "3 training runs, 1 of them done; 2 to train" in planned.stdout
    assert "GiB for the largest run" in planned.stdout
    assert "measured on this machine (cpu)" in planned.stdout
    unknown = froster("reproduce", "froster-figure-1", *options, "--rows", "AMI")
    assert (unknown.returncode, "has no row 'AMI'; did you mean 'AIM'?" in unknown.stderr) == (2, True)


def test_all_tables_are_listed() -> None:
    result = froster("reproduce")
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [*table_names()]
    missing = froster("reproduce", "froster-table-2", "--manifests", "nowhere")
    assert missing.returncode == 2
    assert "write it with `froster data check" in missing.stderr


def test_a_row_that_fails_does_not_end_the_table(few: TableSettings, tmp_path: Path) -> None:
    settings = replace(few, out=tmp_path, changes=(*CHANGES, "student=nothing"))
    result = reproduce("open-vclip-table-3", settings)
    assert all("There is no student network 'nothing'" in of.error for of in result.rows)
    assert "X-CLIP (ViT-B/16) could not be measured" in to_markdown(result)


def test_what_the_tables_train_of_their_own() -> None:
    """Runs on Kinetics-400 by table, without those that an earlier table has: 38 in all, and TC-CLIP's one."""
    clips = [LabeledVideo(Path("a.mp4"), "abseiling")]
    seen, new = set[Path](), dict[str, int]()
    for table in map(read_table, table_names()):
        if table.protocol != "base-to-novel":
            before = len(seen)
            for row in table.rows:
                if row.recipe:
                    seen.add(SharedRun(find_recipe(row.recipe), tuple(row.changes)).folder(clips))
            new[table.name] = len(seen) - before
    assert new == {
        "froster-table-2": 10,
        "froster-table-3": 8,
        "froster-table-4": 7,  # A is VCLIP, J FROSTER, and I FROSTER without descriptions
        "froster-table-5": 1,
        "froster-table-6": 3,
        "froster-table-7": 2,
        "froster-figure-1": 0,
        "froster-figure-5": 0,
        "open-vclip-table-1": 2,
        "open-vclip-table-2": 0,
        "open-vclip-table-3": 0,
        "open-vclip-table-4": 2,
        "open-vclip-table-5": 1,
        "open-vclip-figure-2": 1,
        "open-vclip-figure-3": 2,
        "tc-clip-cross-dataset": 1,
    }


def test_steps_of_a_plan(few: TableSettings) -> None:
    plan = plan_table("froster-table-3", replace(few, changes=("model=puppets",)), ["VCLIP", "VCLIP w/ FROSTER"])
    # 4 clips: a batch of all of them, 22 epochs.
    assert [(run.clips, run.classes, run.steps, run.seen_clips) for run in plan.runs] == [(4, 4, 22, 88)] * 2
    assert [test.videos for test in plan.tests if test.row == "VCLIP"] == [16, 12, 4]
    assert "2 training runs, 0 of them done; 2 to train: 44 steps, 176 clips" in "\n".join(plan_lines(plan, None))


def test_descriptions_of_the_authors_are_found(tmp_path: Path) -> None:
    names = ("k400_rephrased_classes.json", "hmdb_rephrased_classes.json", "k600_rephrased_classes.json")
    for name in (*names, "k600_split1_rephrased_classes.json"):
        (tmp_path / "label_rephrase").mkdir(exist_ok=True)
        (tmp_path / "label_rephrase" / name).write_text("{}", encoding="utf-8")
    for part in ("train", "test"):
        (tmp_path / "B2N_ssv2").mkdir(exist_ok=True)
        (tmp_path / "B2N_ssv2" / f"{part}_rephrased.json").write_text("{}", encoding="utf-8")
    found = {
        name: [path.name for path in find_descriptions(tmp_path, name)] for name in ("kinetics-400", "kinetics-600")
    }
    assert found == {"kinetics-400": [names[0]], "kinetics-600": [names[2]]}
    ssv2 = find_descriptions(tmp_path, "ssv2")
    assert [path.name for path in ssv2] == ["train_rephrased.json", "test_rephrased.json"]
    (tmp_path / "hmdb-51.json").write_text("{}", encoding="utf-8")
    assert find_descriptions(tmp_path, "hmdb-51") == [tmp_path / "hmdb-51.json"]
    with pytest.raises(FrosterError, match=r"no descriptions of ucf-101: looked for ucf-101\.json, ucf_rephrased"):
        find_descriptions(tmp_path, "ucf-101")
