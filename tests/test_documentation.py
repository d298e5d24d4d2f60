"""The documents tell the truth: their commands, settings, targets, files and links exist; the README's Python runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from engine.command import compose, quote
from tests.documents import PAGES, PYTHON, read_blocks, read_commands

PROGRAMS = {"make", "python", ".venv/bin/python", "pip", "git", "cd", "source", "docker"}
"""That a reader has."""
FOLDERS = ("engine", "learn", "morph", "conf", "tests", "benches", "docs")
README = "README.md"


@pytest.fixture(scope="module", params=[README, *PAGES])
def document(request: pytest.FixtureRequest, repository: Path) -> str:
    return (repository / request.param).read_text()


@pytest.fixture(scope="module")
def commands(document: str) -> list[list[str]]:
    return read_commands(document)


def test_there_are_pages() -> None:
    assert PAGES


def test_python_of_the_readme_runs(repository: Path, tmp_path: Path) -> None:
    blocks = [block for block in read_blocks((repository / README).read_text()) if block.language == PYTHON]
    assert blocks
    script = "\n".join(block.code for block in blocks if block.runs)
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_python_is_python(document: str) -> None:
    for block in read_blocks(document):
        if block.language == PYTHON:
            assert ast.parse(block.code, f"line {block.line}").body, (
                f"the block at line {block.line} holds no statement"
            )


def test_only_programs_that_a_reader_has(commands: list[list[str]]) -> None:
    assert {line[0] for line in commands} <= PROGRAMS


def test_make_targets_exist(commands: list[list[str]], repository: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert {word for line in commands if line[0] == "make" for word in line[1:] if "=" not in word} <= targets


def test_modules_and_settings_exist(commands: list[list[str]], repository: Path) -> None:
    for words in (line[1:] for line in commands if line[0].endswith(PYTHON)):
        if words[0] != "-m":
            assert (repository / words[0]).is_file(), words[0]
            continue
        package, _, program = words[1].rpartition(".")
        if package not in {"engine", "learn", "morph"}:
            continue
        assert find_spec(words[1]), words[1]
        settings = [word for word in words[2:] if not word.startswith(("-", "hydra/"))]
        if not (repository / "conf" / f"{program}.yaml").is_file():
            assert not settings, f"{words[1]} takes no settings"
            continue
        for choice in spread(settings) if "-m" in words[2:] else [settings]:
            compose(program, [quote(word) for word in choice])


def spread(settings: list[str]) -> Iterator[tuple[str, ...]]:
    """What the runs of a sweep are given, one by one."""
    pairs = (word.partition("=") for word in settings)
    return product(*([f"{key}={value}" for value in values.split(",")] for key, _, values in pairs))


def test_extras_exist(document: str, repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"-e \"\.\[(\w+)\]\"", document)) <= extras.keys()


def test_files_that_are_named_exist(document: str, repository: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", document)
    assert not [name for name in named if not (repository / name).exists()]


def test_links_of_the_readme_lead_somewhere(repository: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", (repository / README).read_text())
    assert not [link for link in links if "://" not in link and not (repository / link).exists()]
