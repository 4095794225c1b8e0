"""`kill -9` at random moments; the long form is ``scripts/soak kills``."""

from __future__ import annotations

from pathlib import Path

from tests.rough import BRIEF, kills


def test_kill_9_of_workers_and_of_everything_loses_nothing_that_had_ended(tmp_path: Path) -> None:
    done = kills(tmp_path, 5, 9, *BRIEF, "--workers", "2")
    assert done["workers"] + done["groups"] == 5
    assert done["groups"] == 1
