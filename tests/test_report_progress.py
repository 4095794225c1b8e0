"""How a search went, by hand: hypervolume after each trial, seconds without pauses, lanes, savings, false prunes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas.interval import part_interval
from nas.outcome import Outcome
from nas.pareto import hypervolume
from nas.records import Records, Row
from nas.report.audits import MANY, Audits, audits_of
from nas.report.progress import hypervolume_figure, hypervolume_history, progress_section, rates
from nas.report.timeline import (
    UNNAMED,
    Clock,
    busy,
    clock_of,
    host_of,
    lanes_of,
    lasting,
    stretches,
    timeline_figure,
    unit_of,
)
from nas.search.pruners import ConformalPruner
from nas.search.pruners.conformal import RHO, is_audited
from tests.fake_study import STARTED, rows, write_study
from tests.pruner_studies import record, study_of

ROW = rows(1, hostile=False)[0]
T0 = STARTED.timestamp()
A, B, C = "one-11-aaaaaa", "one-12-bbbbbb", "two-11-cccccc"
KEYS = [f"{number:064x}" for number in range(400)]
AUDITED = [key for key in KEYS if is_audited(key, seed=0, rho=RHO)]
OTHERS = [key for key in KEYS if key not in AUDITED]


def trial(
    number: int,
    cost: int = 5000,
    accuracy: float | None = 0.9,
    state: Literal["complete", "pruned", "paused", "failed"] = "complete",
    *,
    begin: float = 0.0,
    end: float | None = None,
    seconds: float | None = None,
    epochs: int = 9,
    worker: str = A,
    **more: Any,
) -> Row:
    """A row with the numbers that matter; begin and end in seconds since the first start."""
    end = begin + 9.0 if end is None else end
    curve = tuple((epoch, accuracy, 0.1) for epoch in range(1, epochs + 1)) if accuracy is not None else ()
    given = {
        "trial": number,
        "key": OTHERS[number],
        "cost": cost,
        "val_accuracy": accuracy,
        "state": state,
        "curve": curve,
        "seconds": end - begin if seconds is None else seconds,
        "worker": worker,
        "started_at": STARTED + timedelta(seconds=begin),
        "finished_at": STARTED + timedelta(seconds=end),
        "stopped": None,
        "reason": None,
    }
    return replace(ROW, **{**given, **more})


def outcome_of(folder: Path, evaluations: Sequence[Row], **changed: Any) -> Outcome:
    return Outcome.read(Records(write_study(folder, "fake", list(evaluations), **changed).url), "fake")


def words(outcome: Outcome) -> str:
    """The section's text without its tags."""
    return re.sub(r"<[^>]+>", " ", progress_section(outcome).html)


# Hypervolume


def test_the_hypervolume_after_each_trial_is_that_of_what_had_ended(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, sorted(rows(60), key=lambda row: row.trial))
    late = outcome.rows[2]  # trials do not end in the order of their numbers
    moved = replace(late, finished_at=late.finished_at + timedelta(seconds=100))
    outcome = replace(outcome, rows=tuple(moved if row is late else row for row in outcome.rows))
    ended, history = hypervolume_history(outcome)
    assert [row.finished_at for row in ended] == sorted(row.finished_at for row in ended)
    assert {row.state for row in ended} == {"complete", "pruned"}
    assert ended[2].trial != 2
    assert 2 in {row.trial for row in ended}
    for last in range(len(ended)):
        complete = [row for row in ended[: last + 1] if row.state == "complete"]
        expected = hypervolume(
            [row.cost for row in complete],
            [row.val_accuracy or 0 for row in complete],
            cost_range=(1000, 15000),
            classes=10,
        )
        assert history[last] == pytest.approx(expected, abs=1e-12)
    assert history[-1] == pytest.approx(outcome.hypervolume)


def test_a_mark_stands_where_a_trial_made_it_grow(tmp_path: Path) -> None:
    grows = [(5000, 0.8), (5000, 0.7), (2000, 0.8), (9000, 0.9)]
    made = [trial(n, cost, at, begin=10.0 * n) for n, (cost, at) in enumerate(grows)]
    outcome = outcome_of(tmp_path, [*made, trial(4, 1500, 0.95, "pruned", begin=40, epochs=3)])
    line, marks = hypervolume_figure(outcome).data
    assert [*marks.customdata] == [0, 2, 3]
    assert [*marks.x] == [1, 3, 4]
    assert [*line.x] == [0, 1, 3, 4, 5]  # a pruned one has ended too
    assert marks.y[-1] == line.y[-1] == pytest.approx(outcome.hypervolume)
    clock = clock_of(stretches(outcome.rows))
    assert [*hypervolume_figure(outcome, clock).data[1].x] == [9, 29, 39]  # seconds
    text = words(outcome)
    assert "reference point is 15,000 parameters at accuracy 0.1, chance among 10 classes" in text
    assert "1 would be accuracy 1 at 1,000 parameters" in text
    assert "trial 3 enlarged it last, when 4 of the 5 had ended" in text


