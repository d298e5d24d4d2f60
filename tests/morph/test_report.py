"""The report says what it must, to everybody, and nothing of a patient's name or files becomes code."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from morph.report import tables, words
from tests.morph.report_cases import NASTY, Page, make_answer, make_patient, write_case

CASES = {
    "model": {"name": NASTY, "pushes": True},
    "sampled": {"sampled": True, "warns": True, "twin": True},
    "fallback": {"fallback": True},
}

pytestmark = pytest.mark.xdist_group("report")  # the reports are drawn once

_RESTS = ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
"""An axis, and the two others."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One report of each kind: a model's answer, one with a posterior and a warning of a twin, and a fallback."""
    folder = tmp_path_factory.mktemp("reports")
    return {kind: write_case(folder / f"{kind}.html", **about) for kind, about in CASES.items()}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pages(reports: dict[str, Path]) -> dict[str, Page]:
    return {kind: Page(path.read_text()) for kind, path in reports.items()}


def test_what_contours_and_maps_do_not_show_is_said(tmp_path: Path, reports: dict[str, Path]) -> None:
    text = write_case(tmp_path / "cut.html", sampled=True, cut=True).read_text()
    said = (
        "ctv_20mm: the DICOM series does not show 25% of it", "core: on the voxels of the DICOM series its volume",
        "Only the largest focus was sampled", "Barriers of the margins: outline of the brain",
    )  # fmt: skip
    for sentence in said:
        assert sentence in text
    assert [sentence in reports["sampled"].read_text() for sentence in said] == [False, False, False, True]


