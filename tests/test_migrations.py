"""Layouts of the records: a file of an older nas is read as it is, and brought up to date whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas import migrations
from nas.cli import main
from nas.context import Context
from nas.errors import StudyError
from nas.migrations import STEPS, VERSION
from nas.outcome import Outcome
from nas.records import Records
from nas.study_folder import StudyFolder
from nas.training import TRAINING_VERSION

STORED = Path(__file__).parent / "study_layout1.db.gz"
"""35 trials of `nas search --space tiny --epochs 4 --train-limit 300 --study layout1`, interrupted; one was pruned."""

Dump = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    folder = StudyFolder(tmp_path, "layout1")
    folder.path.mkdir()
    folder.database.write_bytes(gzip.decompress(STORED.read_bytes()))
    yield folder
    folder.path.chmod(0o755)


def dump(path: Path) -> Dump:
    """Every table's columns and rows."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: Dump = {}
        for name in names:
            rows = connection.execute(f"SELECT * FROM {name}")
            found[name] = [tuple(column[0] for column in rows.description), *rows.fetchall()]
        return found


def shape(url: str) -> dict[str, Any]:
    """Columns, indexes and constraints of each of our tables, in no order."""
    engine = sa.create_engine(url)
    seen = sa.inspect(engine)
    found = {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in seen.get_columns(table)},
            {(index["name"], tuple(index["column_names"])) for index in seen.get_indexes(table)},
            {tuple(unique["column_names"]) for unique in seen.get_unique_constraints(table)},
        )
        for table in seen.get_table_names()
        if table.startswith("nas_")
    }
    engine.dispose()
    return found


def bring(folder: StudyFolder) -> None:
    with closing(Records(folder.url)) as records:
        records.create()


def test_the_stored_file_is_of_layout_1(folder: StudyFolder) -> None:
    found = dump(folder.database)
    assert found["nas_version"] == [("number",), (1,)]
    states = [dict(zip(found["nas_evaluation"][0], row, strict=True))["state"] for row in found["nas_evaluation"][1:]]
    assert {state: states.count(state) for state in states} == {"complete": 33, "pruned": 1, "failed": 1}


def test_all_that_was_there_is_there_after(folder: StudyFolder) -> None:
    before = dump(folder.database)
    with closing(Records(folder.url)) as records:
        as_they_were = Outcome.read(records, "layout1")
    bring(folder)
    after = dump(folder.database)
    assert after.pop("nas_version") == [("number",), (VERSION,)]
    before.pop("nas_version")
    columns = before["nas_evaluation"][0]
    assert after["nas_evaluation"][0][: len(columns)] == columns
    assert [row[: len(columns)] for row in after["nas_evaluation"]] == before["nas_evaluation"]
    assert {name: rows for name, rows in after.items() if name in before and name != "nas_evaluation"} == {
        name: rows for name, rows in before.items() if name != "nas_evaluation"
    }
    with closing(Records(folder.url)) as records:
        found = Outcome.read(records, "layout1")
        context = Context.of(found.identity).columns
    assert len(set(context.values())) == 4
    assert None not in context.values()
    assert [row.trial for row in found.front] == [row.trial for row in as_they_were.front]
    added = [dict(zip(after["nas_evaluation"][0], row, strict=True)) for row in after["nas_evaluation"][1:]]
    assert len(added) == 35
    for row in added:
        assert {name: row[name] for name in context} == context
        assert json.loads(row["versions"]) == found.settings["versions"]
        assert row["source"] is None
    numbers: dict[int, int] = {row[0]: row[1] for row in before["trials"][1:]}
    proposed: dict[int, dict[str, float]] = {}
    for _, trial, name, value, _ in before["trial_params"][1:]:
        proposed.setdefault(numbers[trial], {})[name] = value
    assert {row["trial"]: json.loads(row["coordinates"]) for row in added} == proposed


def test_without_optunas_tables_there_are_no_coordinates(folder: StudyFolder) -> None:
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        connection.execute("DROP TABLE trial_params")
    bring(folder)
    with closing(Records(folder.url)) as records:
        assert {row.coordinates for row in records.rows("layout1")} == {None}


