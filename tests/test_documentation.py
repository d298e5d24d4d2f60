"""The README tells the truth: its Python runs, its commands, settings, targets and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.command import compose, quote

BLOCK = re.compile(r"(?P<mark><!-- not run[^\n]*-->\n+)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)
"""A fenced block; a comment `<!-- not run: reason -->` on the line above keeps Python from being executed."""
SHELLS = {"bash", "console", "sh", "shell"}


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


@pytest.fixture(scope="module")
def commands(readme: str) -> list[list[str]]:
    """Every command line of the README, in a shell block or in the text, split into words."""
    blocks = [match["code"] for match in BLOCK.finditer(readme) if match["language"] in SHELLS]
    blocks += re.findall(r"(?<!`)`((?:python -m|make) [^`]+)`", readme)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line for line in words if line]


def test_python_of_the_readme_runs(readme: str, tmp_path: Path) -> None:
    blocks = [match for match in BLOCK.finditer(readme) if match["language"] == "python"]
    assert blocks
    for match in blocks:
        compile(match["code"], "README.md", "exec")
    script = "\n".join(match["code"] for match in blocks if not match["mark"])
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_readme_names_only_programs_that_a_reader_has(commands: list[list[str]]) -> None:
    assert {line[0] for line in commands} <= {
        "make",
        "python",
        ".venv/bin/python",
        "pip",
        "git",
        "cd",
        "source",
    }


def test_readme_names_only_make_targets_that_exist(commands: list[list[str]], repository: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    used = {word for line in commands if line[0] == "make" for word in line[1:] if "=" not in word}
    assert used
    assert used <= targets


def test_readme_names_only_modules_and_settings_that_exist(commands: list[list[str]], repository: Path) -> None:
    calls = [line[1:] for line in commands if line[0].endswith("python")]
    assert calls
    for words in calls:
        if words[0] != "-m":
            assert (repository / words[0]).is_file(), words[0]
            continue
        package, _, program = words[1].rpartition(".")
        if package not in {"engine", "learn", "morph"}:
            continue
        assert find_spec(words[1]), words[1]
        settings = [quote(word) for word in words[2:] if not word.startswith("-")]
        compose(program, settings)


def test_readme_names_only_extras_that_exist(readme: str, repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"-e \"\.\[(\w+)\]\"", readme)) <= extras.keys()


def test_links_of_the_readme_lead_somewhere(readme: str, repository: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", readme)
    missing = [link for link in links if "://" not in link and not (repository / link).exists()]
    assert not missing
