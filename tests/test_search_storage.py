"""The storage of a search: Optuna's own contract, and what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy.event
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from nas.search.storage import SearchStorage
from nas.search.study import rdb_storage

UNIT = FloatDistribution(0, 1)


class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[SearchStorage]:
        tables = RDBStorage(f"sqlite:///{tmp_path / 'contract.db'}")
        yield SearchStorage(tables, dict)
        tables.engine.dispose()


class Still(dict[int, object]):
    """What nobody works on."""

    def __call__(self) -> dict[int, object]:
        return dict(self)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[RDBStorage]:
    made = RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield made
    made.engine.dispose()


def shown(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[object, ...]]:
    return [(t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs) for t in trials]


@pytest.mark.parametrize("seed", range(4))
def test_it_shows_what_the_database_holds_whoever_wrote_it(tables: RDBStorage, seed: int) -> None:
    """Random work by two processes' worth of storages; a trial set aside changes only after it is taken up again."""
    rng = np.random.default_rng(seed)
    still = Still()
    mine, other = SearchStorage(tables, still), optuna.storages.get_storage(RDBStorage(str(tables.engine.url)))
    study = mine.create_new_study([optuna.study.StudyDirection.MAXIMIZE] * 2, "s")
    open_ids: dict[int, int] = {}
    for step in range(60):
        writer = mine if rng.random() < 0.5 else other
        choice = rng.random()
        working = [number for number in open_ids if number not in still]
        if choice < 0.3 or not open_ids:
            trial_id = writer.create_new_trial(study)
            writer.set_trial_param(trial_id, "x", float(rng.random()), UNIT)
            open_ids[writer.get_trial(trial_id).number] = trial_id
        elif choice < 0.6 and working:
            number = int(rng.choice(working))
            writer.set_trial_intermediate_value(open_ids[number], int(rng.integers(5)), float(rng.random()))
        elif choice < 0.75 and working:
            still[int(rng.choice(working))] = step
        elif choice < 0.85 and still:
            del still[int(rng.choice(list(still)))]
        elif working:
            number = int(rng.choice(working))
            writer.set_trial_state_values(open_ids.pop(number), TrialState.COMPLETE, [0.5, 1.0])
        fresh = RDBStorage(str(tables.engine.url))
        assert shown(mine.get_all_trials(study, deepcopy=False)) == shown(fresh.get_all_trials(study))
        only = (TrialState.RUNNING,)
        assert shown(mine.get_all_trials(study, states=only)) == shown(fresh.get_all_trials(study, states=only))
        fresh.engine.dispose()


def test_what_is_set_aside_is_read_once(tables: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    still = Still()
    storage = SearchStorage(tables, still)
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE] * 2, "s")
    ids = [storage.create_new_trial(study) for _ in range(5)]
    storage.get_all_trials(study)
    read: list[int] = []
    plain = storage._fetch
    monkeypatch.setattr(storage, "_fetch", lambda ids: read.extend(ids) or plain(ids))
    storage.get_all_trials(study)
    assert read == ids  # all of them run
    still.update(dict.fromkeys(range(4), "paused"))
    storage.get_all_trials(study)
    read.clear()
    storage.get_all_trials(study)
    assert read == ids[4:]
    still[2] = "paused again, after some work"
    read.clear()
    storage.get_all_trials(study)
    assert read == [ids[2], ids[4]]
    for trial_id in ids:
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5, 1.0])
    still.clear()
    storage.get_all_trials(study)
    read.clear()
    storage.get_all_trials(study)
    assert read == []


def test_a_change_by_the_reader_does_not_stay(tables: RDBStorage) -> None:
    storage = SearchStorage(tables, dict)
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE] * 2, "s")
    storage.create_new_trial(study)
    storage.get_all_trials(study)[0].user_attrs["x"] = 1
    assert storage.get_all_trials(study)[0].user_attrs == {}


def test_another_program_may_make_the_tables_at_the_same_time(tmp_path: Path) -> None:
    """A dashboard that is opened while a search begins does not know of our lock."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    table = models.TrialModel.__table__
    others: list[RDBStorage] = []

    def between(*_: object, **__: object) -> None:
        """After this table was found missing, before it is made."""
        if not others:
            others.append(RDBStorage.__new__(RDBStorage))  # so that its own tables do not come here again
            others[0] = RDBStorage(url)

    sqlalchemy.event.listen(table, "before_create", between)
    try:
        made = rdb_storage(url)
    finally:
        sqlalchemy.event.remove(table, "before_create", between)
    study = made.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    assert others[0].get_study_name_from_id(study) == "s"
    for storage in (made, *others):
        storage.engine.dispose()
