"""Searches as a user runs them, in processes of their own, and what holds for every study that they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
from optuna.trial import TrialState

from nas.architecture import Architecture, first_fall
from nas.errors import StudyError
from nas.pareto import front
from nas.records import Records, Row
from nas.study_folder import StudyFolder

TINY = ["--space", "tiny"]


def command(studies: Path, *options: str) -> list[str]:
    """By one worker where the options name no number: what it does is then the same every time."""
    one = () if "--workers" in options else ("--workers", "1")
    return [sys.executable, "-m", "nas", "search", *TINY, "--studies-dir", str(studies), *one, *options]


def search(studies: Path, *options: str, code: int = 0, within: float = 240) -> str:
    """Run a search to its end; what it said."""
    done = subprocess.run(command(studies, *options), capture_output=True, text=True, timeout=within)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(studies: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A search in a process group of its own, killed at the end if it still runs."""
    process = subprocess.Popen(
        command(studies, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def wait_for(true: Callable[[], bool], within: float = 120) -> None:
    """Poll until it is true; fail where it is not in time."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def trials(studies: Path, name: str = "tiny", url: str | None = None) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(url or StudyFolder(studies, name).url)
    found = optuna.load_study(study_name=name, storage=storage).get_trials()
    storage.engine.dispose()
    return found


def rows(studies: Path, name: str = "tiny", url: str | None = None) -> list[Row]:
    with closing(Records(url or StudyFolder(studies, name).url)) as records:
        return records.rows(name)


def ended(studies: Path, url: str | None = None) -> int:
    """Complete or pruned trials so far; 0 before there is a study."""
    if url is None and not StudyFolder(studies, "tiny").database.is_file():
        return 0
    try:
        return sum(row.state in ("complete", "pruned") for row in rows(studies, url=url))
    except StudyError:  # it is just being made
        return 0


def paused(studies: Path, url: str | None = None) -> set[int]:
    """Numbers of the paused trials."""
    return {row.trial for row in rows(studies, url=url) if row.state == "paused"}


def zombies(studies: Path) -> set[int]:
    """Trials that nobody trains any more and that are open all the same, though not set aside."""
    return {trial.number for trial in trials(studies) if trial.state == TrialState.RUNNING} - paused(studies)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def check(studies: Path, total: int, url: str | None = None) -> list[Row]:
    """What holds for every study at rest: exact total, no network twice, no zombie, rows and trials agree."""
    found, told = rows(studies, url=url), trials(studies, url=url)
    states = [trial.state for trial in told]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == total
    done = [row for row in found if row.state != "failed"]
    assert len(done) == total
    assert len({row.key for row in done}) == total
    by_number = {trial.number: trial for trial in told}
    for row in done:
        trial = by_number[row.trial]
        assert trial.state == (TrialState.COMPLETE if row.state == "complete" else TrialState.PRUNED)
        assert trial.user_attrs["key"] == row.key == row.architecture.key
        assert Architecture.from_json(trial.user_attrs["architecture"]) == row.architecture
        assert trial.intermediate_values == {epoch: accuracy for epoch, accuracy, _ in row.curve}
        if row.state == "complete":
            assert trial.values == [row.val_accuracy, float(row.cost)]
        assert first_fall(row.architecture) is None
    complete = [row for row in done if row.state == "complete"]
    on_front = front([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    assert not list(StudyFolder(studies, "tiny").path.glob("paused/*"))
    kept = {path.stem for path in (StudyFolder(studies, "tiny").path / "weights").iterdir()}
    assert kept == {complete[index].key for index in on_front}
    return found
