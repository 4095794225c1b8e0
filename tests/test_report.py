"""The report: one file that opens without a network, with nothing in it that a stranger could make run."""

from __future__ import annotations

import html
import json
import math
import re
import runpy
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from nas import seal
from nas.cli import main
from nas.errors import NasError
from nas.outcome import Outcome
from nas.records import Records
from nas.report import page as page_module
from nas.report.figures import _ticks, colour, front_figure, si
from nas.report.page import page, write_page
from nas.report.shares import shares_figure
from nas.seal import Reading, Seal
from nas.study_folder import StudyFolder
from tests.fake_study import HOSTILE, rows, write_study


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = write_study(tmp_path_factory.mktemp("studies"), "fake", rows(60))
    return Outcome.read(Records(folder.url), "fake")


@pytest.fixture(scope="module")
def text(outcome: Outcome) -> str:
    return page(outcome)


class Parsed(HTMLParser):
    """What a browser would see: tags with their attributes, and text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words.append(data)


def figures_in(text: str) -> dict[str, Any]:
    found = re.search(r"^const FIGURES = (.*);$", text, re.MULTILINE)
    assert found is not None
    figures: dict[str, Any] = json.loads(found[1])
    return figures


def data_in(text: str) -> dict[str, Any]:
    found = re.search(r"^const DATA = (.*);$", text, re.MULTILINE)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def trace(figure: go.Figure, name: str) -> Any:
    (found,) = [trace for trace in figure.data if (trace.name or "").startswith(name)]
    return found


def test_it_loads_nothing_from_anywhere(text: str) -> None:
    parsed = Parsed(text)
    for tag, attributes in parsed.tags:
        assert not {"src", "srcset", "action"} & attributes.keys(), tag
        assert (attributes.get("href") or "data:,") == "data:,"
    policy = [a["content"] or "" for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none';")
    assert "http" not in policy[0]
    assert sum("plotly.js v" in script for script in parsed.scripts) == 1
    assert len(text) < 6_000_000


def test_a_thousand_trials_of_six_modules_stay_small(tmp_path: Path) -> None:
    bench = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "bench_report"))
    folder = StudyFolder(tmp_path, "large")
    bench["write"](folder, 1000)
    assert main(["report", "large", "--studies-dir", str(tmp_path)]) == 0
    assert folder.report.stat().st_size < 6_000_000
    assert len(data_in(folder.report.read_text())["trials"]["widths"][0]) == 36


def test_what_comes_from_outside_stays_text(outcome: Outcome, tmp_path: Path) -> None:
    evil = replace(
        outcome,
        study=HOSTILE,
        settings={**outcome.settings, "space_toml": f"{HOSTILE}\n$study ${{plotly}}", HOSTILE: HOSTILE},
        identity={HOSTILE: HOSTILE},
    )
    text = page(evil, studies_dir=Path(HOSTILE))
    parsed = Parsed(text)
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 2
    assert not any("alert('boo')" in script and "<script>" in script for script in parsed.scripts)
    assert HOSTILE in "".join(parsed.words)  # it is shown, as text
    assert "$study ${plotly}" in "".join(parsed.words)
    assert "<" not in next(line for line in text.splitlines() if line.startswith("const FIGURES"))
    data_line = next(line for line in text.splitlines() if line.startswith("const DATA"))
    assert "<" not in data_line
    assert any(HOSTILE in (reason or "") for reason in data_in(text)["trials"]["reason"])
    assert data_in(text)["commands"]["study"] == shlex.quote(HOSTILE)


def test_no_text_ends_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.io.json.to_json_plotly", lambda data, engine: json.dumps(data))  # it escapes by itself
    assert json.loads(page_module._script([HOSTILE])) == [HOSTILE]
    assert "<" not in page_module._script([HOSTILE])


def test_hovers_made_for_other_pages_are_escaped(outcome: Outcome) -> None:
    hovers = [h for drawn in front_figure(outcome).data for h in drawn.hovertext or () if "alert" in h]
    assert hovers
    assert all("<script>" not in hover and html.escape("<script>") in hover for hover in hovers)


def test_the_front_shows_every_trial_where_it_stands(outcome: Outcome) -> None:
    figure = front_figure(outcome)
    by_state = {
        state: [row for row in outcome.rows if row.state == state] for state in ("complete", "pruned", "failed")
    }
    for state, members in by_state.items():
        drawn = trace(figure, state)
        assert drawn.name == f"{state} ({len(members)})"
        assert list(drawn.x) == [row.cost for row in members]
        assert [f"<b>trial {row.trial}</b>, {state}" for row in members] == [
            t.split("<br>")[0] for t in drawn.hovertext
        ]
    pruned = trace(figure, "pruned")
    assert list(pruned.y) == [row.curve[-1][1] for row in by_state["pruned"]]
    assert all("5.1 points under the front" in hover for hover in pruned.hovertext)
    bottom = min(row.val_accuracy for row in outcome.rows if row.val_accuracy is not None)
    unread = [
        (y, hover)
        for y, hover, row in zip(
            trace(figure, "failed").y, trace(figure, "failed").hovertext, by_state["failed"], strict=True
        )
        if row.val_accuracy is None
    ]
    assert unread
    assert all(y == bottom and "no reading" in hover for y, hover in unread)
    assert list(trace(figure, "complete").marker.color) == [math.log10(row.macs) for row in by_state["complete"]]
    assert list(trace(figure, "front").x) == [row.cost for row in outcome.front]
    assert figure.layout.xaxis.type == "log"


def test_knee_and_best_are_labelled(outcome: Outcome) -> None:
    assert outcome.knee is not None
    assert outcome.best is not None
    labels = {label.text: (label.x, label.y) for label in front_figure(outcome).layout.annotations}
    assert labels == {
        f"<b>knee</b>, trial {outcome.knee.trial}": (math.log10(outcome.knee.cost), outcome.knee.val_accuracy),
        f"<b>best</b>, trial {outcome.best.trial}": (math.log10(outcome.best.cost), outcome.best.val_accuracy),
    }
    alone = replace(outcome, front=outcome.front[-1:])
    (label,) = front_figure(alone).layout.annotations
    assert label.text.startswith("<b>knee and best</b>")


def test_shares_of_the_front_are_drawn_over_the_others(outcome: Outcome) -> None:
    figure = shares_figure(outcome)
    names = [line.name for line in figure.data]
    assert names[0] == "other complete"  # underneath
    lines = [line for line in figure.data[1:] if line.x[0] is not None]
    assert [list(line.y)[:-1] for line in lines] == [
        [float(share) for share in row.architecture.shares] for row in outcome.front
    ]


def test_the_table_opens_each_network_and_commands_name_their_place(outcome: Outcome, text: str) -> None:
    buttons = [attributes["data-trial"] for tag, attributes in Parsed(text).tags if "data-trial" in attributes]
    assert buttons == [str(row.trial) for row in outcome.front]
    elsewhere = page(outcome, studies_dir=Path("/x y"), storage="postgresql://me:***@host/db")
    options = " --studies-dir '/x y' --storage 'postgresql://me:***@host/db'"
    assert f"nas report fake{options}" in html.unescape(elsewhere)
    assert data_in(elsewhere)["commands"]["options"] == options


def test_the_header_counts(outcome: Outcome, text: str) -> None:
    tiles = dict(re.findall(r"<div><b>([^<]*)</b><span>([^<]*)</span></div>", text.split("</header>")[0]))
    named = {name: value for value, name in tiles.items()}
    assert named["complete"] == str(outcome.count("complete"))
    assert named["hypervolume, 0 to 1"] == f"{outcome.hypervolume:.4f}"
    saved = 1 - outcome.epochs_used / outcome.epochs_unpruned
    assert named[f"epochs of {outcome.epochs_unpruned} without pruning ({saved:.0%} saved)"] == str(outcome.epochs_used)


def test_a_study_without_trials_or_without_a_front_has_a_page(outcome: Outcome) -> None:
    empty = page(replace(outcome, rows=(), front=()))
    assert "No trial is complete yet" in empty
    assert '"zoom":null' in empty
    failed = tuple(row for row in outcome.rows if row.state == "failed" and not row.curve)
    assert failed
    assert f"failed ({len(failed)})" in page(replace(outcome, rows=failed, front=()))


def test_one_network_has_a_page(outcome: Outcome) -> None:
    row = outcome.front[0]
    figures = figures_in(page(replace(outcome, rows=(row,), front=(row,))))
    assert figures["front"]["data"][-1]["x"] == [row.cost]


def test_a_budget_of_one_single_cost_has_a_page(outcome: Outcome) -> None:
    row = replace(outcome.front[0], cost=850)
    settings = {**outcome.settings, "cost_range": [850, 850]}
    assert (
        "hypervolume" not in page(replace(outcome, rows=(row,), front=(row,), settings=settings)).split("</header>")[0]
    )


def test_it_is_written_aside_then_renamed(outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(page(outcome), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    path.write_text("the old page")

    def fails(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        write_page(page(outcome), path)
    assert path.read_text() == "the old page"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("output", [".", "", "/", "..", "here"])
def test_a_folder_is_no_page(outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError) as said:
        write_page(page(outcome), Path(output))
    assert said.value.filename == str(Path(output))


def test_what_the_machine_refuses_names_the_users_path(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasError, match=r"^cannot use '/proc/x/y.html': no folder can be made there$"):
        write_page(page(outcome), Path("/proc/x/y.html"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="File name too long") as said:
        write_page(page(outcome), Path("y" * 250))  # the file beside it has a longer name
    assert said.value.filename == "y" * 250


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (1200, "1.2k"), (350_000, "350k"), (2e6, "2M"), (3.1e9, "3.1G")])
def test_counts_in_short(value: float, text: str) -> None:
    assert si(value) == text


def test_colours_and_ticks_stay_inside() -> None:
    assert colour(0.0) == "rgb(47,111,219)"
    assert colour(1.0) == "rgb(210,69,45)"
    assert colour(-1.0) == colour(0.0)
    assert _ticks(2.0, 3.0) == [100, 200, 500, 1000]
    assert _ticks(math.log10(301), math.log10(330)) == [301, 330]
    assert _ticks(math.log10(190), math.log10(2100)) == [190, 500, 1000, 2100]  # 200 and 2,000 would overlap the ends


def read(study: str, trial: int, weights: str = "search") -> tuple[str, Reading]:
    """Five of six right: two of three and three of three."""
    moment = datetime(2026, 5, 4, 12, trial, tzinfo=UTC)
    return study, Reading(trial, "key", "0", weights, f"{study}{trial}", ((2, 1), (0, 3)), None, moment)


def test_readings_of_the_test_images_are_listed_and_counted(outcome: Outcome) -> None:
    text = page(outcome, seal=Seal((read("fake", 3), read(HOSTILE, 4, HOSTILE), read("fake", 5))))
    section = text[text.index("<h2>Test images</h2>") : text.index("<h2>How it was run</h2>")]
    words = " ".join(Parsed(section).words)
    assert "read 3 times, for 3 trained networks, by fake (2 times), " in words
    assert HOSTILE in words
    body = section[section.index("<tbody>") : section.index("</tbody>")]
    cells = [re.findall(r"<td.*?>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", body)]
    assert cells[0][:3] == ["3", "0.8333", "0.4365 to 0.9699"]
    assert cells[0][4:] == ["5", "6", "fake", "2026-05-04 12:03 UTC"]
    assert [line[0] for line in cells] == ["3", "4", "5"]
    assert "<script>" not in section
    assert "balanced" not in section
    balanced = page(
        replace(outcome, settings={**outcome.settings, "metric": "balanced-accuracy"}), seal=Seal((read("fake", 3),))
    )
    assert '<th class="number">test balanced accuracy</th>' in balanced


def test_a_seal_that_is_whole_is_said_and_no_seal_is_no_section(outcome: Outcome) -> None:
    assert "The test images of digits: <b>never read</b>" in page(outcome, seal=Seal(()))
    assert '<table class="readings">' not in page(outcome, seal=Seal(()))
    assert "<h2>Test images</h2>" not in page(outcome)


def test_the_command_shows_the_readings(tmp_path: Path) -> None:
    folder = write_study(tmp_path, "fake", rows(12))
    records = Records(folder.url)
    seal.add(records, records.study("fake").id, [read("fake", 3)[1]])
    records.close()
    assert main(["report", "fake", "--studies-dir", str(tmp_path)]) == 0
    assert "read once, for 1 trained network, by fake (once)" in folder.report.read_text()