def test_without_a_front_or_a_range_of_costs_it_is_said(tmp_path: Path) -> None:
    assert "No trial has ended yet" in words(outcome_of(tmp_path / "none", []))
    failed = outcome_of(tmp_path / "failed", [trial(0, accuracy=None, state="failed")])
    assert "No completed network is better than the reference point yet" in words(failed)
    assert [*progress_section(failed).figures] == ["workers"]
    single = outcome_of(tmp_path / "single", [trial(0)], cost_range=[5000, 5000])
    assert "leaves a single cost, so there is no hypervolume" in words(single)
    assert [*progress_section(single).figures] == ["workers"]
    assert [*progress_section(outcome_of(tmp_path / "one", [trial(0)])).figures] == [
        "workers",
        "hypervolume",
        "hypervolume-time",
    ]


# Time and workers


def test_seconds_leave_the_pauses_of_the_whole_search_out() -> None:
    made = [
        trial(0, begin=0, end=10, worker=A),
        trial(1, begin=5, end=40, worker=B),
        trial(2, begin=99, end=110, worker="one-13-dddddd"),  # 59 s without a worker: a restart
        trial(3, begin=3600, end=3700, worker="one-14-eeeeee"),
        trial(4, begin=3710, end=3720, worker="one-14-eeeeee"),  # its worker lived on
    ]
    clock = clock_of(stretches(made))
    assert clock == Clock(T0, ((T0 + 110, T0 + 3600),))
    assert clock.at([T0, T0 + 110, T0 + 2000, T0 + 3600, T0 + 3720]).tolist() == [0, 110, 110, 110, 230]
    assert clock.since == "2026-05-04 12:00:00 UTC"


def test_a_resumed_search_is_no_long_wait(tmp_path: Path) -> None:
    made = [trial(0, 5000, 0.8), trial(1, 2000, 0.8, begin=36009, worker=B)]
    outcome = outcome_of(tmp_path, made)
    figure = hypervolume_figure(outcome, clock_of(stretches(made)))
    assert [*figure.data[1].x] == [9, 18]
    assert [note.text for note in figure.layout.annotations] == ["pause 10 h"]
    assert figure.layout.shapes[0].x0 == 9
    assert "one pause of the whole search (no worker for 60 s or longer; 10 h in all) is left out" in words(outcome)


def test_a_worker_that_follows_another_on_its_host_takes_over_its_lane() -> None:
    made = [
        trial(0, begin=0, end=10, worker=A),
        trial(1, begin=1, end=12, worker=B),
        trial(2, begin=2, end=5, worker=C),
        trial(3, begin=20, end=30, worker="one-13-dddddd"),
        trial(4, begin=25, end=30, worker="one-14-eeeeee"),
        trial(5, begin=27, end=30, worker="somebody"),
    ]
    lanes = [[name for name, _, _ in lane.workers] for lane in lanes_of(stretches(made))]
    assert lanes == [["somebody"], [A, "one-13-dddddd"], [B, "one-14-eeeeee"], [C]]
    assert [host_of(lane[0]) for lane in lanes] == ["", "one", "one", "two"]
    assert host_of("my-host-31878-970b73") == "my-host"


def test_idle_time_stays_empty_and_is_counted() -> None:
    made = [trial(0, begin=0, end=10), trial(1, begin=15, end=20), trial(2, begin=20, end=40, worker=B)]
    found = stretches(made)
    lanes = lanes_of(found)
    # B began when A had ended, so they share a lane: 35 of 40 seconds
    assert busy(found, lanes) == [pytest.approx(35 / 40)]
    (bars,) = timeline_figure(found, clock_of(found), lanes).data
    assert [*zip(bars.base, bars.x, bars.y, bars.customdata, strict=True)] == [
        (0, 10, 1, 0),
        (15, 5, 1, 1),
        (20, 20, 1, 2),
    ]


