"""What matters, and several studies compared, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from nas.outcome import Outcome
from nas.records import Records
from nas.report.compare import Entry
from nas.report.compare_page import compare_page
from nas.report.page import page, write_page
from tests.browser import DESKTOP, PHONE, Browse, browse, complaints, drawn, needs_browser
from tests.fake_study import rows, write_study

__all__ = ["browse"]
pytestmark = needs_browser

LINES = """const found = document.getElementById("parallel").data.slice(1);
const numbers = found.flatMap((trace) => trace.customdata || []).filter((number) => number !== null);
return [[...new Set(numbers)], document.getElementById("parallel").layout.xaxis.title.text];"""
CUT = """const wide = document.documentElement.clientWidth, cut = [];
for (const name of arguments[0]) {
  const box = document.getElementById(name).getBoundingClientRect();
  for (const text of document.getElementById(name).querySelectorAll("text")) {
    const at = text.getBoundingClientRect();
    const inside = at.left >= box.left - 1 && at.right <= Math.min(box.right, wide) + 1;
    if (at.width && !inside) cut.push([name, text.textContent]);
  }
}
return [document.documentElement.scrollWidth - wide, cut];"""


def test_what_matters_is_drawn_and_answers(browse: Browse, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    found = [
        replace(row, coordinates={"size": float(a), "m1.reduce_3x3": float(b)})
        for row, (a, b) in zip(rows(90), draw.random((90, 2)), strict=True)
    ]
    folder = write_study(tmp_path, "fake", found)
    outcome = Outcome.read(Records(folder.url), "fake")
    write_page(page(outcome), folder.report)
    browser = browse(folder.report.as_uri(), PHONE, "light")
    drawn(browser)
    complete = {row.trial for row in outcome.rows if row.state == "complete"}
    numbers, title = browser.execute_script(LINES)
    assert sorted(numbers) == sorted(complete)
    assert title == "1 to 3: width of each module"
    Select(browser.find_element(By.ID, "parallel-which")).select_by_value("near")
    Select(browser.find_element(By.ID, "parallel-quantity")).select_by_value("share")
    numbers, title = browser.execute_script(LINES)
    assert {row.trial for row in outcome.front} <= set(numbers) < complete
    assert title == "1 to 3: share of each module"
    sideways, cut = browser.execute_script(CUT, ["importance", "parallel", "equal-share", "equal-cost"])
    assert (sideways, cut) == (0, [])
    number = outcome.front[0].trial
    emit = "document.getElementById('equal-slope').emit('plotly_click', {points: [{customdata: arguments[0]}]})"
    browser.execute_script(emit, number)
    panel = browser.find_element(By.ID, "panel")
    assert f"Trial {number}" in panel.text
    assert complaints(browser) == []


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_several_studies_are_drawn_and_fit(browse: Browse, tmp_path: Path, size: tuple[int, int], theme: str) -> None:
    entries = []
    for number, sampler in enumerate(("tpe", "tpe", "random")):
        name = f"{sampler}-{number}"
        folder = write_study(tmp_path, name, rows(40, seed=number), sampler=sampler)
        outcome = Outcome.read(Records(folder.url), name)
        entries.append(Entry(replace(outcome, identity={**outcome.identity, "seed": number})))
    page = tmp_path / "compare.html"
    write_page(compare_page(entries), page)
    browser = browse(page.as_uri(), size, theme)
    drawn(browser)
    names = browser.execute_script("return Object.keys(FIGURES)")
    assert names == ["fronts", "over-trials", "over-seconds"]
    sideways, cut = browser.execute_script(CUT, names)
    assert (sideways, cut) == (0, [])
    legend = browser.execute_script(
        "return [...document.querySelectorAll('#fronts .legendtext')].map(t => t.textContent)"
    )
    assert legend == ["tpe, 2 seeds", "random-2"]
    assert complaints(browser) == []
