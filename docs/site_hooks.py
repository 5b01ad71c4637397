"""Adds README and CHANGELOG to the site, and checks that links stay in it."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}  # outside of docs/
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files of the repository that are no pages of the site become their words."""
    source = ROOT if page.file.src_uri in PAGES.values() else Path(page.file.abs_src_path).parent
    folder = posixpath.dirname(page.file.src_uri)

    def within(link: re.Match[str]) -> str:
        target = link["target"].split("#")[0]
        is_page = files.get_file_from_path(posixpath.normpath(posixpath.join(folder, target)))
        # A link that leads nowhere at all stays, and fails the build.
        return link["text"] if target and not is_page and (source / target).exists() else link[0]

    return LINK.sub(within, markdown)
