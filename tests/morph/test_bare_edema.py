"""A tumor of which only the edema is seen: nothing is fitted, and every file says that margins go around the edema."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

from morph import run
from morph.dicom_input import Series
from morph.dicom_output import write_segmentation, write_structures
from morph.fallback import distance_density
from morph.input_checks import check_core
from morph.report.page import write_report
from morph.segmentation import Masks
from morph.targets import TargetSettings, target_volumes
from morph.volume import read_volume
from tests.morph.conftest import make_arrays
from tests.morph.report_cases import Page, make_patient, make_record
from tests.morph.same_place import answer_with
from tests.morph.test_dicom_output import as_volumes, regions, series  # noqa: F401


def test_the_command_delivers_a_fallback(
    tmp_path: Path, case: Callable[..., Path], tiny_command: Callable[..., int]
) -> None:
    seg = np.where(make_arrays()["seg"] > 0, np.float32(2), 0)
    assert tiny_command(f"case={case(seg=seg)}", f"out={tmp_path / 'out'}") == run.FALLBACK_DELIVERED
    record = json.loads((tmp_path / "out" / "parameters.json").read_text())
    assert (record["method"], record["verdict"]) == ("fallback", "fail")
    assert [check["name"] for check in record["checks"] if check["verdict"] == "fail"] == ["core_visible"]
    assert "no core" in record["targets"]["ctv_15mm"]["around"]
    written = {name: read_volume(tmp_path / "out" / f"{name}.nii.gz").array for name in ("core", "edema", "ctv_15mm")}
    assert not written["core"].any() and np.all(written["ctv_15mm"][written["edema"] > 0] == 1)


def test_the_report_says_what_margins_go_around(tmp_path: Path) -> None:
    whole = make_patient()
    patient = replace(whole, masks=Masks(np.zeros_like(whole.masks.core), whole.masks.edema))
    density = patient.t1.with_array(distance_density(patient.masks, patient.t1))
    answer = answer_with(density, checks=(check_core(patient),))
    path = tmp_path / "report.html"
    write_report(path, patient, answer, make_record(patient, answer), target_volumes(patient, answer, TargetSettings()))
    text = Page(path.read_text()).elements[0].text
    assert "15 mm around the whole visible tumor, for there is no core" in text
    assert "ctv_15mm and ctv_20mm go around the whole visible tumor" in text
    assert "There is a core" in text and "labels=" in text


def test_an_empty_core_can_be_written_as_dicom(tmp_path: Path, series: Series) -> None:  # noqa: F811
    masks = as_volumes(series, regions(series))
    masks["core"] = masks["core"].with_array(0 * masks["core"].array)
    write_structures(tmp_path / "rtstruct.dcm", series, masks, "")
    write_segmentation(tmp_path / "segmentation.dcm", series, masks, "")
    named = [segment.SegmentLabel for segment in dcmread(tmp_path / "segmentation.dcm").SegmentSequence]
    assert "core" in named
