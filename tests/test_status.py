"""`nas status`: who works on a study and how it goes, from its database alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
import pytest

from nas.cli import main
from nas.records import Records, claim_table, worker_table
from nas.search.claims import Claims
from nas.search.liveness import Worker, host
from nas.search.status import status
from nas.study_folder import StudyFolder
from tests.fake_study import rows, write_study


def ended(count: int, minutes: float) -> list[float]:
    """Moments, `count` of them evenly over the last `minutes`."""
    now = datetime.now(UTC).timestamp()
    return [now - 60 * minutes * (count - number) / count for number in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of ten trials within the last hour; 30 were asked for."""
    made = [
        replace(row, started_at=at, finished_at=at + timedelta(seconds=1), killed=False)
        for row, at in zip(rows(10), (datetime.fromtimestamp(moment, UTC) for moment in ended(10, 60)), strict=True)
    ]
    return write_study(tmp_path, "fake", made, optuna_tables=True, trials=30)


def running_trial(folder: StudyFolder, params: int, epochs: int) -> int:
    study = optuna.load_study(study_name="fake", storage=folder.url)
    trial = study.ask()
    trial.set_user_attr("params", params)
    for epoch in range(1, epochs + 1):
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, 0.5)
    return trial.number


def test_living_workers_with_what_they_train(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    records = Records(folder.url)
    study = records.study("fake").id
    with Worker(records, study, folder.workers) as worker, Worker(records, study, folder.workers) as asking:
        number = running_trial(folder, 12_345, 3)
        claims = Claims(records, study, worker.id)
        claim = claims.place(100)
        assert isinstance(claim, int)
        assert claims.network(claim, number, "k" * 64)
        assert isinstance(Claims(records, study, asking.id).place(100), int)

        found = status(records, "fake")
        assert {one.id for one in found.alive} == {worker.id, asking.id}
        held, other = found.running
        assert (held.worker, held.trial, held.params, held.epoch) == (worker.id, number, 12_345, 3)
        assert held.seconds is not None
        assert 0 <= held.seconds < 600
        assert (other.worker, other.trial) == (asking.id, None)
        assert found.hourly == pytest.approx(10, rel=0.01)
        assert found.left == pytest.approx((30 - found.done) / 10 * 3600, rel=0.01)

        assert main(["status", "fake", "--studies-dir", str(folder.studies_dir)]) == 0
        said = capsys.readouterr().out
        assert f"{found.done} of 30 trials" in said
        assert "2 workers alive" in said
        assert "10 trials an hour over the last 1:00:0" in said
        assert "12,345" in said
        assert "3/9" in said
        assert "asking for a network" in said
    records.close()


@pytest.mark.parametrize("zone", ["UTC", "XXX-9", "XXX+7"])
def test_since_when_a_trial_runs_is_the_same_in_every_zone(
    zone: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        records = Records(folder.url)
        study = records.study("fake").id
        with Worker(records, study, folder.workers) as worker:
            claims = Claims(records, study, worker.id)
            claim = claims.place(100)
            assert isinstance(claim, int)
            before = time.time()
            assert claims.network(claim, running_trial(folder, 12_345, 3), "k" * 64)
            (held,) = status(records, "fake").running
            assert held.seconds is not None
            assert 0 < held.seconds <= time.time() - before
        records.close()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_dead_worker_holds_nothing_and_nobody_knows_when_it_ends(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records(folder.url)
    study = records.study("fake").id
    with records.writing() as connection:
        gone = {"id": "gone-1", "study": study, "host": host(), "lock": str(folder.path / "none.lock"), "beat_at": 0.0}
        connection.execute(worker_table.insert().values(**gone))
        connection.execute(claim_table.insert().values(study=study, worker="gone-1", state="held", trial=3, key="x"))
    found = status(records, "fake")
    assert [one.id for one in found.dead] == ["gone-1"]
    assert found.alive == ()
    assert found.running == ()
    assert found.left is None
    assert main(["status", "fake", "--studies-dir", str(folder.studies_dir), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["workers_dead"][0]["id"] == "gone-1"
    assert plain["seconds_left"] is None
    assert main(["status", "fake", "--studies-dir", str(folder.studies_dir)]) == 0
    said = capsys.readouterr().out
    assert "Ended without a word: gone-1" in said
    assert "Nobody works on it" in said
    records.close()


def test_a_study_without_trials_and_one_that_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, "empty", [])
    assert main(["status", "empty", "--studies-dir", str(tmp_path)]) == 0
    assert "0 trials (0 complete, 0 pruned), 0 failed; 0 workers alive." in capsys.readouterr().out
    write_study(tmp_path, "whole", rows(5), trials=5)
    assert main(["status", "whole", "--studies-dir", str(tmp_path)]) == 0
    assert "It has all its trials." in capsys.readouterr().out


def test_an_unknown_study_is_named_with_the_nearest(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "fale", "--studies-dir", str(folder.studies_dir)]) == 1
    assert "did you mean 'fake'" in capsys.readouterr().err


def test_workers_of_several_hosts_are_shown_with_their_hosts(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another host only the beat is known, by the database's clock: three live, one has been silent too long."""
    records = Records(folder.url)
    study = records.study("fake").id
    now, number = datetime.now(UTC).timestamp(), running_trial(folder, 4_321, 2)
    with records.writing() as connection:
        for name, where, beat in (
            ("one-1", "node-1/boot-a", now), ("two-1", "node-2/boot-b", now - 30), ("two-2", "node-2/boot-b", now - 5),
            ("gone-1", "node-3/boot-c", now - 3600),
        ):  # fmt: skip
            row = {"id": name, "study": study, "host": where, "lock": "/theirs/x.lock", "beat_at": beat}
            connection.execute(worker_table.insert().values(**row))
        connection.execute(
            claim_table.insert().values(study=study, worker="two-1", state="held", trial=number, key="k")
        )
    records.close()
    assert main(["status", "fake", "--studies-dir", str(folder.studies_dir)]) == 0
    said = capsys.readouterr().out
    assert "3 workers alive on 2 hosts." in said
    assert "Ended without a word: gone-1" in said
    lines = [line.split() for line in said.splitlines()]
    assert ["one-1", "node-1"] in lines
    assert ["two-2", "node-2"] in lines
    assert any(line[:5] == ["two-1", "node-2", str(number), "4,321", "2/9"] for line in lines)
    assert main(["status", "fake", "--studies-dir", str(folder.studies_dir), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert sorted((one["id"], one["host"]) for one in plain["workers_alive"]) == [
        ("one-1", "node-1"), ("two-1", "node-2"), ("two-2", "node-2"),
    ]  # fmt: skip
