"""Places, networks and liveness: what keeps a study exact while workers come and die."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nas.architecture import Architecture, Conv, InceptionWidths
from nas.errors import StudyError
from nas.records import Records, Row
from nas.search.claims import Claims
from nas.search.liveness import Worker, workers

IDENTITY = {"space": {"cost": "params"}}


def network(width: int = 2) -> Architecture:
    return Architecture((1, 8, 8), 10, (Conv(8),), ((InceptionWidths(width, 2, 2, 2, 2, 2),),))


def row(trial: int, *, state: str = "complete", worker: str = "w", reason: str | None = None) -> Row:
    architecture, now = network(trial + 1), datetime.now(UTC)
    return Row(
        trial=trial,
        key=architecture.key,
        architecture=architecture,
        state=state,  # type: ignore[arg-type]
        reason=reason,
        val_accuracy=0.5,
        curve=((1, 0.5, 1.0),),
        params=10,
        macs=20,
        cost=10,
        seconds=0.1,
        seed=1,
        device="cpu",
        threads=1,
        worker=worker,
        started_at=now,
        finished_at=now,
    )


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path / 'study.db'}")
    made.create()
    made.add_study("s", IDENTITY, {})
    yield made
    made.close()


def test_no_more_places_than_the_total(records: Records) -> None:
    claims = Claims(records, 1, "w")
    first, second = claims.place(2), claims.place(2)
    assert claims.place(2) == "full"  # both are running and may fail
    assert isinstance(first, int)
    assert isinstance(second, int)
    claims.finish(first, row(0))
    assert claims.place(2) == "full"
    claims.finish(second, row(1, state="pruned"))
    assert claims.place(2) == "done"


def test_many_workers_at_once_take_each_place_once(records: Records) -> None:
    def take(number: int) -> list[int]:
        own = Records(records.url.render_as_string(hide_password=False))
        claims = Claims(own, 1, f"w{number}")
        taken = [place for _ in range(20) if isinstance(place := claims.place(37), int)]
        own.close()
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [place for places in pool.map(take, range(8)) for place in places]
    assert len(taken) == len(set(taken)) == 37


def test_a_network_is_claimed_once(records: Records) -> None:
    claims = Claims(records, 1, "w")
    first, second = claims.place(5), claims.place(5)
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert claims.network(first, 0, "a")
    assert not claims.network(second, 1, "a")
    assert claims.network(second, 1, "b")


def test_a_failed_trial_gives_its_place_back_and_keeps_its_network(records: Records) -> None:
    claims = Claims(records, 1, "w")
    place = claims.place(1)
    assert isinstance(place, int)
    assert claims.network(place, 0, row(0).key)
    claims.finish(place, row(0, state="failed", reason="the loss is not finite"))
    again = claims.place(1)
    assert isinstance(again, int)
    assert not claims.network(again, 1, row(0).key)


def test_an_interrupted_trial_gives_back_both(records: Records) -> None:
    claims = Claims(records, 1, "w")
    place = claims.place(1)
    assert isinstance(place, int)
    assert claims.network(place, 0, row(0).key)
    claims.finish(place, row(0, state="failed", reason="interrupted"), again=True)
    place = claims.place(1)
    assert isinstance(place, int)
    assert claims.network(place, 1, row(0).key)


def test_failures_in_a_row_end_at_the_last_success_and_at_the_start_of_this_search(records: Records) -> None:
    claims = Claims(records, 1, "w")
    assert claims.failures_in_a_row() == []
    for trial, state in enumerate(["failed", "complete", "failed", "failed"]):
        place = claims.place(100)
        assert isinstance(place, int)
        claims.finish(place, row(trial, state=state, reason=f"reason {trial}"))
    assert claims.failures_in_a_row() == ["reason 3", "reason 2"]
    again = Claims(records, 1, "w")
    assert again.failures_in_a_row() == []
    place = claims.place(100)
    assert isinstance(place, int)
    early = datetime.now(UTC) - timedelta(hours=1)  # the clock was set back
    claims.finish(place, replace(row(4, state="failed", reason="reason 4"), finished_at=early))
    assert again.failures_in_a_row() == ["reason 4"]
    assert claims.failures_in_a_row() == ["reason 4", "reason 3", "reason 2"]


def test_a_worker_lives_while_its_process_does(records: Records, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom nas.records import Records\n"
        "from nas.search.liveness import Worker\n"
        "with Worker(Records(sys.argv[1]), 1, Path(sys.argv[2])) as worker:\n"
        "    print(worker.id, flush=True)\n    sys.stdin.read()\n"
    )
    url = records.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", code, url, str(tmp_path / "workers")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert [(worker.id, worker.is_alive()) for worker in workers(records, 1)] == [(name, True)]
        process.kill()
        process.wait()
    assert [(worker.id, worker.is_alive()) for worker in workers(records, 1)] == [(name, False)]


def test_a_worker_that_ends_leaves_nothing(records: Records, tmp_path: Path) -> None:
    with Worker(records, 1, tmp_path / "workers"):
        assert [worker.is_alive() for worker in workers(records, 1)] == [True]
    assert workers(records, 1) == []
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_worker_of_another_host_lives_by_its_beat(
    records: Records, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Worker(records, 1, tmp_path / "workers"):
        monkeypatch.setattr("nas.search.liveness.host", lambda: "elsewhere")
        (found,) = workers(records, 1)
        assert found.is_alive()
        assert 0 <= found.age < 30
        monkeypatch.setattr("nas.search.liveness.STALE", -1.0)
        assert not found.is_alive()


def test_a_lock_folder_that_cannot_be_made_is_said(records: Records, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be locked"), Worker(records, 1, tmp_path / "file" / "workers"):
        pass