def test_an_older_file_has_the_same_tables_as_a_new_one(folder: StudyFolder, tmp_path: Path) -> None:
    bring(folder)
    with closing(Records(f"sqlite:///{tmp_path / 'new.db'}")) as records:
        records.create()
    assert shape(folder.url) == shape(f"sqlite:///{tmp_path / 'new.db'}")


def test_a_second_time_changes_nothing(folder: StudyFolder) -> None:
    bring(folder)
    before = dump(folder.database)
    bring(folder)
    assert dump(folder.database) == before


@pytest.mark.parametrize("sealed", [True, False])
def test_the_front_of_an_older_file_is_read_without_touching_it(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], sealed: bool
) -> None:
    before = folder.database.read_bytes()
    if sealed:
        folder.path.chmod(0o555)
    for command in ("front layout1 --json", "show layout1 --trial 30 --json"):
        assert main([*command.split(), "--studies-dir", str(folder.studies_dir)]) == 0
        old = json.loads(capsys.readouterr().out)
        assert old
    assert old["coordinates"] is old["versions"] is old["source"] is None
    assert folder.database.read_bytes() == before


def test_the_front_is_the_same_after(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--studies-dir", str(folder.studies_dir)]
    assert main(["front", "layout1", *place]) == 0
    before = capsys.readouterr()
    bring(folder)
    assert main(["front", "layout1", *place]) == 0
    assert capsys.readouterr() == before
    assert len(before.out.splitlines()) > 4


def test_an_error_in_the_middle_leaves_the_older_layout_whole(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(folder.database)

    def fail(connection: Connection) -> None:
        STEPS[2](connection)
        raise StudyError("in the middle")

    monkeypatch.setattr(migrations, "STEPS", {**STEPS, VERSION: fail} if VERSION == 2 else {**STEPS, VERSION: _raise})
    with pytest.raises(StudyError, match="in the middle"):
        bring(folder)
    assert dump(folder.database) == before


def _raise(connection: Connection) -> None:
    raise StudyError("in the middle")


def test_kill_9_in_the_middle_leaves_the_older_layout_whole(folder: StudyFolder) -> None:
    before = dump(folder.database)
    code = f"""
import os, signal
from nas import migrations
from nas.records import Records
step = migrations.STEPS[2]
def killed(connection):
    step(connection)
    assert len(connection.exec_driver_sql("SELECT * FROM nas_evaluation WHERE recipe IS NOT NULL").all()) == 35
    os.kill(os.getpid(), signal.SIGKILL)
migrations.STEPS[2] = killed
Records({folder.url!r}).create()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert dump(folder.database) == before
    bring(folder)
    assert dump(folder.database)["nas_version"] == [("number",), (VERSION,)]


def test_a_newer_layout_is_refused_and_left_alone(folder: StudyFolder) -> None:
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        connection.execute("UPDATE nas_version SET number = ?", (VERSION + 1,))
    before = dump(folder.database)
    with pytest.raises(StudyError, match=f"layout {VERSION + 1}, this nas reads {VERSION}; update nas"):
        bring(folder)
    assert dump(folder.database) == before


def test_every_layout_has_its_step() -> None:
    assert sorted(STEPS) == list(range(2, VERSION + 1))


def test_two_at_once_take_the_steps_once(folder: StudyFolder) -> None:
    code = f"from nas.records import Records; Records({folder.url!r}).create()"
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in both] == [("", 0), ("", 0)]
    assert dump(folder.database)["nas_version"] == [("number",), (VERSION,)]


def test_a_search_goes_on_with_an_older_study(folder: StudyFolder) -> None:
    # Studies of another version of training are refused as ever: here it is the layout that counts.
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        (text,) = connection.execute("SELECT identity FROM nas_study").fetchone()
        identity = json.loads(text) | {"training_version": TRAINING_VERSION}
        connection.execute("UPDATE nas_study SET identity = ?", (json.dumps(identity),))
    command = [sys.executable, "-m", "nas", "search", "--space", "tiny", "--epochs", "4", "--train-limit", "300"]
    command += ["--workers", "1", "--device", "cpu", "--study", "layout1", "--studies-dir", str(folder.studies_dir)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--trials", "36"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with closing(Records(folder.url)) as records:
        records.check_version()
        rows = records.rows("layout1")
    assert sum(row.state in ("complete", "pruned") for row in rows) == 36
    assert len({row.key for row in rows if not row.killed}) == 36


def test_layout_1_in_postgresql(server: str) -> None:
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        for line in LAYOUT_1.split(";"):
            connection.exec_driver_sql(line)
        identity = {"space": {"recipe": {"epochs": 1}}, "data": {"images": "i", "split": "s"}}
        study = {"identity": json.dumps(identity), "settings": '{"versions":{"nas":"0"}}'}
        connection.execute(
            sa.text("INSERT INTO nas_study VALUES (1, 's', :identity, :settings, false)"),
            study,
        )
        connection.exec_driver_sql(
            "INSERT INTO nas_evaluation VALUES (1, 1, 0, 'k', '{}', 'failed', true, 'why', null, '[]', null, 1, 1, 1, "
            "0.5, 1, 'cpu', 1, 'w', 1.0, 2.0)"
        )
    with closing(Records(server)) as records:
        records.create()
        records.create()
        records.check_version()
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT * FROM nas_evaluation").mappings().one()
    engine.dispose()
    assert {name: found[name] for name in ("space", "dataset", "split", "recipe")} == Context.of(identity).columns
    assert found["versions"] == '{"nas":"0"}'
    older = shape(server)
    with closing(Records(server)) as records, records.writing() as connection:
        for table in older:
            connection.exec_driver_sql(f"DROP TABLE {table} CASCADE")
    with closing(Records(server)) as records:
        records.create()
    assert shape(server) == older


LAYOUT_1 = """
CREATE TABLE nas_version (number SERIAL PRIMARY KEY);
CREATE TABLE nas_study (id SERIAL PRIMARY KEY, name VARCHAR(200) NOT NULL UNIQUE, identity TEXT NOT NULL,
    settings TEXT NOT NULL, exhausted BOOLEAN NOT NULL);
CREATE TABLE nas_evaluation (id SERIAL PRIMARY KEY, study INTEGER NOT NULL REFERENCES nas_study (id),
    trial INTEGER NOT NULL, key VARCHAR(64) NOT NULL, architecture TEXT NOT NULL, state VARCHAR(16) NOT NULL,
    killed BOOLEAN NOT NULL, reason TEXT, val_accuracy FLOAT, curve TEXT NOT NULL, stopped TEXT,
    params BIGINT NOT NULL, macs BIGINT NOT NULL, cost BIGINT NOT NULL, seconds FLOAT NOT NULL, seed BIGINT NOT NULL,
    device VARCHAR(100) NOT NULL, threads INTEGER NOT NULL, worker VARCHAR(200) NOT NULL, started_at FLOAT NOT NULL,
    finished_at FLOAT NOT NULL, UNIQUE (study, trial));
CREATE TABLE nas_claim (id SERIAL PRIMARY KEY, study INTEGER NOT NULL REFERENCES nas_study (id), key VARCHAR(64),
    trial INTEGER, worker VARCHAR(200) NOT NULL, state VARCHAR(16) NOT NULL, UNIQUE (study, key));
CREATE TABLE nas_worker (id VARCHAR(200) PRIMARY KEY, study INTEGER NOT NULL REFERENCES nas_study (id),
    host VARCHAR(200) NOT NULL, lock TEXT NOT NULL, beat_at FLOAT NOT NULL);
CREATE INDEX ix_nas_evaluation_study ON nas_evaluation (study);
CREATE INDEX ix_nas_claim_study ON nas_claim (study);
CREATE INDEX ix_nas_worker_study ON nas_worker (study);
INSERT INTO nas_version VALUES (1)
"""
