"""Every block of every page of the documentation runs, in order, in an empty folder.

Python blocks of a page share their names, as in a notebook; shell blocks run in a shell that stops at the first
error. Blocks that say `<!-- slow: reason -->` above their fence run with `pytest -m slow` only, and those that say
`<!-- not run: reason -->` never.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents import PAGES, PYTHON, ROOT, SHELLS, Block, read_blocks

LONGEST = 500
"""Seconds of one shell block, on a busy machine."""
BLOCKS = {page: [block for block in read_blocks((ROOT / page).read_text()) if block.runs] for page in PAGES}


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if not all(block.slow for block in blocks)])
def test_quick_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, [block for block in BLOCKS[page] if not block.slow], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if any(block.slow for block in blocks)])
def test_all_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, BLOCKS[page], tmp_path, monkeypatch)


def run_page(page: str, blocks: list[Block], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run blocks of a page in a folder."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if block.language == PYTHON:
            exec(compile("\n" * (block.line - 1) + block.code, str(ROOT / page), "exec"), names)
        elif block.language in SHELLS:
            run_shell(block, page, folder)


def run_shell(block: Block, page: str, folder: Path) -> None:
    """Run a shell's block, `python` being the one that runs this test."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=folder,
        env={**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert result.returncode == block.status, (
        f"{page}, line {block.line}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    )


def test_every_block_has_a_known_language() -> None:
    languages = {block.language for page in PAGES for block in read_blocks((ROOT / page).read_text())}
    assert languages <= {PYTHON, *SHELLS, "text"}


def test_fences_are_all_seen() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text()
        assert 2 * len(read_blocks(text)) == text.count("```"), page
