"""How a search ends that is asked to: once, twice, by its system, and by a terminal that is closed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas.errors import StudyError
from nas.records import Records
from nas.search.status import status
from nas.study_folder import StudyFolder
from tests.rough import orphans
from tests.searches import check, command, running, trials, wait_for, workers_of

LONG = ("--epochs", "300", "--trials", "50", "--workers", "1", "--pruner", "none")
"""With a trial that still runs when the signal comes."""
BRIEF = ("--epochs", "1", "--train-limit", "200", "--trials", "6", "--workers", "1")
OPEN = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


def trains(studies: Path) -> bool:
    """Whether a trial has a reading and still runs."""
    folder = StudyFolder(studies, "tiny")
    if not folder.database.is_file():
        return False
    with closing(Records(folder.url)) as records:
        try:
            return any(one.epoch for one in status(records, "tiny").running)
        except StudyError:  # it is just being made
            return False


def left(studies: Path, why: str) -> None:
    """What has to hold after the end: nobody has a trial in hands, and the one that ran says why it ended."""
    assert not orphans(studies)
    found = [trial for trial in trials(studies) if trial.state != TrialState.COMPLETE]
    assert [(trial.state, trial.user_attrs["reason"]) for trial in found] == [(TrialState.FAIL, why)]
    assert not list(StudyFolder(studies, "tiny").workers.iterdir())


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@contextmanager
def in_a_terminal(*words: str, way: str = "plain") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program that leads the session of a terminal of its own; the other end of that terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, way, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=False
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        with suppress(OSError):
            os.close(ours)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_system_that_ends_it_finds_the_trial_marked(tmp_path: Path) -> None:
    with running(tmp_path, *LONG) as process:
        wait_for(lambda: trains(tmp_path))
        workers = workers_of(process)
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 130, said
        assert gone(workers)
    assert "stopping" in said
    left(tmp_path, "the search was interrupted")


def test_ctrl_c_twice_ends_even_a_worker_that_does_not_hear(tmp_path: Path) -> None:
    with running(tmp_path, *LONG) as process:
        wait_for(lambda: trains(tmp_path))
        workers = workers_of(process)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert any("Ctrl-C again kills" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 130
        assert gone(workers)
    assert not orphans(tmp_path)
    (found,) = [trial for trial in trials(tmp_path) if trial.state != TrialState.COMPLETE]
    assert (found.state, found.user_attrs["reason"]) == (TrialState.FAIL, "the worker was killed")


def test_a_terminal_that_is_closed_ends_it_as_ctrl_c_does(tmp_path: Path) -> None:
    with in_a_terminal(*command(tmp_path, *LONG)) as (process, terminal):
        wait_for(lambda: trains(tmp_path))
        workers = workers_of(process)  # type: ignore[arg-type]
        os.close(terminal)
        assert process.wait(timeout=120) == 130
        assert gone(workers)
    left(tmp_path, "the search was interrupted")


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path: Path) -> None:
    with in_a_terminal(*command(tmp_path, *BRIEF), way="nohup") as (process, terminal):
        wait_for(lambda: StudyFolder(tmp_path, "tiny").database.is_file())
        os.close(terminal)
        process.wait(timeout=240)
    check(tmp_path, 6)
