"""`kill -9` at random moments, and a worker that only seems to be dead; the long form is ``scripts/soak kills``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nas.search.liveness import WorkerRow
from nas.search.recovery import recover
from nas.search.study import open_study
from nas.study_folder import StudyFolder
from tests.rough import BRIEF, Said, conclude, finished, kills
from tests.searches import running, wait_for


def test_kill_9_of_workers_and_of_everything_loses_nothing_that_had_ended(tmp_path: Path) -> None:
    done = kills(tmp_path, 5, 9, *BRIEF, "--workers", "2")
    assert (done["workers"], done["groups"]) == (4, 1)


@pytest.mark.slow
def test_a_worker_that_another_host_took_for_dead_drops_its_trial_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, *BRIEF, "--trials", "100000") as process:
        said = Said(process)
        wait_for(lambda: len(finished(tmp_path)) >= 2)
        opened = open_study(StudyFolder(tmp_path, "tiny").url, "tiny")
        with monkeypatch.context() as patch:  # as on a host that has not heard of it for long
            patch.setattr(WorkerRow, "is_alive", lambda self: False)
            wait_for(lambda: recover(opened).failed > 0)
        before = finished(tmp_path)
        wait_for(lambda: said.count("was taken for dead, and goes on") > 0)
        wait_for(lambda: len(finished(tmp_path)) >= len(before) + 2)
        os.kill(process.pid, signal.SIGINT)
        assert said.end() == 130, said.lines
    opened.records.close()
    opened.storage._tables.engine.dispose()  # type: ignore[attr-defined]
    found = conclude(tmp_path, *BRIEF)
    assert before.items() <= {row.trial: row for row in found}.items()
