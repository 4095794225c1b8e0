"""The report in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from nas.outcome import Outcome
from nas.records import Records
from nas.report.page import write_report
from nas.study_folder import StudyFolder
from tests.browser import DESKTOP, PHONE, Browse, browse, complaints, drawn, needs_browser
from tests.fake_study import rows, write_study
from tests.test_redundancy import measured

__all__ = ["browse"]
pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = write_study(tmp_path_factory.mktemp("studies"), "fake", rows(60))
    write_report(Outcome.read(Records(folder.url), "fake"), folder.report)
    return folder


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_is_drawn_and_fits(browse: Browse, folder: StudyFolder, size: tuple[int, int], theme: str) -> None:
    browser = browse(folder.report.as_uri(), size, theme)
    drawn(browser)
    assert complaints(browser) == []
    found = Outcome.read(Records(folder.url), "fake")
    points = browser.execute_script(
        "return [...document.querySelectorAll('#front .points')].map(g => g.children.length)"
    )
    assert sorted(points) == [
        0,
        *sorted(found.count(s) for s in ("complete", "pruned", "failed")),
    ]  # the line of the front has no marks
    wide, inside = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= inside  # no sideways scrolling of the page
    boxes = browser.execute_script(
        """const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
        return ["front", "curves", "shares"].map((name) => {
          const figure = document.getElementById(name), legend = figure.querySelector(".legend");
          const texts = [...figure.querySelectorAll("text")].filter((text) => text.textContent.trim());
          return {
            name, figure: box(figure), plot: box(figure.querySelector(".nsewdrag")), legend: legend && box(legend),
            texts: texts.map((text) => [text.textContent, ...box(text)]),
          };
        });"""
    )
    for entry in boxes:
        left, top, right, bottom = entry["figure"]
        for text, *(x0, y0, x1, y1) in entry["texts"]:
            cut = x0 < left - 1 or y0 < top - 1 or x1 > right + 1 or y1 > bottom + 1
            assert not cut, f"{text!r} is cut off in {entry['name']}"
        if entry["legend"]:
            assert entry["legend"][3] <= entry["plot"][1] + 2, f"the legend lies over {entry['name']}"
        assert entry["plot"][2] - entry["plot"][0] > 0.6 * (right - left)
    ink = browser.execute_script("return getComputedStyle(document.querySelector('#front .xtick text')).fill")
    light = sum(int(part) for part in ink.removeprefix("rgb(").rstrip(")").split(",")) > 3 * 128
    assert light == (theme == "dark")


def test_the_report_follows_the_theme_zooms_and_answers_a_hover(browse: Browse, folder: StudyFolder) -> None:
    browser = browse(folder.report.as_uri())
    drawn(browser)
    ink = "return getComputedStyle(document.querySelector('#front .xtick text')).fill"
    before = browser.execute_script(ink)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(ink) != before)

    span = "const r = document.getElementById('front').layout.yaxis.range; return r[1] - r[0];"
    whole = browser.execute_script(span)
    button = browser.find_element(By.ID, "zoom")
    button.click()
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(span) < 0.8 * whole)
    assert button.text == "Show every network"
    button.click()
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(span) == pytest.approx(whole))

    marks = browser.find_elements(By.CSS_SELECTOR, "#front .points path")
    ActionChains(browser).move_to_element(marks[-1]).perform()
    hover = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#front .hovertext"))
    assert "trial" in hover[0].text
    assert "widths 1x1 · reduce 3x3" in hover[0].text
    assert complaints(browser) == []


def test_one_heat_map_is_drawn_at_a_time(browse: Browse, folder: StudyFolder, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    both = [measured(weights="first"), measured(trial=4)]
    write_report(Outcome.read(Records(folder.url), "fake"), page, redundancy=both)
    browser = browse(page.as_uri(), PHONE, "dark")
    drawn(browser)
    names = browser.execute_script(
        "return [...document.querySelectorAll('#redundancy .ytick text')].map(t => t.textContent)"
    )
    assert names == ["1x1", "reduce 3x3", "3x3", "5x5", "pool"]
    box = (
        "const r = document.querySelector('#redundancy .nsewdrag').getBoundingClientRect(); return [r.width, r.height]"
    )
    width, height = browser.execute_script(box)
    assert width == pytest.approx(height, abs=2)  # a correlation is square
    assert width > 200
    wide, inside = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= inside
    Select(browser.find_element(By.ID, "heat-map")).select_by_index(1)
    WebDriverWait(browser, 30).until(
        lambda b: b.execute_script("return document.getElementById('redundancy').data === DATA.heat_maps[1].data")
    )
    ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, "#redundancy .nsewdrag")).perform()
    hover = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#redundancy .hovertext"))
    assert "channel" in hover[0].text
    assert "r = " in hover[0].text
    assert complaints(browser) == []
