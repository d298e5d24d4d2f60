"""The documents that the tests read: README and the pages of docs, their code blocks and their commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SHELLS = {"bash", "console", "sh", "shell"}
PYTHON = "python"
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|slow|exit status)[: ]*(?P<about>[^\n]*?) -->\n+)?```(?P<language>\w+)\n(?P<code>.*?)```",
    re.DOTALL,
)
_VARIABLE = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: after the fence.
        code: between the fences.
        line: of the document where the code begins.
        runs: whether a test runs it; `<!-- not run: reason -->` on the line above says no.
        slow: only `pytest -m slow` runs it; `<!-- slow: reason -->` on the line above says so.
        status: with which a shell's block ends; `<!-- exit status 2 -->` on the line above says 2.
    """

    language: str
    code: str
    line: int
    runs: bool
    slow: bool
    status: int


def read_blocks(text: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [
        Block(
            match["language"],
            match["code"],
            text.count("\n", 0, match.start("code")) + 1,
            match["mark"] != "not run",
            match["mark"] == "slow",
            int(match["about"]) if match["mark"] == "exit status" else 0,
        )
        for match in _BLOCK.finditer(text)
    ]


def read_commands(text: str) -> list[list[str]]:
    """Every command line of a document, in a shell's block or in the text, split into words, without variables."""
    blocks = [block.code for block in read_blocks(text) if block.language in SHELLS]
    blocks += re.findall(r"(?<!`)`((?:python -m|make) [^`]+)`", text)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [_without_variables(line) for line in words if line]


def _without_variables(words: list[str]) -> list[str]:
    """A command without the settings of environment variables before it."""
    while words and _VARIABLE.fullmatch(words[0]):
        words = words[1:]
    return words
