"""Commands: what a person types, and what they read when it is wrong."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from engine import InputError, command
from engine.command import compose, quote, require


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("samples=3", "samples=3"),
        ("out=runs/plain-1.zarr", "out=runs/plain-1.zarr"),
        ("out=/data/a (b)/c", "out='/data/a (b)/c'"),
        ("out=/data/été/x=y", "out='/data/été/x=y'"),
        ("out=/data/it's", r"out='/data/it\'s'"),
        ("out='quoted, already'", "out='quoted, already'"),
        (r"out=/data/a\b c", r"out='/data/a\b c'"),
        ("--help", "--help"),
        ("shape=[1,2]", "shape=[1,2]"),
    ],
)
def test_awkward_paths_reach_the_program_as_typed(given, expected):
    assert quote(given) == expected


@pytest.mark.parametrize(
    "path", ["/data/a (b), [c]/#1/été", "/x=y/it's", "/space d/é{f}", "/back\\slash é", "/end é\\"]
)
def test_quoted_paths_survive_hydra(path):
    assert compose("generate", [quote(f"out={path}")]).out == path


def test_sweeps_are_left_to_hydra():
    assert quote("data=a/b,c/d", sweeps=True) == "data=a/b,c/d"


@pytest.mark.parametrize("choice", ["hydra/launcher=joblib", "hydra/launcher=submitit_local", "hydra/sweeper=search"])
def test_a_missing_extra_is_one_sentence(choice, monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["learn.train", "data=x", "-m", "seed=1,2", choice])
    with pytest.raises(SystemExit) as ended:
        command.run_command(lambda config: None, "train")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f'error: {choice} needs packages that are not installed: pip install -e ".[sweep]"\n'


def test_a_folders_name_is_one_folder_and_fits_its_file_system():
    assert command.folder_name("seed=1,start=/a/b\\c") == "seed=1,start=-a-b-c"
    long = [command.folder_name(f"start={'é' * 200},seed={seed}") for seed in (1, 2)]
    assert long[0] != long[1] and all(len(name.encode()) < 220 for name in long)


def test_every_group_of_generate_composes():
    for override in ("grid=half", "grid=quarter", "atlas=mni152", "atlas=files", "prior=paper"):
        assert compose("generate", [override]).samples > 0


def test_unknown_keys_and_missing_values_are_one_sentence():
    with pytest.raises(InputError, match="sampels"):
        compose("generate", ["sampels=3"])
    with pytest.raises(InputError, match="out is not given"):
        require(compose("generate"), "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sampels=3"], "sampels"),
        (["samples=3"], "out is not given"),
        (["samples=-3", "out=x"], "at least 1"),
        (["samples=3", "out=x", "grid.name=huge"], "huge"),
        (["samples=3", "out=x", "scheme=magic"], "scheme"),
        (["samples=3", "out=x", "seed=-1"], "seed"),
        (["samples=3", "out=x", "atlas=files"], "t1"),
        (["verify=nowhere.zarr"], "not a store"),
        (["samples=3", "out=/proc/none/x.zarr", "grid=quarter"], "cannot write"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(arguments, said, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "engine.generate", *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_key():
    ended = subprocess.run([sys.executable, "-m", "engine.generate", "--help"], capture_output=True, text=True)
    assert ended.returncode == 0
    for key in compose("generate"):
        assert re.search(rf"(?m)^(  - )?{key}[:=]", ended.stdout), key
    assert "run again to resume" in ended.stdout
