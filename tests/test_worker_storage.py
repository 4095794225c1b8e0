"""The storage of a worker: what it writes and what it remembers, held against Optuna's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from nas.search.reporting import pruned
from nas.search.study import rdb_storage
from nas.search.trial_rows import read_trials
from nas.search.worker_storage import WorkerStorage
from tests.servers import PostgreSQL, all_closed, postgresql

TABLES = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)
TWO = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
UNIT = FloatDistribution(0, 1)
LETTER = CategoricalDistribution(["a", 1, None])
NUMBERS = itertools.count()


class TestOptunasContract(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        tables = rdb_storage(f"sqlite:///{tmp_path / 'contract.db'}")
        yield WorkerStorage(tables, dict)
        tables.engine.dispose()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as started:
        yield started


Make = Callable[[], RDBStorage]


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes empty tables in a database of their own, of either kind: what is written is another SQL in each."""
    if request.param == "sqlite":
        made: list[RDBStorage] = []

        def in_a_file() -> RDBStorage:
            made.append(rdb_storage(f"sqlite:///{tmp_path / f'{len(made)}.db'}"))
            return made[-1]

        yield in_a_file
        for tables in made:
            tables.engine.dispose()
        return
    server: PostgreSQL = request.getfixturevalue("server")

    def on_the_server() -> RDBStorage:
        name = f"own{next(NUMBERS)}"
        server.say(f"CREATE DATABASE {name}")
        return rdb_storage(server.named(name))

    with all_closed():
        yield on_the_server


@pytest.fixture
def tables(make: Make) -> RDBStorage:
    return make()


def as_optuna_reads(tables: RDBStorage, study: int = 1) -> list[optuna.trial.FrozenTrial]:
    fresh = RDBStorage(str(tables.engine.url))
    try:
        return fresh.get_all_trials(study)
    finally:
        fresh.engine.dispose()


def lines(storage: RDBStorage) -> dict[str, list[tuple[object, ...]]]:
    """All that Optuna's tables hold of trials, without the numbers of the lines and times."""
    with storage.engine.connect() as connection:
        found: dict[str, list[tuple[object, ...]]] = {}
        for name in TABLES:
            said = connection.exec_driver_sql(f"SELECT * FROM {name}").mappings().all()
            key = next(iter(sa.inspect(storage.engine).get_pk_constraint(name)["constrained_columns"]))
            found[name] = sorted(tuple(str(value) for at, value in one.items() if at != key) for one in said)
        found["trials"] = [tuple(one) for one in connection.exec_driver_sql("SELECT number, state FROM trials")]
        return found


def work(storage: BaseStorage, seed: int) -> None:
    """A search's work, through Optuna's own trials; the same on any storage."""
    draw = np.random.default_rng(seed)
    study = optuna.create_study(
        study_name="s", storage=storage, directions=TWO, sampler=optuna.samplers.RandomSampler(0)
    )
    for number in range(6):
        trial = study.ask()
        number_of = storage.get_trial_id_from_study_id_trial_number(1, trial.number)
        with storage.at_once(number_of) if isinstance(storage, WorkerStorage) else nullcontext():
            trial.suggest_float("x", 0, 1)
            trial.suggest_int("n", 1, 9, log=True)
            trial.suggest_categorical("c", ["a", 1, None])
            trial.set_user_attr("cost", 7.0)
            trial.set_user_attr("cost", 8.5)
            trial.set_user_attr("pair", (1, 2))
        for step in range(int(draw.integers(1, 5))):
            storage.set_trial_intermediate_value(number_of, step, float(draw.random()))
        storage.set_trial_intermediate_value(number_of, 0, 0.25)
        if number == 2:
            storage.set_trial_intermediate_value(number_of, 9, math.nan)
            storage.set_trial_system_attr(number_of, "deep", {"1": [1, {"a": None}]})
        if number == 3:
            pruned(trial)
            study.tell(trial, state=TrialState.PRUNED)
        elif number == 4:
            study.tell(trial, state=TrialState.FAIL)
        elif number != 5:
            study.tell(trial, [0.5, math.inf if number == 1 else 8.5])


