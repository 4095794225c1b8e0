"""The figures as PNG files: drawn by a browser, all of them or none, and one line where there is no browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kaleido
import plotly.graph_objects as go
import pytest
from choreographer.errors import BrowserFailedError, ChromeNotFoundError
from PIL import Image

from nas.cli import main
from nas.outcome import Outcome
from nas.records import Records
from nas.report.png import HEIGHT, SCALE, WIDTH, Picture, dressed, pictures, pictures_of, write_pngs
from nas.report.section import Section
from nas.study_folder import StudyFolder
from tests.browser import needs_browser
from tests.fake_study import rows, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return write_study(tmp_path_factory.mktemp("studies"), "fake", rows(30))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of a browser: what it was asked to draw."""
    asked: list[dict[str, Any]] = []

    def draw(figures: Sequence[dict[str, Any]], **_: Any) -> None:
        for one in figures:
            asked.append(one)
            one["path"].write_bytes(b"PNG")

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", draw)
    return asked


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", fail)


def report(folder: StudyFolder, *options: str) -> int:
    return main(["report", "fake", "--studies-dir", str(folder.studies_dir), *options])


@needs_browser
def test_a_browser_draws_them_on_white(tmp_path: Path) -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], marker={"color": "#2f6fdb", "size": 30}))
    (path,) = write_pngs([Picture("front", "fake: Front", figure)], tmp_path / "new" / "pictures")
    assert path == tmp_path / "new" / "pictures" / "front.png"
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    assert image.size == (WIDTH * SCALE, HEIGHT * SCALE)
    assert image.getpixel((5, image.height - 5)) == (255, 255, 255)
    assert (47, 111, 219) in image.get_flattened_data()
    assert [path.name for path in path.parent.iterdir()] == ["front.png"]


def test_the_command_writes_page_and_pictures(
    folder: StudyFolder, tmp_path: Path, drawn: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "front.png").write_text("an older one")
    assert report(folder, "--png", str(tmp_path)) == 0
    page, *paths = capsys.readouterr().out.splitlines()
    assert page == str(folder.report)
    names = [Path(path).stem for path in paths]
    assert {"front", "hypervolume", "curves", "shares"} <= set(names)
    assert "parallel" not in names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in names)
    assert all(Path(path).read_bytes() == b"PNG" for path in paths)
    for one in drawn:
        assert len(one["fig"].data) > 0
        assert one["fig"].layout.title.text.startswith("fake: ")
        assert one["fig"].layout.paper_bgcolor == "white"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ChromeNotFoundError("long words"), "--png needs a browser, and none is found: install Chromium"),
        (BrowserFailedError("many\nlines"), "the browser did not draw (BrowserFailedError); name another"),
    ],
)
def test_without_a_browser_there_is_the_page_and_one_line(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception, said: str,
) -> None:  # fmt: skip
    failing(monkeypatch, error)
    folder.report.unlink(missing_ok=True)
    assert report(folder, "--png", str(tmp_path / "pictures")) == 1
    words = capsys.readouterr()
    assert words.out == f"{folder.report}\n"
    assert said in words.err.splitlines()[-1]
    assert folder.report.is_file()
    assert not (tmp_path / "pictures").exists()


def test_kaleido_says_that_no_browser_is_there(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    assert report(folder, "--png", str(tmp_path / "pictures")) == 1
    assert "none is found" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_folders_place_is_one_line(
    folder: StudyFolder, tmp_path: Path, drawn: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    assert report(folder, "--png", str(tmp_path / place)) == 1
    said = capsys.readouterr().err.splitlines()
    assert "a part of the path is a file" in said[-1]
    assert str(tmp_path / place) in said[-1]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_what_was_there(
    folder: StudyFolder, tmp_path: Path, drawn: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "front.png").write_text("an older one")
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "curves.png" and path.parent.parent == tmp_path:
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert report(folder, "--png", str(tmp_path)) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]
    assert (tmp_path / "front.png").read_text() == "an older one"


def test_several_studies_are_refused(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder.path, folder.studies_dir / "other", dirs_exist_ok=True)
    assert report(folder, "other", "--png", "x") == 1
    assert "--png draws the figures of one study" in capsys.readouterr().err


def test_a_study_without_a_complete_trial_has_pictures_too(tmp_path: Path) -> None:
    failed = [row for row in rows(30) if row.state == "failed"]
    for evaluations in (failed, []):
        folder = write_study(tmp_path, f"s{len(evaluations)}", evaluations)
        found = pictures(Outcome.read(Records(folder.url), folder.name))
        assert found[0].name == "front"
        assert all(isinstance(dressed(one), go.Figure) for one in found)


def test_a_figure_stands_under_its_heading() -> None:
    figures = {name: go.Figure() for name in ("a", "b", "parallel")}
    html = '<h2>One &amp; <b>all</b></h2><p id="x"></p><div id="a"></div><h3>Two</h3><div id="b"></div>'
    found = pictures_of(Section(html + '<div id="parallel"></div>', figures))
    assert [(one.name, one.title) for one in found] == [("a", "One & all"), ("b", "Two")]
    assert list(pictures_of(None)) == []


def test_a_colour_bar_stands_beside_the_figure_and_names_stay_text() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[1], marker={"color": [1], "colorbar": {"title": "MACs"}}))
    made = dressed(Picture("a", "<b>x</b>: Front", figure))
    assert made.data[0].marker.colorbar.x == 1.02
    assert made.layout.title.text == "&lt;b&gt;x&lt;/b&gt;: Front"
    assert figure.layout.title.text is None  # the page's figure is left alone