def test_bars_are_a_trace_a_state_however_many(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, rows(300))
    found = stretches(outcome.rows)
    figure = timeline_figure(found, clock_of(found), lanes_of(found))
    names = [trace.name for trace in figure.data]
    assert names == [f"{state} ({outcome.count(state)})" for state in ("complete", "pruned", "failed")]
    drawn = [int(number) for trace in figure.data for number in trace.customdata]
    assert sorted(drawn) == [row.trial for row in outcome.rows]


def spans(made: Sequence[Row]) -> list[tuple[int, str, float, float]]:
    return [(one.row.trial, one.worker, one.begin - T0, one.end - T0) for one in stretches(made)]


def test_a_trial_that_was_set_aside_has_two_stretches() -> None:
    made = [
        trial(0, begin=0, end=9, worker=A),
        trial(1, begin=1, end=100, seconds=11, worker=B),  # set aside after 3 s; taken up again 8 s before its end
        trial(2, begin=5, end=92, worker=B),
        trial(3, begin=9, end=95, worker=A),
    ]
    # At 1 s worker A trains trial 0; B is free until 5 s. B's trial before ends at 92 s, so the rest was before it.
    assert spans(made) == [(0, A, 0, 9), (1, B, 1, 4), (2, B, 5, 92), (3, A, 9, 95), (1, B, 92, 100)]
    assert not any(math.isnan(value) for _, _, *both in spans(made) for value in both)


def test_of_workers_that_were_free_the_nearest_had_it_first() -> None:
    made = [
        trial(0, begin=0, end=50, worker=A),
        trial(1, begin=0, end=58, worker=B),
        trial(2, begin=59, end=200, seconds=18, worker=A),  # 9 epochs in 18 s: at least 2 s of them at its start
        trial(3, begin=70, end=180, worker=A),
        trial(4, begin=90, end=150, worker=B),
    ]
    assert spans(made)[2] == (2, B, 59, 61)  # B had just ended something; A was idle for nine seconds before and after
    assert spans(made)[-1] == (2, A, 184, 200)


def test_a_first_stretch_that_nobody_could_have_had_is_in_a_lane_without_a_name() -> None:
    # In the first search a worker had it, and nothing of which that worker ended; a day later another took it up.
    made = [
        trial(0, begin=0, end=86500, seconds=19, worker=B, epochs=9),
        trial(1, begin=86400, end=86480, worker=B),
    ]
    found = stretches(made)
    assert [one.worker for one in found] == [f"{UNNAMED}, 2", B, B]
    clock = clock_of(found)
    assert clock.start == T0
    assert len(clock.pauses) == 1, "the day between is a pause, not a wait"
    assert clock.at(T0 + 86500) < 110
    assert [lane.host for lane in lanes_of(found)] == ["", "one"]


def test_units_and_times_are_read_easily() -> None:
    assert [unit_of(seconds)[1] for seconds in (0, 299, 300, 7199, 7200)] == [
        "seconds",
        "seconds",
        "minutes",
        "minutes",
        "hours",
    ]
    assert [lasting(seconds) for seconds in (0.5, 42, 59.9, 90, 3000, 3600 * 8, 86400 * 2.5)] == [
        "0.5 s",
        "42 s",
        "60 s",
        "1.5 min",
        "50 min",
        "8.0 h",
        "2.5 days",
    ]


# Savings


def test_what_pruning_saved_is_each_stopped_trials_own_pace(tmp_path: Path) -> None:
    made = [
        trial(0, begin=0, end=90),
        trial(1, state="pruned", epochs=3, begin=0, end=6),  # 2 s an epoch, 6 epochs left: 12 s
        trial(2, state="paused", epochs=1, begin=0, end=4),  # 4 s an epoch, 8 left: 32 s
        trial(3, state="pruned", epochs=1, begin=0, end=0.1, source="other trial 3"),  # epochs, but no seconds
        trial(4, accuracy=None, state="failed", begin=0, end=50),
        trial(
            5, begin=0, end=90, stopped={"rung": 3, "deficit": 0.1, "margin": 0.05, "dominated_by": 0, "spared": True}
        ),
    ]
    text = words(outcome_of(tmp_path, made))
    # of 5 trials of 9 epochs 6 + 8 + 8 are left out; 12 + 32 s, beside 90 + 6 + 4 + 90
    assert "2 trials pruned and 1 set aside so far, so 22 of 45 epochs were not trained (48.9 %)" in text
    assert "about 44 s of a worker&#x27;s time, beside 3.2 min spent" in text
    assert "Audits cost 6 epochs: 1 trial went on that would have been stopped." in text
    whole = words(outcome_of(tmp_path / "whole", [made[0]], pruner="none"))
    assert "Nothing: in the end pruner none had stopped no trial." in whole
    assert "Where nothing is stopped there are no false prunes." in whole


