import sys

import pytest

from froster.progress import ProgressBar


@pytest.mark.parametrize("unit", ["steps", "bytes"])
@pytest.mark.parametrize("rich", [True, False])
def test_lines_stay_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rich: bool, unit: str
) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with ProgressBar("Training", 4, 1, unit) as bar:  # type: ignore[arg-type]
        bar.update(2, "loss [bold]1.0")
        bar.print("epoch 1/2  loss [bold]1.0")
    out, err = capsys.readouterr()
    assert out == "" and err.count("epoch 1/2  loss [bold]1.0") == 1
    with ProgressBar("Training", 4, 1, unit, show=False) as bar:  # type: ignore[arg-type]
        bar.update(2)
        bar.print("epoch 1/2")
    assert capsys.readouterr() == ("", "")
