import json
from pathlib import Path

import pytest

from commands import froster, froster_process
from froster.data.puppets import write_videos

LABELS = ["juggling balls", "riding a bicycle", "sitting down", "walking"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of each action, all in the split test, and one file that is no video."""
    folder = tmp_path_factory.mktemp("data")
    manifest = write_videos(folder, LABELS, videos=1, frames=14, size=64, seed=70)
    (folder / "text.mp4").write_text("this is a text file\n" * 50)
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    lines = [f"{header},split", *(f"{row},test" for row in rows), "text.mp4,walking,test", "none.mp4,walking,train"]
    manifest.write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_page_has_the_numbers_that_evaluate_prints(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "page.html"
    which = ["puppets", "--data", "manifest.csv", "--split", "test"]
    classes = ["--base", ", ".join(LABELS[:2]), "--novel", ", ".join(LABELS[2:]), "--student", "vclip", "--views", 2]
    result = froster_process("report", *which, *classes, "--mistakes", 1, "--out", out, cwd=data)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert result.stderr == f"warning: 1 of 5 videos could not be read and are not counted; {out} lists them.\n"
    evaluated = json.loads(froster("evaluate", *which, *classes, "--json", cwd=data).stdout)
    page = out.read_text(encoding="utf-8")
    for part in ("base", "novel"):
        assert f"<dt>{part} classes, top-1</dt><dd>{100 * evaluated[part]['top1']:.1f}\u00a0%</dd>" in page
    assert f"<dt>harmonic mean</dt><dd>{100 * evaluated['harmonic_mean']:.1f}\u00a0%</dd>" in page
    assert "2 per video, 8 frames each, uniform sampling" in page
    assert "text.mp4: not a video" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a, b", "--base", "a, b"], "Give the classes in one way"),
        (["--novel", "a, b"], "Give the classes in one way"),
        (["--out", "page.pdf"], "page.pdf must end in .html"),
        (["--out", "."], ". is a folder"),
        (["--split", "other"], "has no videos of the split 'other'"),
    ],
)
def test_errors_are_one_line(data: Path, arguments: list[str], message: str) -> None:
    result = froster("report", "puppets", "--data", "manifest.csv", *arguments, cwd=data)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (data / "report.html").exists()
