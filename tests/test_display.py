"""The words of a running search: a live line a worker in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nas.search.display import Display

READY = {"event": "ready", "words": "digits: 10 classes", "states": {"complete": 1, "failed": 1}, "found": [[900, 0.5]]}
TRIAL = {"event": "trial", "trial": 3, "params": 1234, "macs": 56789, "resumed": False}
EPOCH = {"event": "epoch", "trial": 3, "epoch": 2, "accuracy": 0.75}
END = {
    "event": "end",
    "trial": 3,
    "state": "complete",
    "cost": 1234,
    "accuracy": 0.8125,
    "reason": None,
    "seconds": 1.5,
    "source": None,
}
PRUNED = END | {"trial": 4, "state": "pruned", "reason": "3.0 points behind trial 3"}
OVER = {"event": "over", "why": "done", "peak_mb": 512.0}


def words(events: list[dict[str, object]], *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160, highlight=False, color_system=None)
    with Display(10, 4, 1, "balanced accuracy", console) as display:
        for event in events:
            display.happened(0, event)
            display.refresh(force=True)
        display.end("tiny", "studies/tiny/study.db")
    return out.getvalue()


def test_plain_lines_say_each_trial_once() -> None:
    said = words([READY, TRIAL, EPOCH, END, PRUNED, OVER], terminal=False)
    lines = said.splitlines()
    assert lines[0] == "digits: 10 classes"
    assert len(lines) == 4
    assert "complete" in lines[1]
    assert "balanced accuracy 0.8125" in lines[1]
    assert "3.0 points behind trial 3" in lines[2]
    assert "3/10 trials, 1 pruned, 1 failed, front 2" in lines[3]
    assert "512 MB" in lines[3]
    assert "\x1b" not in said


def test_the_share_of_the_machinery_is_of_all_workers_time() -> None:
    told = [OVER | {"seconds": 300.0, "machinery": 3.0}, OVER | {"seconds": 100.0, "machinery": 2.0}]
    said = words([READY, *told], terminal=False)
    assert "peak memory of a worker 512 MB, machinery 1.2 % of the workers' time; kept in" in said
    assert "machinery" not in words([READY, OVER], terminal=False)


def test_a_terminal_shows_the_running_trial_and_the_front() -> None:
    said = words([READY, TRIAL, EPOCH], terminal=True)
    assert "epoch 2/4" in said
    assert "1,234 params" in said
    assert "0.7500" in said
    assert "front, balanced accuracy  900 → 0.5000" in said


def test_a_failed_trial_says_why_in_a_terminal_too() -> None:
    failed = END | {"state": "failed", "accuracy": None, "reason": "the loss is [not] finite"}
    assert "the loss is [not] finite" in words([READY, failed], terminal=True)


def test_nothing_is_told_of_a_study_that_never_was() -> None:
    assert words([], terminal=False) == ""


@pytest.mark.parametrize(("why", "said"), [("exhausted", "exhausted"), ("timeout", "--timeout")])
def test_an_early_end_is_explained(why: str, said: str) -> None:
    assert said in words([READY, OVER | {"why": why}], terminal=False)
