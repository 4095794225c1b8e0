"""A search over a folder larger than its share of memory, as a user runs it: real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.searches import rows, running, search, trials, wait_for, workers_of
from tests.test_search import open_trials, write_classes

pytestmark = pytest.mark.slow
STREAMED = ("--memory-share", "0")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_classes(tmp_path / "photos", ("a", "b"), 60)
    return tmp_path / "photos"


def members(session: int) -> list[str]:
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state not in "ZX":
            found.append(name)
    return found


def wait_for_a_reading(process: subprocess.Popen[str], studies: Path) -> None:
    """Until a trial is in the middle of its epochs."""
    wait_for(lambda: process.poll() is not None or any(t.intermediate_values for t in open_trials(studies)), within=200)
    assert process.poll() is None, process.communicate()[1]


def decoding(process: subprocess.Popen[str]) -> bool:
    """Whether a trial has read an epoch, and so has all its processes."""
    return len(members(process.pid)) > len(workers_of(process)) + 2


def test_a_streamed_search_finds_what_one_in_memory_finds(photos: Path, tmp_path: Path) -> None:
    options = ("--trials", "2", "--dataset", f"folder:{photos}")
    said = [search(tmp_path / name, *options, *more) for name, more in (("held", ()), ("streamed", STREAMED))]
    assert "Images are streamed from their files: 120 decoded ones are 7.7 kB" in said[1]
    assert "Images are streamed" not in said[0]
    held, streamed = ([(r.key, r.curve, r.seed) for r in rows(tmp_path / name)] for name in ("held", "streamed"))
    assert streamed == held
    assert len(held) == 2
    # the study is the same one: it goes on in memory
    search(tmp_path / "streamed", "--trials", "3", *options[2:])
    assert len(rows(tmp_path / "streamed")) == 3


def test_a_share_that_cannot_be_is_said(tmp_path: Path) -> None:
    assert "--memory-share 1.5: it must be in 0..1" in search(tmp_path, "--memory-share", "1.5", code=1)


def test_images_that_vanish_meanwhile_end_the_search_in_one_line(photos: Path, tmp_path: Path) -> None:
    options = ("--trials", "500", "--epochs", "40", "--dataset", f"folder:{photos}", *STREAMED)
    with running(tmp_path, *options) as process:
        wait_for_a_reading(process, tmp_path)
        for path in (photos / "b").iterdir():
            path.unlink()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 1, said
        assert members(process.pid) == []
    assert said.splitlines()[-1].count("is no longer what it was when it was first read") == 1
    assert str(photos / "b") in said.splitlines()[-1]
    assert "Traceback" not in said
    ended = trials(tmp_path)
    assert TrialState.RUNNING not in [trial.state for trial in ended]
    assert ended[-1].state == TrialState.FAIL
    assert "is no longer what it was" in ended[-1].user_attrs["reason"]


def test_ctrl_c_in_mid_epoch_leaves_no_process(photos: Path, tmp_path: Path) -> None:
    options = ("--trials", "500", "--epochs", "1000", "--dataset", f"folder:{photos}", *STREAMED)
    with running(tmp_path, *options) as process:
        wait_for_a_reading(process, tmp_path)
        assert decoding(process)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
        assert members(process.pid) == []
    assert "Traceback" not in said


def test_decoding_processes_do_not_outlive_a_killed_search(photos: Path, tmp_path: Path) -> None:
    options = ("--trials", "500", "--epochs", "1000", "--dataset", f"folder:{photos}", *STREAMED)
    with running(tmp_path, *options) as process:
        wait_for_a_reading(process, tmp_path)
        assert decoding(process)
        (worker,) = workers_of(process)
        os.kill(process.pid, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: members(process.pid) == [], within=60)
