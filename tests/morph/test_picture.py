"""The overview picture is drawn for every patient that the pipeline takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morph.fallback import distance_density
from morph.patient import Patient
from morph.picture import draw_overview
from morph.segmentation import Masks
from morph.volume import Frame, Volume
from tests.morph.same_place import answer_with

SHAPE = (40, 44, 36)
ALL = slice(None)
BOXES = {
    "one_voxel": (slice(20, 21), slice(20, 21), slice(20, 21)),
    "mostly_right_of_the_brain": (slice(23, 40), slice(20, 23), slice(20, 23)),
    "mostly_left_of_the_brain": (slice(0, 17), slice(20, 23), slice(20, 23)),
    "everywhere": (ALL, ALL, ALL),
}


@pytest.mark.parametrize("place", BOXES)
@pytest.mark.parametrize("empty", [False, True])
def test_a_core_of_any_size_and_place_is_drawn(tmp_path: Path, place: str, empty: bool) -> None:
    t1 = np.zeros(SHAPE, dtype=np.float32)
    t1[16:24, 16:28, 14:22] = 100
    core = np.zeros(SHAPE, dtype=bool)
    core[BOXES[place]] = True
    volume = Volume(t1, np.diag([4.0, 4.0, 4.0, 1.0]))
    patient = Patient("someone", volume, Frame(volume.affine, SHAPE), Masks(core, core))
    density = volume.with_array(t1 * 0 if empty else distance_density(patient.masks, volume))
    answer = answer_with(density)
    draw_overview(tmp_path / "overview.png", patient, answer)
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")
