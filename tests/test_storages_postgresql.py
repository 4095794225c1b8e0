"""Optuna's own contract of a storage, kept in PostgreSQL; what is written there is held in `test_worker_storage`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from nas.dashboard.server import dashboard_storage
from nas.search.study import rdb_storage
from nas.search.worker_storage import WorkerStorage
from tests.servers import PostgreSQL, all_closed, postgresql


@pytest.fixture(scope="module")
def own() -> Iterator[PostgreSQL]:
    """A server with Optuna's tables in the database `tables`, for tests to take copies of."""
    with postgresql() as started:
        started.say("CREATE DATABASE tables")
        rdb_storage(started.named("tables")).engine.dispose()
        yield started


@pytest.fixture
def url(own: PostgreSQL) -> Iterator[str]:
    """Of a database with empty tables."""
    own.say("CREATE DATABASE contract TEMPLATE tables")
    with all_closed():  # also those of a pickled storage's copy
        yield own.named("contract")
    own.say("DROP DATABASE contract")


@pytest.mark.slow
class TestAWorkersStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, url: str) -> Iterator[BaseStorage]:
        tables = rdb_storage(url)
        yield WorkerStorage(tables, dict)
        tables.engine.dispose()


@pytest.mark.slow
class TestTheDashboardsStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, url: str) -> Iterator[BaseStorage]:
        made = dashboard_storage(url, writable=True)
        yield made
        made.close()

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        with pytest.raises((AttributeError, TypeError), match="pickle"):  # it stays in the process that serves it
            pickle.dumps(storage)