# False prunes


def spared(rung: int = 1, deficit: float = 0.05) -> dict[str, Any]:
    return {"rung": rung, "deficit": deficit, "margin": 0.02, "dominated_by": 0, "spared": True}


def searched(folder: Path, *, pruner: str = "conformal-stop", images: int | None = 1000) -> Outcome:
    """A front at 1,000 to 5,000 parameters; audited trials near and far from it, two of four near ones spared."""
    number = count()
    made = [trial(next(number), cost, 0.8 + cost / 50000) for cost in (1000, 2000, 3000, 4000, 5000)]
    audited = iter(AUDITED)
    for cost, accuracy, stopped in (
        (3500, 0.860, None),  # on the best of those no larger, .86 at 3,000
        (3500, 0.856, spared()),  # .4 points behind: near
        (4500, 0.875, spared(3)),  # .5 points behind .88: near, just
        (4600, 0.874, spared()),  # .6 points: not near, unless readings are coarser
        (4700, 0.800, spared()),  # far
        (900, 0.700, None),  # the smallest network is on the front
        (4800, 0.700, None),  # far
    ):
        made.append(trial(next(number), cost, accuracy, stopped=stopped, key=next(audited)))
    failed = trial(next(number), accuracy=None, state="failed", key=next(audited))
    pruned = trial(next(number), 4000, 0.5, "pruned", epochs=1, stopped={**spared(), "spared": False})
    changed = {} if images is None else {"validation_images": images}
    return outcome_of(folder, [*made, failed, pruned], pruner=pruner, **changed)


def test_false_prunes_are_counted_among_the_audited(tmp_path: Path) -> None:
    assert audits_of(searched(tmp_path / "fine")) == Audits(
        near=0.005, audited=7, good=4, flagged=4, lost=2, flagged_for_good=None, lost_for_good=None
    )
    # 1.5 of 200 images are .75 points: one more is near
    found = audits_of(searched(tmp_path / "coarse", images=200))
    assert found is not None
    assert (found.near, found.good, found.lost, found.flagged) == (0.0075, 5, 3, 4)


def test_each_rate_says_of_what_and_has_its_interval(tmp_path: Path) -> None:
    found = audits_of(searched(tmp_path))
    assert found is not None
    (_, low, high), (_, low_wrong, high_wrong) = part_interval(2, 4), part_interval(2, 4)
    assert rates(found) == [
        ("of those near the front: stopped", "2 of 4", f"50.0 % ({100 * low:.1f} to {100 * high:.1f} %)"),
        ("of those stopped: near the front", "2 of 4", f"50.0 % ({100 * low_wrong:.1f} to {100 * high_wrong:.1f} %)"),
    ]
    empty = replace(found, good=0, flagged=0, lost=0, flagged_for_good=0, lost_for_good=0)
    assert [line[1:] for line in rates(empty)] == [("0 of 0", "no rate")] * 4
    text = words(searched(tmp_path / "text"))
    assert "at most 0.50 points (5 of the 1,000 validation images) behind the best completed network" in text


def test_without_a_flagged_and_a_good_audit_there_is_no_table(tmp_path: Path) -> None:
    made = [trial(0, 1000, 0.9), trial(1, 2000, 0.5, key=AUDITED[0])]
    outcome = outcome_of(tmp_path, made)
    said = "Of the 1 that completed none would have been stopped and none ended near the front, so there is no rate"
    assert said in words(outcome)
    assert "None of them has completed yet, so there is no rate" in words(replace(outcome, rows=outcome.rows[:1]))
    assert 'class="audits"' not in progress_section(outcome).html