@pytest.mark.parametrize("kind", CASES)
def test_a_page_is_well_formed_and_says_what_it_is(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    assert page.all("html")[0].attributes["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    identities = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(identities) == len(set(identities))
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    for link in page.all("a"):
        assert link.attributes["href"].removeprefix("#") in identities
    for section in page.all("section"):
        assert section.attributes["aria-labelledby"] in identities


@pytest.mark.parametrize("kind", CASES)
def test_pictures_and_tables_can_be_read_aloud(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    pictures = page.all("img")
    assert len(pictures) >= 12
    for picture in pictures:
        assert re.search("(axial|coronal|sagittal) plane", picture.attributes["alt"])
        webp = base64.b64decode(picture.attributes["src"].removeprefix("data:image/webp;base64,"))
        assert webp[:4] == b"RIFF" and webp[8:12] == b"WEBP"
        assert int(picture.attributes["width"]) > 100
    assert len({picture.attributes["src"] for picture in pictures}) > 9
    assert all(heading.attributes.get("scope") in ("row", "col") for heading in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    (frame,) = page.all("iframe")
    assert frame.attributes["title"]


@pytest.mark.parametrize("kind", CASES)
def test_nothing_leads_out_of_the_file(reports: dict[str, Path], pages: dict[str, Page], kind: str) -> None:
    viewer = Page(pages[kind].all("iframe")[0].attributes["srcdoc"])
    for page in (pages[kind], viewer):
        for element in page.elements:
            for name in ("src", "href", "srcset", "data", "action", "poster"):
                assert element.attributes.get(name, "#").startswith(("#", "data:")), (element.tag, name)
        for style in page.all("style"):
            assert "url(" not in style.text and "@import" not in style.text
    policies = [e for e in pages[kind].all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0].attributes["content"]
    assert reports[kind].stat().st_size < 2e6


def test_the_verdict_comes_first_and_in_words(pages: dict[str, Page]) -> None:
    headlines = {"model": "passed its checks", "sampled": "with warnings", "fallback": "No model answer"}
    for kind, words_ in headlines.items():
        first = pages[kind].all("section")[0]
        assert first.attributes["id"] == "summary"
        assert words_ in first.text and words_ in pages[kind].all("title")[0].text
        assert "What to do." in first.text
        assert "not a medical device" in pages[kind].all("body")[0].text
    worries = pages["sampled"].all("ul", class_="worries")[0].text
    assert "warning" in worries and "0.07, below 0.08" in worries and "front and back or top and bottom" in worries
    assert not pages["model"].all("ul", class_="worries")


def test_a_fallback_cannot_be_taken_for_an_estimate(pages: dict[str, Page]) -> None:
    page = pages["fallback"]
    for name in ("pictures", "viewer", "isolines", "targets"):
        assert "Distance to the outlines, not an estimate" in page.section(name).text
    assert "rejected" in page.section("parameters").text and "mm" not in page.section("parameters").text
    assert "share of estimated cells" not in page.section("targets").text
    assert "share of the visible edema" in page.section("targets").text
    assert "failed" in page.section("checks").text
    assert "Distance to the outlines" not in pages["model"].all("body")[0].text


def test_a_fallback_without_a_failed_check_says_why(pages: dict[str, Page]) -> None:
    answer = make_answer(make_patient(), fallback=True)
    passed = tuple(check for check in answer.checks if check.verdict == "pass")
    told = words.summarize(replace(answer, checks=passed))
    assert told.tone == "fail" and "vanish" in told.meaning
    assert "answer was rejected" in words.summarize(answer).meaning
    assert "no tumor was fitted" in words.summarize(replace(answer, found=None)).meaning


def test_parameters_come_with_intervals_where_there_are_any(pages: dict[str, Page]) -> None:
    with_intervals = pages["sampled"].section("parameters").text
    assert "7.0 mm" in with_intervals and "6.2 to 8.2 mm" in with_intervals and "5.2 to 9.2 mm" in with_intervals
    assert "no credible intervals" not in with_intervals
    assert "as in the atlas (70%), white matter throughout (30%)" in with_intervals
    assert "no credible intervals" in pages["model"].section("parameters").text
    bars = [e for e in pages["sampled"].all("rect") if e.attributes.get("class") == "median"]
    assert len(bars) == 4
    places = [float(bar.attributes["x"]) for bar in bars]
    assert places[0] == pytest.approx(100 * (7.2 - 2.5) / (50 - 2.5) - 0.5, abs=0.06)
    assert "uncertainty" not in {e.attributes.get("id") for e in pages["model"].elements}
    uncertainty = pages["sampled"].section("uncertainty").text
    assert "density above 0.1 with probability 0.5" in pages["sampled"].section("targets").text
    assert "Probability that the density exceeds 0.1" in uncertainty and "0.87" in uncertainty


def test_a_tumor_that_pushes_shows_how_far(pages: dict[str, Page]) -> None:
    assert "7.5 mm" in pages["model"].section("displacement").text
    assert "longest displacement of tissue" in pages["model"].section("parameters").text
    assert not [e for e in pages["sampled"].all("section") if e.attributes.get("id") == "displacement"]


def test_images_that_were_not_given_are_named(pages: dict[str, Page]) -> None:
    assert "Not given: T1Gd." in pages["model"].section("isolines").text
    for image in ("T1", "FLAIR"):
        assert f"Isolines over {image}" in pages["model"].section("isolines").text


def test_a_twin_is_held_against_its_truth(pages: dict[str, Page]) -> None:
    rows = [row.text.split() for row in pages["sampled"].all("tr")]
    assert ["μ₁", "6.5", "mm", "7.0", "mm", "8%", "off"] in rows
    assert "Dice 0.91" in pages["sampled"].section("truth").text
    assert not [e for e in pages["model"].all("section") if e.attributes.get("id") == "truth"]


def test_every_check_is_listed_with_value_limit_and_message(pages: dict[str, Page]) -> None:
    text = " ".join(pages["sampled"].section("checks").text.split())
    for check in make_answer(make_patient(), warns=True).checks:
        assert check.name in text and check.message in text and tables.number(check.value) in text
    assert text.index("orientation") < text.index("fit_core")
    assert "1434" in text and "e+03" not in text and "inf" in text


def test_provenance_is_complete(pages: dict[str, Page]) -> None:
    text = pages["model"].section("provenance").text
    for told in ("ab" * 32, "cd" * 32, "1.2.3", "known", "12.5", "38 s in all", '"seed": 7', "/t1.nii.gz"):
        assert told in text


def test_names_and_paths_are_never_code(reports: dict[str, Path], pages: dict[str, Page]) -> None:
    page = pages["model"]
    assert page.all("h1")[0].text == NASTY
    assert NASTY in page.all("title")[0].text
    assert f"/data/{NASTY}/t1.nii.gz" in page.section("provenance").text
    assert not page.all("script")
    assert "<script>alert" not in reports["model"].read_text()


def test_the_same_answer_makes_the_same_bytes(reports: dict[str, Path], tmp_path: Path) -> None:
    again = write_case(tmp_path / "again.html", **CASES["sampled"])  # type: ignore[arg-type]
    assert again.read_bytes() == reports["sampled"].read_bytes()


def test_the_viewer_opens_at_the_tumor_with_the_right_side_on_the_left(pages: dict[str, Page]) -> None:
    viewer = Page(pages["model"].all("iframe")[0].attributes["srcdoc"])
    script = "".join(element.text for element in viewer.all("script"))
    parameters = json.loads(re.search(r"brainsprite\((\{.*?\})\);", script, re.DOTALL)[1])  # type: ignore[index]
    sizes, place = parameters["nbSlice"], parameters["numSlice"]
    (overlay,) = (e for e in viewer.all("img") if e.attributes["id"].startswith("overlayImg"))
    png = base64.b64decode(overlay.attributes["src"].removeprefix("data:image/png;base64,"))
    sprite = imread(io.BytesIO(png))[..., :3].sum(axis=-1) * (imread(io.BytesIO(png))[..., 3] > 0)
    columns = sprite.shape[1] // sizes["Y"]
    slices = [
        sprite[row * sizes["Z"] : (row + 1) * sizes["Z"], column * sizes["Y"] : (column + 1) * sizes["Y"]]
        for row, column in (divmod(x, columns) for x in range(sizes["X"]))
    ]
    shown = np.stack(slices)  # x from the patient's right, rows from the top, y
    assert shown[place["X"], sizes["Z"] - 1 - place["Z"], place["Y"]] > 0.7 * shown.max()
    x, z, y = (np.average(np.arange(shown.shape[axis]), weights=shown.sum(axis=rest)) for axis, rest in _RESTS)
    assert x < 0.45 * sizes["X"]  # the tiny patient's tumor is on the right
    assert y < 0.5 * sizes["Y"]  # and behind
    assert z == pytest.approx(sizes["Z"] / 2, abs=8)


def test_checks_that_are_named_in_the_code_have_words(repository: Path) -> None:
    named = set()
    for path in (repository / "morph").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("at_least", "at_most", "Check"):
                named |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    assert len(named) > 20
    wordless = [one.check.name for one in words.tell(tuple(_check(str(name)) for name in named)) if not one.advice]
    assert not wordless


def _check(name: str) -> words.Check:
    return words.Check(name, 1.0, 1.0, "pass", "")


def test_the_page_of_checks_has_each_of_them_in_the_reports_words(repository: Path) -> None:
    page = (repository / "docs/tutorials/checks.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [f"| `{name}` | {title} | {advice} |" for name, (title, advice) in words.CHECKS.items()]
    assert rows == expected, "\n".join(expected)
