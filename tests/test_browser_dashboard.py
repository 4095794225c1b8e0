"""The dashboard in a real browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from nas.dashboard.server import Dashboard
from nas.study_folder import StudyFolder
from tests.browser import Browse, browse, needs_browser
from tests.fake_study import rows, write_study

__all__ = ["browse"]
pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(60), optuna_tables=True)


@contextmanager
def served(folder: StudyFolder) -> Iterator[Dashboard]:
    dashboard = Dashboard(folder.url, port=0)
    thread = threading.Thread(target=dashboard.serve, daemon=True)
    thread.start()
    try:
        yield dashboard
    finally:
        dashboard.close()
        thread.join(timeout=30)


def test_the_dashboard_shows_the_study_and_cannot_delete_it(browse: Browse, folder: StudyFolder) -> None:
    with served(folder) as dashboard:
        browser = browse(dashboard.url)
        body = browser.find_element(By.TAG_NAME, "body")
        WebDriverWait(browser, 60).until(lambda _: "fake" in body.text)
        status = browser.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "fetch('/api/studies/1', {method: 'DELETE'}).then((answer) => done(answer.status));"
        )
        assert status == 405
        browser.get(f"{dashboard.url}dashboard/studies/1")
        body = browser.find_element(By.TAG_NAME, "body")
        WebDriverWait(browser, 60).until(lambda _: "fake" in body.text and "Pareto" in body.text)
        browser.get(f"{dashboard.url}api/studies")
        summaries = json.loads(browser.find_element(By.TAG_NAME, "body").text)["study_summaries"]
        assert [summary["study_name"] for summary in summaries] == ["fake"]
