"""The wheel is the product: it holds all that the commands need, nothing else, and works from any folder."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

PACKAGES = ("engine", "learn", "morph", "conf")
COMMANDS = ("engine.generate", "learn.train", "learn.evaluate", "morph.run", "morph.predict_gbm")

pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that the checkout stays clean."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "tests", "benches"):
        if (repository / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repository / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip_wheel, "--no-index", "--wheel-dir", target, source], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's Python: it has the wheel, and this environment's libraries but not its checkout."""
    environment = tmp_path_factory.mktemp("environment")
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(environment)})
    (Path(packages) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path, repository: Path) -> None:
    files = (path for name in PACKAGES for path in (repository / name).rglob("*"))
    expected = {str(path.relative_to(repository)) for path in files if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    assert held == expected


def test_wheel_holds_configs_weights_and_templates(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        suffixes = {Path(name).suffix for name in archive.namelist()}
    assert {".py", ".yaml", ".safetensors", ".md", ".j2", ".css"} <= suffixes


@pytest.mark.parametrize("command", COMMANDS)
def test_installed_command_explains_itself_from_another_folder(
    command: str, installed_python: Path, tmp_path: Path
) -> None:
    result = subprocess.run(
        [installed_python, "-m", command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert command in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_installed_package_is_the_wheel(installed_python: Path, tmp_path: Path) -> None:
    show = [installed_python, "-c", "import engine; print(engine.__file__)"]
    result = subprocess.run(show, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(result.stdout.strip()).is_relative_to(installed_python.parents[1])


def test_every_import_is_a_declared_dependency(project: dict, repository: Path) -> None:
    extras = project["optional-dependencies"]["gpu"]
    declared = {_normalize(re.split(r"[\[<>=!~; ]", line)[0]) for line in project["dependencies"] + extras}
    distributions = packages_distributions()
    used = {
        _normalize(distribution)
        for package in PACKAGES
        for path in (repository / package).rglob("*.py")
        for name in _imported_names(path)
        if name not in sys.stdlib_module_names and name not in PACKAGES
        for distribution in distributions.get(name, [name])
    }
    assert used - declared <= {"cupy"}  # its distributions are named after their CUDA


def test_constraints_pin_every_dependency(project: dict, repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["docs"] + extras["sweep"] + extras["test"]
    unpinned = {_normalize(re.split(r"[<>=]", line)[0]) for line in wanted} - pins.keys()
    itself = f"{project['name']}[docs,sweep]"
    assert unpinned <= {itself, "nvidia-cuda-nvrtc"}  # a CUDA build of torch brings its own
    assert not any("+" in version for version in pins.values())


def test_citation_names_this_version(project: dict, repository: Path) -> None:
    assert f"\nversion: {project['version']}\n" in (repository / "CITATION.cff").read_text()


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported_names(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names if name}