@pytest.mark.parametrize("seed", range(3))
def test_it_leaves_what_optunas_own_leaves(make: Make, seed: int) -> None:
    plain, mine = make(), make()
    work(plain, seed)
    work(WorkerStorage(mine, dict), seed)
    assert lines(mine) == lines(plain)


@pytest.mark.parametrize("make", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_what_it_remembers_is_what_optuna_reads(tables: RDBStorage, seed: int) -> None:
    """Beside another process with trials of its own; every trial whole, at every look."""
    draw = np.random.default_rng(seed)
    mine = WorkerStorage(tables, dict)
    others = optuna.storages.get_storage(RDBStorage(str(tables.engine.url)))
    study = mine.create_new_study(TWO, "s")
    running: list[tuple[BaseStorage, int]] = []
    for step in range(40):
        choice = draw.random()
        if choice < 0.25 or not running:
            storage = mine if draw.random() < 0.6 else others
            trial_id = storage.create_new_trial(study)
            storage.set_trial_param(trial_id, "x", float(draw.random()), UNIT)
            running.append((storage, trial_id))
            continue
        at = int(draw.integers(len(running)))
        storage, trial_id = running[at]
        if choice < 0.5:
            storage.set_trial_intermediate_value(trial_id, int(draw.integers(5)), float(draw.random()))
        elif choice < 0.7:
            storage.set_trial_user_attr(trial_id, str(draw.integers(3)), {"step": step})
        elif choice < 0.75 and storage is mine:
            mine.let_go(trial_id)
            others.set_trial_user_attr(trial_id, "between", step)
            mine.hold(trial_id)
        else:
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5, 1.0])
            running.pop(at)
        assert mine.get_all_trials(study, deepcopy=False) == as_optuna_reads(tables)
        assert mine.get_trial(trial_id) == as_optuna_reads(tables)[mine.get_trial(trial_id).number]


def test_what_was_made_by_others_is_read_as_optuna_reads_it(tables: RDBStorage) -> None:
    work(tables, 0)
    with tables.engine.connect() as connection:
        found = read_trials(connection, [6, 1, 99, 4])
    plain = as_optuna_reads(tables)
    assert found == [plain[5], plain[0], plain[3]]


def test_a_block_that_raises_writes_nothing(tables: RDBStorage) -> None:
    storage = WorkerStorage(tables, dict)
    storage.create_new_study(TWO, "s")
    trial_id = storage.create_new_trial(1)

    def block() -> None:
        with storage.at_once(trial_id):
            storage.set_trial_param(trial_id, "x", 0.5, UNIT)
            storage.set_trial_user_attr(trial_id, "a", 1)
            assert storage.get_trial(trial_id).params == {"x": 0.5}
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        block()
    assert storage.get_trial(trial_id) == as_optuna_reads(tables)[0]
    assert storage.get_trial(trial_id).params == {}


def test_a_trial_that_others_ended_takes_nothing_more(tables: RDBStorage) -> None:
    storage = WorkerStorage(tables, dict)
    storage.create_new_study(TWO, "s")
    trial_id = storage.create_new_trial(1)
    tables.set_trial_state_values(trial_id, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError), storage.at_once(trial_id):
        storage.set_trial_user_attr(trial_id, "a", 1)
    assert storage.get_trial(trial_id) == as_optuna_reads(tables)[0]
    assert storage.get_trial(trial_id).user_attrs == {}


def test_a_parameter_of_another_range_is_refused(tables: RDBStorage) -> None:
    storage = WorkerStorage(tables, dict)
    storage.create_new_study(TWO, "s")
    tables.set_trial_param(tables.create_new_trial(1), "c", 0, LETTER)
    trial_id = storage.create_new_trial(1)
    with pytest.raises(ValueError, match="CategoricalDistribution"):
        storage.set_trial_param(trial_id, "c", 0, CategoricalDistribution(["b"]))


def test_its_own_trial_is_not_read_again(tables: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = WorkerStorage(tables, dict)
    study = storage.create_new_study(TWO, "s")
    trial_id = storage.create_new_trial(study)
    storage.get_all_trials(study)
    monkeypatch.setattr("nas.search.storage.read_trials", lambda *_: pytest.fail("read"))
    storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    assert storage.get_all_trials(study)[0].intermediate_values == {1: 0.5}
    assert storage.get_trial(trial_id).intermediate_values == {1: 0.5}
