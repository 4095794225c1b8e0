"""A real browser for the tests of pages. Needs Debian's packages chromium and chromium-driver."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium with its driver: apt-get install chromium chromium-driver",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
Browse = Callable[..., webdriver.Chrome]


def start(profile: Path) -> webdriver.Chrome:
    """A fresh browser that reaches nothing but this machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    flags = "headless=new no-sandbox disable-gpu disable-dev-shm-usage disable-background-networking"
    flags += " disable-component-update disable-sync no-first-run"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Browse]:
    """Opens an address in a fresh browser."""
    opened: list[webdriver.Chrome] = []

    def browse(address: str, size: tuple[int, int] = DESKTOP, theme: str = "light") -> webdriver.Chrome:
        browser = start(tmp_path / str(len(opened)))
        opened.append(browser)
        seen_as(browser, size, theme)
        browser.get(address)
        return browser

    yield browse
    for browser in opened:
        browser.quit()


def seen_as(browser: webdriver.Chrome, size: tuple[int, int], theme: str) -> None:
    """Another screen, in another theme."""
    media = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def drawn(browser: webdriver.Chrome) -> None:
    """Waits until the page of a report has drawn all its figures."""
    WebDriverWait(browser, 60).until(lambda b: b.find_element(By.TAG_NAME, "body").get_attribute("data-drawn"))


def pictured(browser: webdriver.Chrome, path: Path) -> tuple[int, int]:
    """Writes a picture of the whole page; its width and height in pixels."""
    width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(taken["data"]))
    with Image.open(path) as picture:
        return picture.size


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
