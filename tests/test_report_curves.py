"""The report's learning curves: every reading where it belongs, rungs and ends marked, deficits against margins."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from nas.outcome import Outcome
from nas.records import Records, Row
from nas.report.curves import curves_figure, curves_section, margins_figure, rungs_of
from tests.fake_study import EPOCHS, rows, write_study


def outcome_of(folder: Path, evaluations: list[Row], **changed: Any) -> Outcome:
    return Outcome.read(Records(write_study(folder, "fake", evaluations, **changed).url), "fake")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome_of(tmp_path_factory.mktemp("studies"), rows(60))


def lines(outcome: Outcome) -> dict[int, list[tuple[float, float]]]:
    """What is drawn as lines, by trial."""
    drawn: dict[int, list[tuple[float, float]]] = {}
    for trace in curves_figure(outcome).data:
        if trace.name is None and trace.customdata is not None:
            assert math.isnan(trace.y[-1])  # each curve ends in a gap
            before = math.nan
            for x, y, trial in zip(trace.x, trace.y, trace.customdata, strict=True):
                assert math.isnan(before) == (int(trial) not in drawn), "a gap between two trials, and none within one"
                drawn.setdefault(int(trial), [])
                if not math.isnan(y):
                    drawn[int(trial)].append((int(x), round(float(y), 4)))
                before = y
    return drawn


def test_every_curve_is_drawn_whole_and_apart(outcome: Outcome) -> None:
    drawn = lines(outcome)
    assert drawn == {row.trial: [(e, a) for e, a, _ in row.curve] for row in outcome.rows if len(row.curve) > 1}
    assert max(map(len, drawn.values())) == EPOCHS
    assert len(curves_figure(outcome).data) <= 2 * 12 + 3 + 1  # not one trace a trial
    assert [*curves_figure(replace(outcome, rows=())).data] == []


def test_cost_is_the_colour_and_the_front_is_thick(outcome: Outcome) -> None:
    cost = {row.trial: row.cost for row in outcome.rows}
    widths, spans = {}, []
    for trace in curves_figure(outcome).data:
        if trace.name is None and trace.customdata is not None:
            trials = {int(trial) for trial in trace.customdata}
            widths.update(dict.fromkeys(trials, trace.line.width))
            spans.append((trace.line.color, [cost[trial] for trial in trials]))
    thick = max(widths.values())
    assert {trial for trial, width in widths.items() if width == thick} == {row.trial for row in outcome.front}
    of_colour: dict[str, list[int]] = {}
    for shade, costs in spans:
        of_colour.setdefault(shade, []).extend(costs)
    ranges = sorted((min(costs), max(costs)) for costs in of_colour.values())
    assert len(ranges) > 6
    assert all(one[1] < other[0] for one, other in pairwise(ranges)), "a colour is a range of cost"


def test_what_ended_early_has_a_mark_at_its_end(outcome: Outcome) -> None:
    marks = {trace.name: trace for trace in curves_figure(outcome).data if trace.name}
    for state in ("pruned", "failed"):
        ended = [row for row in outcome.rows if row.state == state and row.curve]
        mark = marks[f"{state} ({len(ended)})"]
        assert [*mark.x] == [row.curve[-1][0] for row in ended]
        assert [*mark.customdata] == [row.trial for row in ended]
        assert any(len(row.curve) == 1 for row in ended)  # which is no line
    assert len(marks) == 2  # no study of this pruner has paused ones


def test_rungs_are_those_of_the_pruner_and_of_every_recorded_stop(outcome: Outcome, tmp_path: Path) -> None:
    assert rungs_of(outcome) == [1, 3]  # 9 is the last epoch: nothing is left to stop
    texts = [note.text for note in curves_figure(outcome).layout.annotations]
    assert texts == ["rung 1", "rung 3"]
    whole = [row for row in rows(20) if row.state == "complete"]
    assert rungs_of(outcome_of(tmp_path / "none", whole, pruner="none")) == []
    assert rungs_of(outcome_of(tmp_path / "theirs", whole, pruner="of-another-program")) == []
    stopped = replace(whole[0], state="pruned", stopped={"rung": 2, "deficit": 0.0, "margin": None})
    foreign = outcome_of(tmp_path / "stopped", [stopped, *whole[1:]], pruner="of-another-program")
    assert rungs_of(foreign) == [2]
    assert "margins" not in curves_section(foreign).figures  # its rule has none


def judged(
    row: Row, state: Literal["complete", "pruned", "paused"], rung: int, deficit: float, margin: float, **more: object
) -> Row:
    stopped = {"rung": rung, "deficit": deficit, "margin": margin, "dominated_by": 0, **more}
    return replace(row, state=state, stopped=stopped, curve=row.curve[:rung] if state != "complete" else row.curve)


def test_deficits_stand_against_the_margin_of_their_rung_and_moment(tmp_path: Path) -> None:
    whole = [row for row in rows(12) if row.state == "complete"][:6]
    made = [replace(row, trial=trial, reason=None, val_accuracy=row.curve[-1][1]) for trial, row in enumerate(whole)]
    made[1] = judged(made[1], "pruned", 1, 0.05, 0.02)
    made[2] = judged(made[2], "paused", 1, 0.03, 0.01)
    made[4] = judged(made[4], "pruned", 3, 0.04, 0.03)
    made[5] = judged(made[5], "complete", 3, 0.08, 0.025, spared=True)
    outcome = outcome_of(tmp_path, made)
    figure = margins_figure(outcome)
    points: dict[str, list[tuple[int, float, int]]] = {}
    for trace in figure.data:
        for x, y, trial in zip(trace.x, trace.y, trace.customdata, strict=True):
            points.setdefault(trace.name, []).append((round(float(x)), round(float(y), 6), int(trial)))
    assert points == {
        "margin": [(0, 2.0, 1), (0, 1.0, 2), (1, 3.0, 4), (1, 2.5, 5)],
        "pruned (2)": [(0, 5.0, 1), (1, 4.0, 4)],
        "set aside (1)": [(0, 3.0, 2)],
        "audited, went on (1)": [(1, 8.0, 5)],
    }
    # two of six stopped at epoch 1; one of the four that came to epoch 3
    assert [*figure.layout.xaxis.ticktext] == ["epoch 1<br>2 of 6 stopped", "epoch 3<br>1 of 4 stopped"]
    section = curves_section(outcome)
    assert [*section.figures] == ["curves", "margins"]
    assert "3 trials above it were stopped. Audited ones went on" in section.html


@pytest.mark.parametrize("count", [0, 1])
def test_few_trials_one_epoch_and_only_failures_are_drawn(count: int, tmp_path: Path) -> None:
    one = [replace(row, curve=row.curve[:1]) for row in rows(count, hostile=False)]
    outcome = outcome_of(tmp_path / "one", one, epochs=1)
    assert lines(outcome) == {row.trial: [(1, row.curve[0][1])] for row in one}
    assert all(trace.mode == "markers" for trace in curves_figure(outcome).data)  # a line of one point is none
    failed = [replace(row, state="failed", curve=(), val_accuracy=None) for row in one]
    unread = outcome_of(tmp_path / "failed", failed)
    assert lines(unread) == {}
    assert curves_section(unread).figures == {}
    assert "No trial has a reading yet" in curves_section(unread).html


def test_what_another_program_wrote_is_escaped(tmp_path: Path) -> None:
    html = curves_section(outcome_of(tmp_path, rows(3), pruner="<b>none")).html
    assert "&lt;b&gt;none" in html
    assert "<b>" not in html
