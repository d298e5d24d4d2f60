"""The report in a real headless browser, at a phone's and a desktop's size; skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.morph.report_cases import write_case

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = {"phone": (390, 844), "desktop": (1440, 900)}
EVERY = [
    ("full", "phone", "light"),
    ("full", "desktop", "dark"),
    ("fallback", "phone", "dark"),
    ("fallback", "desktop", "light"),
]
READABLE = 4.5
"""Contrast of text that WCAG 2 asks for at level AA."""
CONTRASTS = """() => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > .99) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.getClientRects().length)
    .map(e => {
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
      return [(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)];
    });
}"""
PIXELS = """canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)
  .filter((value, index) => index % 4 < 3 && value > 40).length"""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    full = write_case(folder / "full.html", sampled=True, warns=True, twin=True)
    return {"full": full, "fallback": write_case(folder / "fallback.html", name="patient " * 12, fallback=True)}


@pytest.fixture
def page(
    browser: Browser, reports: dict[str, Path], request: pytest.FixtureRequest
) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page at a size, with what it asked for from anywhere, and what it complained of."""
    kind, size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(reports[kind].as_uri())
    yield page, asked, complaints
    context.close()


@pytest.mark.parametrize("page", EVERY, indirect=True, ids="-".join)
def test_a_report_stands_alone_and_fits_the_window(page: tuple[Page, list[str], list[str]]) -> None:
    shown, asked, complaints = page
    width, height = shown.viewport_size["width"], shown.viewport_size["height"]  # type: ignore[index]
    _open_viewer(shown)
    shown.evaluate("Promise.all([...document.images].map(image => image.decode()))")
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert complaints == []
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    too_wide = (
        "[...document.querySelectorAll('main img')].filter(e => e.getBoundingClientRect().width > innerWidth).length"
    )
    assert shown.evaluate(too_wide) == 0
    shown.evaluate("scrollTo(0, 0)")
    verdict = shown.locator("#summary").bounding_box()
    assert verdict is not None and verdict["y"] >= 0 and verdict["y"] + verdict["height"] <= height


@pytest.mark.parametrize("page", EVERY[:2], indirect=True, ids="-".join)
def test_the_viewer_draws_and_follows_a_click(page: tuple[Page, list[str], list[str]]) -> None:
    shown, _, complaints = page
    canvas = _open_viewer(shown)
    lit = canvas.evaluate(PIXELS)
    assert lit > 5000
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    canvas.click(position={"x": 60, "y": 120})
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
    slider = shown.frame_locator("iframe").get_by_role("slider", name="Opacity of the density, percent")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    slider.fill("5")
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
    assert complaints == []


@pytest.mark.parametrize("page", EVERY, indirect=True, ids="-".join)
def test_text_can_be_read(page: tuple[Page, list[str], list[str]]) -> None:
    shown = page[0]
    shown.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    contrasts = shown.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert [(round(contrast, 2), text) for contrast, text in contrasts if contrast < READABLE] == []


def _open_viewer(page: Page) -> Locator:
    """The viewer's canvas, in view: a browser draws no frame that nobody sees."""
    page.locator("#viewer").evaluate("section => section.scrollIntoView()")
    canvas = page.frame_locator("iframe").locator("canvas")
    canvas.wait_for()
    return canvas