def test_where_another_pruner_had_a_part_the_audited_are_not_told(tmp_path: Path) -> None:
    outcome = searched(tmp_path)
    pruned = trial(20, 4000, 0.5, "pruned", epochs=1, key=AUDITED[10])  # no conformal rule prunes this one
    found = audits_of(replace(outcome, rows=(*outcome.rows, pruned)))
    assert found is not None
    assert (found.audited, found.good, found.flagged, found.lost) == (None, None, 4, 2)
    assert rates(found)[0][1:] == ("not known", "no rate: another pruner had a part")
    foreign = trial(21, 4000, 0.5, stopped=spared())  # audited by another hash
    told = audits_of(replace(outcome, rows=(*outcome.rows, foreign)))
    assert told is not None
    assert told.audited is None
    assert told.flagged == 5


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        ("rank-median", "The pruner rank-median audits no trial, so its false-prune rate was not measured"),
        ("<i>theirs", "No trial of &lt;i&gt;theirs was audited, so its false-prune rate was not measured"),
    ],
)
def test_a_rule_without_audits_has_no_rate(pruner: str, said: str, tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, [trial(0), trial(1, state="pruned", epochs=1)], pruner=pruner)
    assert audits_of(outcome) is None
    assert said in progress_section(outcome).html
    assert '<table class="audits">' not in progress_section(outcome).html


def learned(seed: int, first: int = 1) -> list[Row]:
    """A search of curves that cross, with ten audited trials that would have been set aside at rung `first`."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(70):
        cost = int(rng.integers(1000, 15000))
        final = 0.7 + 0.05 * math.log10(cost) - rng.exponential(0.02)
        gaps = rng.uniform(0.02, 0.3) / np.arange(1, 10) + np.where(np.arange(9) < 1, rng.exponential(0.1), 0)
        curve = tuple((epoch, round(float(final - gap), 4), 0.1) for epoch, gap in enumerate(gaps, start=1))
        aside = number % 7 == 3
        made.append(
            trial(
                number,
                cost,
                curve[-1][1],
                begin=10.0 * number,
                key=AUDITED[number // 7] if aside else OTHERS[number],
                stopped=spared(first) if aside else None,
            )
        )
        made[-1] = replace(made[-1], curve=curve)
    return made


def stops_for_good(made: Sequence[Row], row: Row, first: int) -> bool:
    """Whether the rule itself would stop the trial by all that the others came to, at some rung from the first on."""
    records = [
        record(
            one.cost,
            {epoch: value for epoch, value, _ in one.curve},
            TrialState.COMPLETE,
            one.val_accuracy,
            key=one.key,
        )
        for one in made
        if one is not row
    ]
    rule = ConformalPruner(rho=0, last_step=9, validation_images=215)
    for rung in (rung for rung in (1, 3) if rung >= first):
        curve = {epoch: value for epoch, value, _ in row.curve if epoch <= rung}
        study = study_of([*records, record(row.cost, curve, key=row.key)])
        if rule.prune(study, study.trials[-1]):
            return True
    return False


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_for_good_is_what_the_rule_says_when_all_is_known(seed: int, first: int, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    outcome = outcome_of(tmp_path, learned(seed, first))
    found = audits_of(outcome)
    flagged = [row for row in outcome.rows if row.stopped]
    for_good = [row for row in flagged if stops_for_good(outcome.rows, row, first)]
    assert found is not None
    assert (found.flagged, found.audited) == (10, 10)
    assert found.flagged_for_good == len(for_good)
    assert 0 < len(for_good) < 10
    assert len(rates(found)) == 4
    assert "for good are those outside the margins still" in words(outcome)


def test_of_many_the_ends_that_calibrate_are_left_out_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcome_of(tmp_path, learned(1))
    one_by_one = audits_of(outcome)
    assert MANY > 10
    monkeypatch.setattr("nas.report.audits.MANY", 5)
    assert audits_of(outcome) == one_by_one


def test_before_anything_can_be_calibrated_nothing_is_stopped_for_good(tmp_path: Path) -> None:
    few = [replace(row, trial=number) for number, row in enumerate(learned(0)[:7])]
    found = audits_of(outcome_of(tmp_path, few))
    assert found is not None
    assert (found.flagged, found.flagged_for_good) == (1, 0)


# The section


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    html = progress_section(outcome_of(tmp_path, [trial(0, worker="<script>-1-aaaaaa")], pruner="<img>")).html
    assert "&lt;script&gt;-1-aaaaaa" in html
    assert "<script" not in html
    assert "<img" not in html


def test_many_workers_fold_away(tmp_path: Path) -> None:
    made = [trial(n, begin=n / 10, worker=f"one-{n}-aaaaaa") for n in range(12)]
    html = progress_section(outcome_of(tmp_path, made)).html
    assert "<summary>12 workers</summary>" in html
    assert html.count("<td>one</td>") == 12
    assert "<details>" not in progress_section(outcome_of(tmp_path / "few", made[:2])).html
