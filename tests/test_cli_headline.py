"""Where a study says how far its front is above the line: `nas front`, the report, `nas refine --show`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nas.baseline_rows import add_baseline
from nas.cli import main
from nas.outcome import Outcome
from nas.records import Records
from nas.refined import add_refinement
from nas.study_folder import StudyFolder
from tests.fake_study import EPOCHS, architecture, rows, write_study
from tests.refining import refinement
from tests.test_headline import baseline

MARK = "selected on the same reading: optimistic"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study with a line of three networks, every one at an accuracy of .4, and nothing refined."""
    folder = write_study(tmp_path, "s", rows(40, hostile=False))
    records = Records(folder.url)
    for scale in (0.3, 1.0, 2.9):
        network = architecture(scale, (0.6, 0.5, 0.4))
        point = baseline(rows(1)[0], 0.4)
        point = replace(point, name=f"x {scale}", key=network.key, architecture=network, recipe={"epochs": EPOCHS})
        add_baseline(records, records.study("s").id, replace(point, params=network.params, macs=network.macs))
    records.close()
    return folder


def refine_all(folder: StudyFolder, seeds: int = 5) -> None:
    """Full trainings of the whole front, at .8, and of the line, at .5."""
    records = Records(folder.url)
    number = records.study("s").id
    outcome = Outcome.read(records, "s")
    row = outcome.front[0]
    points = [replace(row, trial=-1, key=architecture(scale, (0.6, 0.5, 0.4)).key) for scale in (0.3, 1.0, 2.9)]
    for replicate in range(1, seeds + 1):
        for member, accuracy in [*((one, 0.8) for one in outcome.front), *((one, 0.5) for one in points)]:
            add_refinement(
                records, number, refinement(member, accuracy + replicate / 100 * (member in points), replicate)
            )
    records.close()


def test_brief_readings_are_marked(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    said = capsys.readouterr().err
    assert "Against GoogLeNet's proportions at other widths: +" in said
    assert "points at equal parameters" in said
    assert "points at equal MACs" in said
    assert MARK in said
    assert "`nas refine s --with-line`" in said
    assert main(["front", "s", "--with-baselines", "--studies-dir", str(folder.studies_dir)]) == 0
    again = capsys.readouterr()
    assert said.splitlines()[-2:] == again.err.splitlines()[-2:]
    assert "x 1.0" in again.out


def test_full_trainings_are_the_headline(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    refine_all(folder)
    assert main(["front", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    said = capsys.readouterr().err
    assert "+27.00 points (95 % interval +25.04 to +28.96) at equal parameters" in said
    assert "From 5 fresh seeds of 8 epochs each, none of them used for selection." in said
    assert MARK not in said
    assert main(["refine", "s", "--show", "--json", "--studies-dir", str(folder.studies_dir)]) == 0
    given = json.loads(capsys.readouterr().out)["headline"]
    assert given["at_equal_params"]["points"] == pytest.approx(27)
    assert given["selected_on_the_same_reading"] is False
    assert main(["refine", "s", "--show", "--studies-dir", str(folder.studies_dir)]) == 0
    assert "+27.00 points" in capsys.readouterr().err


def test_the_report_says_it(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    text = folder.report.read_text()
    assert MARK in text
    assert "<code>nas refine s --with-line</code>" in text
    refine_all(folder, 2)
    assert main(["report", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    text = folder.report.read_text()
    assert MARK not in text
    assert "a headline asks for 5" in text


def test_without_a_line_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path, "s", rows(10))
    assert main(["front", "s", "--studies-dir", str(tmp_path)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["report", "s", "--studies-dir", str(tmp_path)]) == 0
    assert 'class="advantage"' not in folder.report.read_text()


def test_a_line_by_another_recipe_is_not_this_studys(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    records = Records(folder.url)
    with records.writing() as connection:
        connection.exec_driver_sql("UPDATE nas_baseline SET recipe = '{\"epochs\":3}'")
    records.close()
    assert main(["front", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    assert "GoogLeNet" not in capsys.readouterr().err
