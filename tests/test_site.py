"""The documentation's site builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
IMPORTED = re.compile(r"@import\s+[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it, in another folder; any warning is an error (unknown links too)."""
    target = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", target]
    result = subprocess.run(
        build,
        cwd=repository,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return target


def test_every_page_is_there(site: Path, repository: Path) -> None:
    sources = {
        path.relative_to(repository / "docs").with_suffix(".html") for path in (repository / "docs").rglob("*.md")
    }
    assert {path for path in sources if not (site / path).is_file()} == set()
    assert "Learn-Morph-Infer" in (site / "index.html").read_text()
    assert not list(site.rglob("hooks.py*"))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    assert not [match for page in pages for match in LOADED.findall(page.read_text())]
    assert not [path for path in site.rglob("*.css") if IMPORTED.search(path.read_text())]
