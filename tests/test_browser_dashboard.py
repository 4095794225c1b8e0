"""The dashboard in a real browser, beside a search that runs and on a study that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from nas.dashboard.figures import CURVES, FRONT, ORDER
from nas.study_folder import StudyFolder
from tests.browser import DESKTOP, PHONE, Browse, browse, complaints, needs_browser, pictured, seen_as
from tests.fake_study import rows, write_study
from tests.searches import ended, running, wait_for
from tests.serving import served

__all__ = ["browse"]
pytestmark = needs_browser


def drawn(browser: webdriver.Chrome) -> None:
    """Waits until all our figures are drawn in the study's page."""
    script = (
        "return arguments[0].every((id) => document.getElementById(`user-defined-plot:${id}`)?.querySelector('svg'))"
    )
    WebDriverWait(browser, 60).until(lambda one: one.execute_script(script, list(ORDER)))


def traces(browser: webdriver.Chrome, figure: str) -> list[str]:
    script = "return document.getElementById(`user-defined-plot:${arguments[0]}`).data.map((trace) => trace.name || '')"
    found: list[str] = browser.execute_script(script, figure)
    return found


def answer(browser: webdriver.Chrome, method: str, path: str) -> tuple[int, str]:
    """What the page's own script gets."""
    script = (
        "const done = arguments[arguments.length - 1];"
        "fetch(arguments[1], {method: arguments[0]}).then(async (found) => done([found.status, await found.text()]));"
    )
    status, text = browser.execute_async_script(script, method, path)
    return status, text


def words(browser: webdriver.Chrome, *wanted: str) -> None:
    WebDriverWait(browser, 60).until(
        lambda one: all(word in one.find_element(By.TAG_NAME, "body").text for word in wanted)
    )


def test_a_running_search_is_seen_and_cannot_be_deleted(browse: Browse, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    with running(studies, "--trials", "100000", "--no-cache") as search:
        wait_for(lambda: ended(studies) >= 2)
        with served(StudyFolder(studies, "tiny")) as dashboard:
            browser = browse(f"{dashboard.url}dashboard/studies/1")
            drawn(browser)
            names = traces(browser, FRONT)
            assert names[0] == "front"
            before = ended(studies)
            wait_for(lambda: ended(studies) > before)
            browser.refresh()
            drawn(browser)
            assert traces(browser, FRONT) != names
            assert len(traces(browser, CURVES)) >= 2
            browser.get(f"{dashboard.url}dashboard/studies/1/trials?numbers=0")
            words(
                browser, "Trial 0", "reduce 3x3", "Rule growing: holds.", "learning-curve.csv", "confusion-matrix.csv"
            )
            status, text = answer(browser, "GET", "/artifacts/1/1/c0-1")
            assert (status, text.split("\n")[0]) == (200, "epoch,validation accuracy,training loss")
            status, text = answer(browser, "GET", "/artifacts/1/1/cf-1")
            assert (status, text.count("\n")) == (200, 11)
            assert complaints(browser) == []
            assert answer(browser, "DELETE", "/api/studies/1") == (405, '{"reason": "this dashboard is read-only"}')
            assert "tiny" in answer(browser, "GET", "/api/studies")[1]
        assert search.poll() is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(60), optuna_tables=True)


def test_it_fits_every_screen_in_both_themes(browse: Browse, folder: StudyFolder, tmp_path: Path) -> None:
    with served(folder) as dashboard:
        browser = browse("about:blank")
        for size in (DESKTOP, PHONE):
            for theme in ("light", "dark"):
                seen_as(browser, size, theme)
                browser.get(f"{dashboard.url}dashboard/studies/1")
                drawn(browser)
                assert pictured(browser, tmp_path / f"{theme}-{size[0]}.png")[0] == size[0]
                boxes = browser.execute_script(
                    "return arguments[0].map((id) => document.getElementById(`user-defined-plot:${id}`))"
                    ".map((one) => one.getBoundingClientRect()).map((box) => [box.left, box.right, box.top])",
                    list(ORDER),
                )
                for left, right, _ in boxes:
                    assert 0 <= left < right <= size[0]
                    assert right - left > (250 if size == PHONE else 400)
                assert [top for *_, top in boxes] == sorted(top for *_, top in boxes)
        assert complaints(browser) == []


def test_the_address_with_its_token_lets_a_browser_in(browse: Browse, folder: StudyFolder) -> None:
    with served(folder, host="0.0.0.0") as dashboard:
        port, token = dashboard.url.rpartition(":")[2].split("/?token=")
        browser = browse(f"http://127.0.0.1:{port}/dashboard")
        words(browser, "asks for a token")
        browser.get(f"http://127.0.0.1:{port}/?token={token}")
        words(browser, "fake")
        assert token not in browser.current_url
        assert browser.execute_script("return document.cookie") == ""
