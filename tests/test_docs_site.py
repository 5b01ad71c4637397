"""The site of `make docs`: strict, so a link that leads nowhere or a page that is not listed fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import froster

ROOT = Path(__file__).parents[1]


def build_site(folder: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="needs mkdocs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_site_has_every_exported_name(tmp_path: Path) -> None:
    site = Path(os.environ.get("FROSTER_SITE") or tmp_path / "site")
    if not site.exists():  # else CI has built it
        build_site(site)
    reference = (site / "api.html").read_text(encoding="utf-8")
    assert [name for name in froster.__all__ if f'id="froster.{name}"' not in reference] == []
    assert "https://fonts" not in reference  # nothing is loaded from other sites
    overview = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="demo.png"' in overview and 'href="methods.html"' in overview
