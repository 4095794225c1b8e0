"""Records: rows come back as they went in, and a database that cannot serve says so in one line."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas.database import check_sqlite, parse_url, shown
from nas.errors import StudyError
from nas.records import VERSION, Records
from nas.study_folder import StudyFolder
from tests.test_claims import row


def url(path: Path) -> str:
    return f"sqlite:///{path / 'study.db'}"


def made(path: Path) -> Records:
    records = Records(url(path))
    records.create()
    return records


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    records = made(tmp_path)
    study = records.add_study("s", {"a": [1, {"b": None}]}, {"c": "ü"})
    pruned = row(1, state="pruned", reason="too far behind")
    rows = [row(0), pruned]
    for item in reversed(rows):
        records.add(study.id, item)
    again = Records(url(tmp_path))
    assert again.rows("s") == rows
    assert again.study("s") == study
    assert again.complete(study.id) == [(rows[0].key, 10, 0.5)]
    assert again.studies() == ["s"]
    again.close()
    records.close()


def test_confusions_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    records = made(tmp_path)
    study = records.add_study("s", {}, {})
    rows = [replace(row(0), confusion=((3, 0), (1, 2))), row(1)]
    for item in rows:
        records.add(study.id, item)
    assert records.rows("s", confusions=True) == rows
    assert records.rows("s", [0], confusions=True) == rows[:1]
    assert records.rows("s") == [replace(rows[0], confusion=None), rows[1]]
    records.close()


def test_a_trial_has_one_row(tmp_path: Path) -> None:
    records = made(tmp_path)
    study = records.add_study("s", {}, {})
    records.add(study.id, row(0))
    with pytest.raises(sa.exc.IntegrityError):
        records.add(study.id, row(0))
    assert len(records.rows("s")) == 1
    records.close()


def test_the_first_to_make_a_study_decides_what_it_is(tmp_path: Path) -> None:
    records = made(tmp_path)
    records.add_study("s", {"rule": "growing"}, {})
    assert records.add_study("s", {"rule": "off"}, {}).identity == {"rule": "growing"}
    records.close()


def test_an_unknown_study_names_those_that_are_there(tmp_path: Path) -> None:
    records = made(tmp_path)
    records.add_study("digits", {}, {})
    with pytest.raises(StudyError, match=r"no study 'digit'.*digits"):
        records.study("digit")
    records.close()


def test_a_database_of_a_newer_nas_is_refused(tmp_path: Path) -> None:
    made(tmp_path).close()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE nas_version SET number = ?", (VERSION + 1,))
    connection.close()
    records = Records(url(tmp_path))
    with pytest.raises(StudyError, match="update nas"):
        records.check_version()
    records.close()


def test_a_file_that_is_no_database_is_said_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"no database at all, " * 100)
    before = path.read_bytes()
    with pytest.raises(StudyError, match="damaged"):
        check_sqlite(path)
    records = Records(url(tmp_path))
    with pytest.raises(StudyError, match="damaged"):
        records.create()
    records.close()
    assert path.read_bytes() == before


def test_a_page_of_zeros_in_the_middle_is_found(tmp_path: Path) -> None:
    records = made(tmp_path)
    study = records.add_study("s", {}, {})
    for trial in range(40):
        records.add(study.id, row(trial))
    records.close()
    path = tmp_path / "study.db"
    content = bytearray(path.read_bytes())
    content[8192 : 8192 + 4096 * 4] = bytes(4096 * 4)
    path.write_bytes(content)
    with pytest.raises(StudyError, match="damaged"):
        check_sqlite(path)


def test_an_empty_file_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    with pytest.raises(StudyError, match="empty"):
        check_sqlite(tmp_path / "study.db")


def test_a_network_that_cannot_be_read_names_the_database(tmp_path: Path) -> None:
    records = made(tmp_path)
    records.add(records.add_study("s", {}, {}).id, row(0))
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE nas_evaluation SET architecture = '{'")
    connection.close()
    with pytest.raises(StudyError, match=r"study\.db is damaged"):
        records.rows("s")
    records.close()


def test_another_programs_database_has_no_records(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    records = Records(url(tmp_path))
    with pytest.raises(StudyError, match="no records of nas"):
        records.check_version()
    records.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://u:secret@host/db", "not supported"),
        ("sqlite:////nowhere/at/all/study.db", "out of reach"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/db", "out of reach|missing"),
        ("postgresql+nothing://u:secret@127.0.0.1:1/db", "driver is unknown"),
    ],
)
def test_a_storage_that_cannot_serve_is_one_line_without_its_password(given: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        Records(given).create()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in shown("postgresql+psycopg://u:secret@host/db")
    assert "u" in shown(parse_url("postgresql+psycopg://u:secret@host/db"))
    assert shown("sqlite:///a/study.db") == "a/study.db"


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "../x", "a\\b", "x" * 101, " x", "x.", "a\nb", "-x", "/abs", ".hidden"]
)
def test_a_study_name_never_leaves_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="choose another"):
        StudyFolder(tmp_path, name)


@pytest.mark.parametrize("name", ["digits", "my study", "größe-2", "a.b+c_1", "x" * 100])
def test_ordinary_names_are_folders(name: str, tmp_path: Path) -> None:
    assert StudyFolder(tmp_path, name).database.parent == tmp_path / name


def test_a_missing_study_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "study.db").touch()
    with pytest.raises(StudyError, match="did you mean 'digits'"):
        StudyFolder.existing(tmp_path, "digit")
    with pytest.raises(StudyError, match="holds none"):
        StudyFolder.existing(tmp_path / "empty", "digits")
