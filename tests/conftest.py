import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

import goldens
from goldens import GoldenFile

pytest_plugins = ["cpu_times"]
SHARED = Path(__file__).resolve().parents[2] / "shared"
# Every test has a home of its own, see below: without this each process would look for the system's fonts again.
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what was measured as slow. The longest go first: at the end they would keep one process busy alone."""
    import cpu_times  # a plugin: pytest imports it first

    measured, longest = cpu_times.read_measured(), Counter[Path]()
    for item in items:
        function = cpu_times.function_of(item.nodeid)
        if seconds := measured.get(function) or measured.get(function.partition("::")[0]):
            item.add_marker(pytest.mark.slow(seconds))
        elif slow := item.get_closest_marker("slow"):  # a new test
            seconds = float(slow.args[0]) if slow.args else 5.0
        longest[item.path] = max(longest[item.path], seconds or 0)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="session")
def shared() -> Path:
    """Numerical fixtures and real clips beside the checkout; a checkout without them skips the test."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="session")
def golden_file(tmp_path_factory: pytest.TempPathFactory) -> GoldenFile:
    """`golden_file("more/hausdorff.json")`: the path of a file computed with an official implementation."""
    folder = tmp_path_factory.mktemp("goldens")

    def path(name: str) -> Path:
        rebuilt = folder / name
        if not rebuilt.exists():
            try:
                content = goldens.rebuild(name)
            except (goldens.NotPackedError, goldens.OtherRandomNumbersError) as error:
                if not SHARED.is_dir():
                    pytest.skip(str(error))
                return SHARED / "goldens" / name
            rebuilt.parent.mkdir(parents=True, exist_ok=True)
            rebuilt.write_bytes(content)
        return rebuilt

    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder and home for every test."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("FROSTER_CACHE", str(cache))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return cache


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes train in a few steps, and few pictures test a pretrained CLIP: for the commands of the documentation."""
    from froster.training import pretrain
    from froster.training.recipe import TrainRecipe

    read, scores = TrainRecipe.read, pretrain.zero_shot_scores

    def read_short(path: Path, changes: Sequence[str] = ()) -> TrainRecipe:
        recipe, fewer = read(path, changes), list[str]()
        if recipe.optimizer.epochs > 3:
            fewer = ["optimizer.epochs=3", "optimizer.warmup_epochs=2"]
        if recipe.optimizer.min_steps > 4:
            fewer += ["optimizer.min_steps=4"]
        if recipe.data.puppets:
            fewer += ["data.puppets.videos=2"]
        return read(path, [*changes, *fewer])

    monkeypatch.setattr(TrainRecipe, "read", read_short)
    monkeypatch.setattr(pretrain, "zero_shot_scores", lambda clip, device: scores(clip, device, 45, 1))
