"""`nas front`: it reads no more than it shows, and draws it so that any terminal and any pipe can show it."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.architecture import Architecture
from nas.baseline_rows import add_baseline
from nas.cli import main
from nas.cli.terminal_plot import Kind, draw
from nas.outcome import Glance, Outcome
from nas.records import Records, Row
from nas.refined import add_refinement
from nas.study_folder import StudyFolder
from tests.fake_study import rows, write_study
from tests.refining import refinement
from tests.test_baseline_rows import baseline

ROWS = rows(40, hostile=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return write_study(tmp_path, "fake", ROWS)


def front(folder: StudyFolder, *options: str) -> int:
    return main(["front", "fake", "--studies-dir", str(folder.studies_dir), *options])


def plot(text: str) -> list[str]:
    lines = text.splitlines()
    return lines[next(n for n, line in enumerate(lines) if " against " in line) :]


def test_a_glance_has_the_front_of_the_whole_and_reads_no_other_network(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Outcome.read(Records(folder.url), "fake")
    read: list[object] = []
    real = Architecture.from_json
    monkeypatch.setattr(Architecture, "from_json", lambda data: (read.append(data), real(data))[1])
    glance = Glance.read(Records(folder.url), "fake")
    assert len(read) == len(whole.front) < len(ROWS)
    assert glance.outcome.front == whole.front
    assert (glance.outcome.knee, glance.outcome.best) == (whole.knee, whole.best)
    assert glance.headline == whole.headline
    assert [tuple(point) for point in glance.points] == [
        (row.trial, row.state, row.cost, row.val_accuracy) for row in ROWS
    ]


def test_the_front_is_drawn_below_its_table(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert front(folder) == 0
    said = capsys.readouterr()
    drawn = plot(said.out)
    found = Outcome.read(Records(folder.url), "fake")
    assert drawn[0] == "val accuracy against params, log scale"
    assert drawn[-1] == "○ complete   ● front   K knee   B best"
    assert said.err.endswith(f"Below the plot: {found.count('pruned')} pruned or paused.\n")
    assert max(map(len, drawn)) <= 80
    canvas = "\n".join(line[line.index("│" if "│" in line else "┤") :] for line in drawn[1:-3])
    assert canvas.count("K") == canvas.count("B") == 1
    assert 0 < canvas.count("●") <= len(found.front) - 2
    knee, best = (next(line.index(mark) for line in drawn[1:-3] if mark in line) for mark in "KB")
    assert found.knee is not None
    assert found.best is not None
    costs = [row.cost for row in found.rows if row.state == "complete"]
    place = (math.log(found.knee.cost) - math.log(min(costs))) / (math.log(max(costs)) - math.log(min(costs)))
    assert knee == pytest.approx(5 + place * 75, abs=3)
    assert knee < best
    assert front(folder, "--no-plot") == 0
    assert capsys.readouterr().out == said.out[: said.out.index("\n\nval accuracy") + 1]
    assert front(folder, "--json") == 0
    assert [entry["trial"] for entry in json.loads(capsys.readouterr().out)] == [row.trial for row in found.front]


def test_what_lies_far_below_the_front_is_counted_and_does_not_press_it_flat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def at(row: Row, accuracy: float, state: str) -> Row:
        return replace(row, val_accuracy=accuracy, state=state)  # type: ignore[arg-type]

    good = [at(row, 0.95 + 0.04 * n / 20, "complete") for n, row in enumerate(sorted(ROWS, key=lambda r: r.cost)[:20])]
    folder = write_study(tmp_path, "fake", [*good, at(ROWS[-1], 0.1, "pruned"), at(ROWS[-2], 0.2, "complete")])
    assert front(folder) == 0
    said = capsys.readouterr()
    assert said.err.endswith("Below the plot: 1 complete, 1 pruned or paused.\n")
    labels = [float(line.split()[0]) for line in plot(said.out) if "┤" in line]
    assert min(labels) >= 0.94


def test_known_and_refined_networks_are_drawn(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    records = Records(folder.url)
    study = records.study("fake").id
    best = Outcome.read(records, "fake").front[-1]
    assert front(folder) == 0
    assert "Trained in full" not in capsys.readouterr().err
    add_refinement(records, study, refinement(best, 0.97, 1))
    add_baseline(records, study, baseline("big", params=9_000, val_accuracy=0.9, confusion=None))
    assert front(folder) == 0
    text, words = capsys.readouterr()
    assert "▲ refined, mean" in text
    assert "Trained in full: 1; --pick chooses among these" in words
    assert "◆" not in text
    assert front(folder, "--with-baselines") == 0
    assert "◆ known network" in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "width"), [("300", 100), ("61", 61), ("30", 30)])
def test_the_plot_takes_the_width_there_is(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert front(folder) == 0
    assert max(map(len, plot(capsys.readouterr().out))) == width


def test_a_terminal_too_narrow_gets_the_table_alone(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "29")
    assert front(folder) == 0
    assert " against " not in capsys.readouterr().out


@pytest.mark.parametrize(("variable", "coloured"), [(None, True), ("NO_COLOR", False)])
def test_colours_are_for_terminals_that_want_them(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str | None,
    coloured: bool,
) -> None:  # fmt: skip
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert front(folder) == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    if variable:
        monkeypatch.setenv(variable, "1")
    assert front(folder) == 0
    assert ("\x1b[" in capsys.readouterr().out.partition("log scale")[2]) == coloured


def lines_of(kinds: list[Kind], *, encoding: str = "utf-8", low: float = 0.0) -> list[str]:
    return [line.plain for line in draw(kinds, width=40, height=8, low=low, title="t", encoding=encoding)]


def test_an_output_without_unicode_gets_plain_marks() -> None:
    kinds = [Kind("complete", "○", "", [(1e3, 0.5), (2e4, 0.6)]), Kind("front", "●", "bold", [(5e3, 0.8)])]
    drawn = lines_of(kinds, encoding="ascii")
    assert "".join(drawn).isascii()
    assert drawn[-1] == "o complete   * front"
    assert [len(line) for line in drawn] == [len(line) for line in lines_of(kinds)]
    assert lines_of(kinds, encoding="no-such-encoding")[-1] == drawn[-1]


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        ([(1000, 0.5)], "964 1.04k"),
        ([(1010, 0.97), (3100, 0.97)], "1k 2k"),
        ([(900, 0.1), (1.2e6, 0.9)], "1k 10k 100k 1M"),
        ([(1, 0.1), (5e9, 0.9)], "1 10 100 1k 10k 100k 1M 10M 100M 1G"),
    ],
    ids=["one point", "one accuracy", "decades", "all sizes"],
)
def test_the_scale_has_round_numbers_that_do_not_touch(points: list[tuple[float, float]], labels: str) -> None:
    *_, rule, written, _ = drawn = lines_of([Kind("complete", "○", "", points)])
    wanted = labels.split()
    found = written.split()
    assert [label for label in wanted if label in found] == found  # in order, and none runs into the next
    assert len(found) == rule.count("┬") >= min(4, len(wanted))
    assert sum(line.count("○") for line in drawn[:-1]) == len(points)


def test_nothing_to_draw_is_no_line() -> None:
    assert lines_of([Kind("complete", "○", "", [(1e3, 0.2)])], low=0.5) == []


def test_a_table_on_a_narrow_terminal_is_whole(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert front(folder, "--no-plot") == 0
    piped = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert front(folder, "--no-plot") == 0
    assert capsys.readouterr().out == piped
