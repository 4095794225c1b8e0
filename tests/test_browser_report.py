"""The report in a real browser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from nas import pareto
from nas.held import held
from nas.outcome import Outcome, modules_table
from nas.records import Records
from nas.refined import Refinement, networks, pick
from nas.report.latency import Latency
from nas.report.page import page, write_page
from nas.seal import Seal
from nas.study_folder import StudyFolder
from tests.browser import DESKTOP, PHONE, Browse, complaints, drawn, needs_browser, pictured, seen_as, start
from tests.fake_study import HOSTILE, rows, write_study
from tests.refining import refinement
from tests.test_headline import baseline
from tests.test_redundancy import measured
from tests.test_report import read

pytestmark = needs_browser


REFINED = 9
"""Networks of the study that were trained in full."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with all that the page can show, most names hostile."""
    folder = write_study(
        tmp_path_factory.mktemp("studies"),
        "fake",
        rows(60),
        space=HOSTILE,
        classes=[HOSTILE, *(str(n) for n in range(9))],
        command=f"nas search --study fake --space {shlex.quote(HOSTILE)}",
    )
    found = Outcome.read(Records(folder.url), "fake")
    line = sorted((row for row in found.rows if row.state == "failed"), key=lambda row: row.cost)
    known = [baseline(row, 0.6) for row in line]
    known.append(replace(baseline(line[-1], 0.7), kind="reference", name="<i>big</i>", recipe_name="published"))
    latency = Latency({row.key: 0.3 + row.macs / 1e6 for row in found.front}, HOSTILE, 1, 50, {"torch": "2.14.1"})
    text = page(
        found,
        studies_dir=folder.studies_dir / HOSTILE,
        seal=Seal((read("fake", 3), read(HOSTILE, 4, HOSTILE))),
        known=held(known),
        trainings=in_full(found),
        latency=latency,
    )
    write_page(text, folder.report)
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser = start(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.quit()


@pytest.fixture
def browse(started: webdriver.Chrome) -> Browse:
    """Opens a report, all drawn, in a browser that the tests of this file share."""

    def browse(address: str, size: tuple[int, int] = DESKTOP, theme: str = "light") -> webdriver.Chrome:
        complaints(started)  # an earlier test's are no longer there to be read
        seen_as(started, size, theme)
        started.get(address)
        drawn(started)
        return started

    return browse


@pytest.fixture(scope="module")
def outcome(folder: StudyFolder) -> Outcome:
    return Outcome.read(Records(folder.url), "fake")


def in_full(outcome: Outcome) -> list[Refinement]:
    """Five trainings each of networks from small to large."""
    complete = sorted((row for row in outcome.rows if row.state == "complete"), key=lambda row: row.cost)
    return [
        refinement(row, round(0.90 + 0.01 * n + 0.003 * r * (-1) ** n, 4), r)
        for n, row in enumerate(complete[:: len(complete) // REFINED][:REFINED])
        for r in range(1, 6)
    ]


BOXES = """
const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
return Object.keys(FIGURES).map((name) => {
  const figure = document.getElementById(name), legend = figure.querySelector(".legend");
  const texts = [...figure.querySelectorAll("text")].filter((text) => text.textContent.trim());
  return {
    name, figure: box(figure), plot: box(figure.querySelector(".nsewdrag")), legend: legend && box(legend),
    texts: texts.map((text) => [text.textContent, ...box(text)]),
    buttons: [...figure.querySelectorAll(".modebar-btn")].map(box),
    ticks: [...figure.querySelectorAll(".xtick text")].map(box),
  };
});"""


def assert_fits(browser: webdriver.Chrome) -> None:
    """No sideways scrolling of the page, no text cut off, no legend over data, no tick over the next."""
    wide, inside = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= inside
    for entry in browser.execute_script(BOXES):
        left, top, right, bottom = entry["figure"]
        for text, *(x0, y0, x1, y1) in entry["texts"]:
            cut = x0 < left - 1 or y0 < top - 1 or x1 > right + 1 or y1 > bottom + 1
            assert not cut, f"{text!r} is cut off in {entry['name']}"
        if entry["legend"]:
            assert entry["legend"][3] <= entry["plot"][1] + 2, f"the legend lies over {entry['name']}"
        for x0, _, _, y1 in entry["buttons"] if entry["legend"] else []:
            assert entry["legend"][2] <= x0 or entry["legend"][1] >= y1, f"buttons of {entry['name']} over its legend"
        assert entry["plot"][2] - entry["plot"][0] > 0.5 * (right - left), entry["name"]
        ticks = sorted(entry["ticks"])
        assert all(a[2] <= b[0] + 1 for a, b in pairwise(ticks)), f"ticks of {entry['name']} overlap"


def test_the_report_is_drawn_and_fits(browse: Browse, folder: StudyFolder, outcome: Outcome, tmp_path: Path) -> None:
    sizes = set()
    for size in (DESKTOP, PHONE):
        for theme in ("light", "dark"):
            browser = browse(folder.report.as_uri(), size, theme)
            assert_fits(browser)
            ink = browser.execute_script("return getComputedStyle(document.querySelector('#front .xtick text')).fill")
            light = sum(int(part) for part in ink.removeprefix("rgb(").rstrip(")").split(",")) > 3 * 128
            assert light == (theme == "dark")
            browser.execute_async_script(OPEN, outcome.front[0].trial)
            assert_fits(browser)
            figure, panel = (browser.find_element(By.ID, name).rect for name in ("front", "panel"))
            if size == DESKTOP:
                titles = browser.execute_script(
                    "return [...document.querySelectorAll('#front [data-title]')].map(e => e.dataset.title)"
                )
                assert "Zoom" in titles
                assert not [title for title in titles if "Share" in title]  # plotly's would send the study away
                assert panel["x"] >= figure["x"] + figure["width"]  # beside it
            else:
                assert panel["y"] >= figure["y"] + figure["height"]  # below it
            sizes.add(pictured(browser, tmp_path / f"{size[0]}-{theme}.png")[0])
    assert sizes == {DESKTOP[0], PHONE[0]}
    assert len(list(tmp_path.glob("*.png"))) == 4
    points = browser.execute_script(
        "return [...document.querySelectorAll('#front .points')].map(g => g.children.length).filter(n => n)"
    )
    states = [outcome.count(state) for state in ("complete", "pruned", "failed")]
    assert sorted(points) == sorted([*states, REFINED, 1, states[2]])  # a known network and the line stand there too
    assert complaints(browser) == []


OPEN = "const front = document.getElementById('front'); openPanel(arguments[0], front, front).then(arguments[1])"


def panel_of(browser: webdriver.Chrome, title: str) -> WebElement:
    """The panel, once it shows this."""
    panel = browser.find_element(By.ID, "panel")
    WebDriverWait(browser, 30).until(lambda b: b.find_element(By.ID, "panel-title").text == title)
    return panel


def mark_of(browser: webdriver.Chrome, figure: str, trial: int) -> WebElement:
    """A mark of this trial, the last one drawn."""
    found: WebElement = browser.execute_script(
        """const [name, trial] = arguments, found = [];
        for (const trace of document.getElementById(name).calcdata) for (const point of trace) {
          const data = trace[0].trace.customdata, i = point.i;
          if (data && Number(data[i]) === trial) found.push([trace[0].node3.node(), i]);
        }
        const [group, i] = found.pop();
        return [...group.querySelectorAll(".point")].find((path) => path.__data__.i === i);""",
        figure,
        trial,
    )
    return found


def click(browser: webdriver.Chrome, mark: WebElement) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(browser).move_to_element(mark).click().perform()


def test_a_click_on_a_point_fixes_its_panel(browse: Browse, folder: StudyFolder, outcome: Outcome) -> None:
    browser = browse(folder.report.as_uri())
    refined_trial = networks(outcome.rows, in_full(outcome))[-1]
    row = refined_trial.row
    click(browser, mark_of(browser, "front", row.trial))
    panel = panel_of(browser, f"Trial {row.trial}, complete")
    cells = [[cell.text for cell in line.find_elements(By.CSS_SELECTOR, "th, td")] for line in
             panel.find_elements(By.CSS_SELECTOR, ".modules tbody tr")]  # fmt: skip
    assert cells == modules_table(row.architecture)
    facts = panel.find_element(By.TAG_NAME, "dl").text
    assert f"{row.params:,}" in facts
    assert f"{row.val_accuracy:.4f} at epoch 9" in facts
    assert f"{refined_trial.mean:.4f}, mean of 5 full trainings" in facts
    place = f" --studies-dir {shlex.quote(str(folder.studies_dir / HOSTILE))}"
    command = panel.find_element(By.CSS_SELECTOR, ".take-away code")
    assert command.text == f"nas export fake --pick trial:{row.trial}{place}"
    shares = browser.execute_script("return document.getElementById('panel-shares').data[0].y")
    assert shares == pytest.approx([float(share) for share in row.architecture.shares])
    curves = browser.execute_script("return document.getElementById('panel-curve').data.map(t => t.y)")
    assert curves[-1] == [accuracy for _, accuracy, _ in row.curve]
    assert len(curves) == 1 + 5
    panel.find_element(By.CSS_SELECTOR, ".take-away button").click()
    WebDriverWait(browser, 30).until(
        lambda b: b.find_element(By.CSS_SELECTOR, ".take-away button").text in ("Copied", "Press Ctrl+C")
    )
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not panel.is_displayed()
    assert complaints(browser) == []


def test_trials_without_a_network_say_why(browse: Browse, folder: StudyFolder, outcome: Outcome) -> None:
    browser = browse(folder.report.as_uri(), PHONE, "dark")
    failed = next(row for row in outcome.rows if row.state == "failed" and not row.curve)
    click(browser, mark_of(browser, "front", failed.trial))
    panel = panel_of(browser, f"Trial {failed.trial}, failed")
    assert " ".join(HOSTILE.split()) in panel.text  # as text
    assert "cannot be exported" in panel.text
    assert "It failed before its first reading" in panel.text
    assert panel.find_elements(By.CSS_SELECTOR, ".take-away code") == []
    pruned = next(row for row in outcome.rows if row.state == "pruned")
    browser.execute_async_script(OPEN.replace("'front'", "'curves'"), pruned.trial)
    panel = panel_of(browser, f"Trial {pruned.trial}, pruned")
    assert str(pruned.reason) in panel.text
    beside = browser.execute_script("return document.getElementById('panel').closest('.beside').contains(curves)")
    assert beside
    panel.find_element(By.ID, "panel-close").click()
    assert not panel.is_displayed()
    behind = max(
        (row for row in outcome.rows if row.state == "complete" and row.trial not in
         {one.trial for one in (*outcome.front, *in_full(outcome))}), key=lambda row: row.trial,
    )  # fmt: skip
    browser.execute_async_script(OPEN, behind.trial)
    commands = [code.text for code in panel_of(browser, f"Trial {behind.trial}, complete").find_elements(
        By.CSS_SELECTOR, ".take-away code")]  # fmt: skip
    assert [command.split(" --studies")[0] for command in commands] == [
        f"nas refine fake --pick trial:{behind.trial}",
        f"nas export fake --pick trial:{behind.trial}",
    ]
    brief = next(row.trial for row in outcome.front if row.trial not in {one.trial for one in in_full(outcome)})
    browser.execute_async_script(OPEN, brief)
    command = panel_of(browser, f"Trial {brief}, complete").find_element(By.CSS_SELECTOR, ".take-away code")
    assert command.text.endswith(" --as-is")  # the picks are among the refined
    number = outcome.front[0].trial
    browser.find_element(By.CSS_SELECTOR, f".front button[data-trial='{number}']").click()
    panel_of(browser, f"Trial {number}, complete")
    assert complaints(browser) == []


def test_the_slider_names_what_export_picks(browse: Browse, folder: StudyFolder, outcome: Outcome) -> None:
    browser = browse(folder.report.as_uri())
    full = networks(outcome.rows, in_full(outcome))
    slider, seen = browser.find_element(By.ID, "budget"), set()
    for key in (Keys.HOME, *([Keys.PAGE_UP] * 9), Keys.ARROW_LEFT, Keys.END):
        slider.send_keys(key)
        limit, trial = bought(browser)
        assert pick(outcome, full, f"under:{limit}").row.trial == trial
        seen.add(trial)
        line = browser.execute_script("return document.querySelector('#marks .limit').getBoundingClientRect().left")
        at = browser.execute_script(
            "const front = document.getElementById('front'), x = front._fullLayout.xaxis; "
            "return front.getBoundingClientRect().left + x._offset + x.d2p(arguments[0])",
            limit,
        )
        assert line == pytest.approx(at, abs=2)
    assert len(seen) > 2
    assert limit == max(one.row.cost for one in full)  # the right end is the dearest
    assert browser.find_element(By.ID, "most").text == f"{limit:,} parameters"
    browser.find_element(By.CSS_SELECTOR, "#bought button").click()
    panel_of(browser, f"Trial {trial}, complete")
    assert complaints(browser) == []


def bought(browser: webdriver.Chrome) -> tuple[int, int]:
    """The limit of the command under the slider, and the trial that is named."""
    command = browser.find_element(By.CSS_SELECTOR, "#buy code").text
    limit = re.search(r"--pick under:(\d+)", command)
    assert limit is not None
    return int(limit[1]), int(browser.find_element(By.CSS_SELECTOR, "#bought button").text.removeprefix("trial "))


def test_the_figure_stands_over_each_cost(browse: Browse, folder: StudyFolder, outcome: Outcome) -> None:
    browser = browse(folder.report.as_uri())
    xs = "return document.getElementById('front').data.find((t) => (t.name || '').startsWith(arguments[0])).x"
    complete = [row for row in outcome.rows if row.state == "complete"]
    assert list(browser.execute_script(xs, "complete")) == [row.params for row in complete]
    knees = set()
    for axis, costs in (
        ("macs", {row.key: row.macs for row in complete}),
        ("latency", {row.key: 0.3 + row.macs / 1e6 for row in outcome.front}),
    ):
        browser.find_element(By.CSS_SELECTOR, f"input[value={axis}] + span").click()
        WebDriverWait(browser, 30).until(
            lambda b, wanted=costs: (
                b.execute_script(xs, "complete") == pytest.approx([wanted.get(row.key) for row in complete], abs=1e-4)
                if len(wanted) == len(complete)
                else [x is None for x in b.execute_script(xs, "complete")]
                == [row.key not in wanted for row in complete]
            )
        )
        measured = [row for row in complete if row.key in costs]
        front = pareto.front([costs[row.key] for row in measured], [row.val_accuracy or 0.0 for row in measured])
        assert browser.execute_script(xs, "front") == pytest.approx([costs[measured[i].key] for i in front], abs=1e-4)
        knees.add(browser.find_element(By.ID, "knee").text)
        assert browser.find_element(By.ID, "measured").is_displayed() == (axis == "latency")
        assert browser.find_elements(By.CSS_SELECTOR, "#marks .limit") == []  # the budget is of the study's own cost
    assert len(knees) == 2
    assert complaints(browser) == []


def test_the_report_follows_the_theme_zooms_and_answers_a_hover(browse: Browse, folder: StudyFolder) -> None:
    browser = browse(folder.report.as_uri())
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
    assert "1x1 · reduce→3x3" in hover[0].text
    assert complaints(browser) == []


def test_one_heat_map_is_drawn_at_a_time(browse: Browse, folder: StudyFolder, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    both = [measured(weights="first"), measured(trial=4)]
    write_page(page(Outcome.read(Records(folder.url), "fake"), redundancy=both), path)
    browser = browse(path.as_uri(), PHONE, "dark")
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
