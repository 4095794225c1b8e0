"""PostgreSQL that goes away under a search; the long form is ``scripts/soak postgresql``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from nas import outage
from nas.errors import StudyError
from nas.outage import Patience
from nas.records import Records, claim_table
from nas.search.claims import Claims
from nas.search.liveness import Worker, workers
from nas.search.places import TakenAway
from nas.search.recovery import recover
from nas.search.study import OpenStudy, create_study
from tests.fake_study import identity, rows
from tests.rough import outages
from tests.searches import wait_for
from tests.servers import PostgreSQL, postgresql

SMALL = {"max_connections": 20, "superuser_reserved_connections": 0}
ROW = rows(1)[0]


@pytest.fixture(scope="module")
def own() -> Iterator[PostgreSQL]:
    with postgresql(**SMALL) as started:
        yield started


@pytest.fixture
def opened(own: PostgreSQL, request: pytest.FixtureRequest) -> Iterator[OpenStudy]:
    """A study of its own."""
    made = create_study(own.url, str(request.node.name), identity(), {})
    yield made
    shut(made)


def shut(opened: OpenStudy) -> None:
    opened.records.close()
    opened.storage._tables.engine.dispose()  # type: ignore[attr-defined]


def test_two_workers_on_seven_connections_wait_for_their_database_and_go_on(tmp_path: Path) -> None:
    with postgresql(max_connections=7, superuser_reserved_connections=0) as server:
        assert outages(server, tmp_path, down=1, drops=1, crew=2)["connections"] >= 2


@pytest.fixture
def answer_lost(opened: OpenStudy) -> Callable[[], list[str]]:
    """The next transaction of each engine is kept by the server, and the connection breaks before its answer."""

    def lose() -> list[str]:
        lost: list[str] = []
        for engine in (opened.records.engine, opened.storage._tables.engine):  # type: ignore[attr-defined]
            plain = engine.dialect.do_commit

            def commit(connection: Any, engine: Any = engine, plain: Any = plain) -> None:
                plain(connection)
                engine.dialect.do_commit = plain
                lost.append(engine.url.database)
                connection.dbapi_connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

            engine.dialect.do_commit = commit
        return lost

    return lose


def test_a_place_whose_answer_was_lost_is_taken_once(opened: OpenStudy, answer_lost: Callable[[], list[str]]) -> None:
    claims = Claims(opened.records, opened.record.id, "w")
    lost = answer_lost()
    first = claims.place(2)
    assert len(lost) == 1
    assert isinstance(first, int)
    assert [(claim.worker, claim.state) for claim in claims.all()] == [("w", "held")]
    assert claims.network(first, 0, "a")
    second = claims.place(2)
    assert second != first
    assert claims.place(2) == "full"


def test_claims_whose_answer_was_lost_are_as_if_it_had_come(
    opened: OpenStudy, answer_lost: Callable[[], list[str]]
) -> None:
    claims = Claims(opened.records, opened.record.id, "w")
    place = claims.place(5)
    assert isinstance(place, int)
    steps: list[tuple[Callable[[], object], object, list[tuple[int | None, str]]]] = [
        (lambda: claims.network(place, 0, ROW.key), True, [(0, "held")]),
        (lambda: claims.pause(place, ROW), None, [(0, "paused")]),
        (lambda: claims.resume(0), (place, ROW), [(0, "held")]),
        (lambda: claims.finish(place, ROW), None, [(0, "done")]),
        (lambda: claims.set_exhausted(), None, [(0, "done")]),
    ]
    for step, answer, left in steps:
        lost = answer_lost()
        assert step() == answer
        assert lost
        assert [(claim.trial, claim.state) for claim in claims.all()] == left
    assert opened.records.rows(opened.record.name) == [ROW]
    other = claims.place(5)
    assert isinstance(other, int)
    lost = answer_lost()
    claims.finish(other, rows(2)[1], again=True)
    assert lost
    assert len(claims.all()) == 1


def test_a_trial_paused_twice_that_another_has_taken_up_stays_the_others(opened: OpenStudy) -> None:
    one, other = (Claims(opened.records, opened.record.id, name) for name in ("one", "other"))
    place = one.place(5)
    assert isinstance(place, int)
    assert one.network(place, 0, ROW.key)
    one.pause(place, ROW)
    assert other.resume(0) is not None
    with pytest.raises(TakenAway):
        one.pause(place, ROW)
    assert [(claim.worker, claim.state) for claim in one.all()] == [("other", "held")]


def test_trials_whose_answer_was_lost_are_as_if_it_had_come(
    opened: OpenStudy, answer_lost: Callable[[], list[str]]
) -> None:
    storage, unit = opened.storage, FloatDistribution(0, 1)
    study = storage.get_study_id_from_name(opened.record.name)
    trial = storage.create_new_trial(study)
    for write in (
        lambda: storage.set_trial_param(trial, "x", 0.5, unit),
        lambda: storage.set_trial_user_attr(trial, "a", [1]),
        lambda: storage.set_trial_system_attr(trial, "b", 2),
        lambda: storage.set_trial_intermediate_value(trial, 1, 0.25),
        lambda: storage.set_study_system_attr(study, "c", 3),
        lambda: storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.25, 100.0]),
    ):
        lost = answer_lost()
        write()
        assert lost
    again = create_study(opened.records.url.render_as_string(), opened.record.name, identity(), {})
    (found,) = again.study.trials
    shut(again)
    assert (found.state, found.values, found.params) == (TrialState.COMPLETE, [0.25, 100.0], {"x": 0.5})
    assert (found.user_attrs, found.system_attrs["b"]) == ({"a": [1]}, 2)
    assert found.intermediate_values == {1: 0.25}
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState.FAIL)


def test_a_trial_made_without_an_answer_is_ended_by_recovery(
    opened: OpenStudy, answer_lost: Callable[[], list[str]], tmp_path: Path
) -> None:
    with Worker(opened.records, opened.record.id, tmp_path / "workers") as worker:
        claims = Claims(opened.records, opened.record.id, worker.id)
        place = claims.place(5)
        assert isinstance(place, int)
        lost = answer_lost()
        trial_id = opened.storage.create_new_trial(opened.storage.get_study_id_from_name(opened.record.name))
        assert lost
        mine = opened.storage.get_trial(trial_id)
        assert claims.network(place, mine.number, "a")
        assert len(opened.study.get_trials(states=(TrialState.RUNNING,))) == 2
        recover(opened)
        assert [one.number for one in opened.study.get_trials(states=(TrialState.RUNNING,))] == [mine.number]


def test_after_a_restart_of_the_server_nobody_looks_dead(
    own: PostgreSQL, opened: OpenStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker(opened.records, opened.record.id, tmp_path / "workers"):
        with opened.records.writing() as connection:
            connection.execute(sa.text("UPDATE nas_worker SET beat_at = beat_at - 3600"))
        monkeypatch.setattr("nas.search.liveness.host", lambda: "elsewhere")
        monkeypatch.setattr("nas.search.liveness.STARTED", "0")
        (found,) = workers(opened.records, opened.record.id)
        assert found.age > 3000
        assert not found.is_alive()
        monkeypatch.undo()
        own.stop()
        own.start()
        monkeypatch.setattr("nas.search.liveness.host", lambda: "elsewhere")
        (found,) = workers(opened.records, opened.record.id)
        assert found.is_alive()


def test_a_worker_that_was_taken_for_dead_writes_nothing_and_comes_back(opened: OpenStudy, tmp_path: Path) -> None:
    with Worker(opened.records, opened.record.id, tmp_path / "workers") as worker:
        claims = Claims(opened.records, opened.record.id, worker.id)
        place = claims.place(5)
        assert isinstance(place, int)
        assert claims.network(place, 0, ROW.key)
        claims.bury(worker.id)
        assert workers(opened.records, opened.record.id) == []
        with pytest.raises(TakenAway):
            claims.finish(place, ROW)
        assert opened.records.rows(opened.record.name) == []
        worker.beat()
        assert [one.is_alive() for one in workers(opened.records, opened.record.id)] == [True]
        with opened.records.reading() as connection:
            assert connection.execute(sa.select(claim_table.c.id).where(claim_table.c.worker == worker.id)).all() == []


def test_waiting_ends_after_its_time_and_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "EVERY", 0.1)
    said: list[str | None] = []
    asked = [False]

    def check() -> None:
        if asked[0]:
            raise KeyboardInterrupt

    with postgresql() as server, closing(Records(server.url)) as records:
        records.create()
        server.stop()
        with Patience(said.append, check), pytest.raises(StudyError, match="out of reach"):
            records.studies()  # an address that never answered is not waited for
        assert said == []
        monkeypatch.setattr(outage, "LIMIT", 0.5)
        began = time.monotonic()
        with Patience(said.append, check, known=True), pytest.raises(StudyError, match="run the same command again"):
            records.studies()
        assert time.monotonic() - began >= 0.5
        assert [str(words)[:31] for words in said] == ["the database is out of reach (c"]
        asked[0] = True
        with Patience(said.append, check, known=True), pytest.raises(KeyboardInterrupt):
            records.studies()


def test_the_last_word_on_a_server_without_room_says_what_makes_room(
    own: PostgreSQL, opened: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "EVERY", 0.1)
    monkeypatch.setattr(outage, "LIMIT", 0.3)
    shut(opened)
    held = [psycopg.connect(own.address("crowd")) for _ in range(SMALL["max_connections"])]
    words = (
        r"too many clients already\); raise its max_connections, or run fewer workers, and run the same command again"
    )
    with Patience(lambda _: None, lambda: None), pytest.raises(StudyError, match=words):
        opened.records.studies()
    for connection in held:
        connection.close()


def test_a_server_without_room_is_waited_for_from_the_start(
    own: PostgreSQL, opened: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "EVERY", 0.1)
    shut(opened)
    held = [psycopg.connect(own.address("crowd")) for _ in range(SMALL["max_connections"])]
    with pytest.raises(StudyError, match="no room for another connection"):
        opened.records.studies()
    said: list[str | None] = []

    def check() -> None:
        if said and held:
            held.pop().close()

    with Patience(said.append, check):
        wait_for(lambda: opened.record.name in opened.records.studies())
    assert said[-1] is None
    assert "too many clients" in str(said[0])
    for connection in held:
        connection.close()
