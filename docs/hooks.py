"""Pages of the site that lie elsewhere in the repository: they are taken from there, not copied."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = ("README.md", "CHANGELOG.md")
"""Below the repository's root, where they have the same places as on the site; the README is the first page."""
LINK = re.compile(r"\]\(([^)#:]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add those pages and the files that they link to."""
    root = Path(config.config_file_path).parent
    linked = {link for page in PAGES for link in LINK.findall((root / page).read_text(encoding="utf-8"))}
    for name in sorted({*PAGES, *linked}):
        if (root / name).is_file():
            files.append(File.generated(config, name, content=(root / name).read_bytes()))
    return files
