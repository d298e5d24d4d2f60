"""A folder of patients for the tests of a batch: good, unreadable, rejected and incomplete ones."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from engine import InputError
from engine.command import BAD_INPUT
from morph import batch
from tests.morph.conftest import SHAPE, make_arrays, make_flair, save

ARRAYS = make_arrays()
FLAT = np.zeros(SHAPE, dtype=np.float32)
FLAT[4:19, 5:22, 5] = 4
PATIENTS = {
    "a good": {},
    "b bad": {"seg": np.where(ARRAYS["seg"] == 2, np.float32(9), ARRAYS["seg"])},
    "c fallback": {"seg": FLAT, "flair": make_flair(ARRAYS["t1"], FLAT)},
    "d empty": {"seg": None},
}
Run = Callable[..., int]


def launch_here(run: Callable[[DictConfig], int], options: dict[str, object]) -> tuple[int, str]:
    """As `run_apart`, in this process."""
    try:
        return run(DictConfig(options)), ""
    except InputError as error:
        return BAD_INPUT, str(error)


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    folder = tmp_path / "patients"
    for name, changed in PATIENTS.items():
        (folder / name).mkdir(parents=True)
        for role, array in (ARRAYS | changed).items():
            if array is not None:
                save(folder / name / f"{role}.nii.gz", array)
    (folder / "no images").mkdir()
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that were run, each in this process."""
    names: list[str] = []

    def launch(run: Callable[[DictConfig], int], options: dict[str, object]) -> tuple[int, str]:
        names.append(Path(str(options["case"])).name)
        return launch_here(run, options)

    monkeypatch.setattr(batch, "run_apart", launch)
    return names


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}
