"""The cache: another study answers where everything that decides a training is equal, and nowhere else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.cache import EvaluationCache
from nas.context import Context
from nas.records import Records, Row
from nas.study_folder import StudyFolder
from tests.fake_study import identity, rows, settings

IDENTITY = identity("images", "split") | {"train_limit": None, "metric": "accuracy", "training_version": 3}
ROWS = rows(30)
COMPLETE = next(row for row in ROWS if row.state == "complete")


def study(
    studies: Path, name: str, what: dict[str, Any] = IDENTITY, found: list[Row] = ROWS, url: str | None = None
) -> StudyFolder:
    folder = StudyFolder(studies, name)
    folder.path.mkdir(parents=True, exist_ok=True)
    records = Records(url or folder.url)
    records.create()
    record = records.add_study(name, what, settings(name))
    for row in found:
        records.add(record.id, row)
    records.close()
    return folder


def cache_of(studies: Path, name: str = "own", device: str = "cpu", threads: int = 1) -> EvaluationCache:
    records = Records(StudyFolder(studies, name).url)
    try:
        context = Context.of(records.study(name).identity)
        cache = EvaluationCache(studies, records, name, context, device=device, threads=threads)
    finally:
        records.close()
    return cache


def test_another_study_answers_with_its_whole_row(tmp_path: Path) -> None:
    answered = [replace(row, confusion=((row.trial, 1), (0, 2))) if row.state == "complete" else row for row in ROWS]
    other = study(tmp_path, "other", found=answered)
    study(tmp_path, "own", found=[])
    before = other.database.read_bytes()
    cache = cache_of(tmp_path)
    complete = [row for row in answered if row.state == "complete"]
    assert len(cache) == len(complete)
    for row in complete:
        assert cache.find(row.key, row.seed) == replace(row, source=f"other trial {row.trial}")
    for row in ROWS:
        if row.state != "complete":
            assert cache.find(row.key, row.seed) is None
    assert cache.find("0" * 20, 1) is None
    assert other.database.read_bytes() == before
    assert {path.name for path in other.path.iterdir()} == {"study.db"}


def test_what_a_killed_writer_left_in_the_log_is_read_and_stays_there(tmp_path: Path) -> None:
    other = study(tmp_path / "elsewhere", "other", found=[])
    study(tmp_path, "own", found=[])
    with closing(sqlite3.connect(other.database)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("SELECT * FROM nas_study").fetchall()  # from here on it is not the last one to close
        with closing(Records(other.url)) as records:
            records.add(records.study("other").id, COMPLETE)
        shutil.copytree(other.path, tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert len(before["study.db-wal"]) > 0
    assert cache_of(tmp_path).find(COMPLETE.key, COMPLETE.seed) is not None
    after = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir() if path.suffix != ".db-shm"}
    assert after == before


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(what: dict[str, Any]) -> dict[str, Any]:
        outer, _, inner = path.partition(".")
        return what | {outer: changed(inner, value)(what[outer]) if inner else value}

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("data.images", "others"),
        changed("data.split", "others"),
        changed("space.recipe.epochs", 10),
        changed("space.recipe.batch", 32),
        changed("train_limit", 500),
        changed("metric", "balanced-accuracy"),
        changed("training_version", 4),
        lambda what: {name: part for name, part in what.items() if name != "data"},
        lambda what: what | {"space": {"rule": "growing"}},
    ],
)
def test_a_study_of_other_images_split_or_recipe_does_not_answer(
    change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    study(tmp_path, "other", change(IDENTITY))
    study(tmp_path, "own", found=[])
    assert len(cache_of(tmp_path)) == 0


@pytest.mark.parametrize(
    "change",
    [changed("space.rule", "off"), changed("space.cost", "macs"), changed("seed", 5), changed("split_seed", 1)],
)
def test_what_does_not_decide_a_training_may_differ(
    change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    study(tmp_path, "other", change(IDENTITY))
    study(tmp_path, "own", found=[])
    assert cache_of(tmp_path).find(COMPLETE.key, COMPLETE.seed) is not None


def test_without_any_images_on_record_nothing_is_equal(tmp_path: Path) -> None:
    bare = {name: part for name, part in IDENTITY.items() if name != "data"}
    study(tmp_path, "other", bare)
    study(tmp_path, "own", bare, found=[])
    assert len(cache_of(tmp_path)) == 0


@pytest.mark.parametrize(
    ("trained", "device", "threads", "answers"),
    [
        ({}, "cpu", 1, True),
        ({}, "cpu", 2, False),
        ({}, "cuda", 1, False),
        ({"device": "NVIDIA A100"}, "cpu", 1, False),
        ({"device": "NVIDIA A100"}, "cuda", 1, True),
        ({"device": "NVIDIA A100"}, "cuda", 2, False),
        ({"threads": 2}, "cpu", 1, False),
        ({"seed": COMPLETE.seed + 1}, "cpu", 1, False),
        ({"state": "pruned", "reason": "behind"}, "cpu", 1, False),
        ({"state": "failed", "reason": "killed", "killed": True}, "cpu", 1, False),
    ],
)
def test_device_threads_seed_and_state_decide(
    trained: dict[str, Any], device: str, threads: int, answers: bool, tmp_path: Path
) -> None:
    study(tmp_path, "other", found=[replace(COMPLETE, **trained)])
    study(tmp_path, "own", found=[])
    found = cache_of(tmp_path, device=device, threads=threads).find(COMPLETE.key, COMPLETE.seed)
    assert (found is not None) is answers


def test_the_own_study_does_not_answer(tmp_path: Path) -> None:
    study(tmp_path, "own")
    assert len(cache_of(tmp_path)) == 0


def test_a_study_in_the_same_database_answers(tmp_path: Path) -> None:
    own = study(tmp_path, "own", found=[])
    study(tmp_path, "other", url=own.url)
    weights = StudyFolder(tmp_path, "other").weights(COMPLETE.key)
    weights.parent.mkdir()
    weights.touch()
    records = Records(own.url)
    cache = EvaluationCache(tmp_path, records, "own", Context.of(IDENTITY), device="cpu", threads=1)
    found = cache.find(COMPLETE.key, COMPLETE.seed)
    assert found == replace(COMPLETE, source=f"other trial {COMPLETE.trial}")
    assert cache.weights(found) == weights
    records.close()


def test_weights_are_found_where_a_study_kept_them(tmp_path: Path) -> None:
    study(tmp_path, "a")
    kept = study(tmp_path, "b").weights(COMPLETE.key)
    study(tmp_path, "own", found=[])
    cache = cache_of(tmp_path)
    row = cache.find(COMPLETE.key, COMPLETE.seed)
    assert row is not None
    assert row.source == f"a trial {COMPLETE.trial}"
    assert cache.weights(row) is None
    kept.parent.mkdir()
    kept.touch()
    assert cache.weights(row) == kept


def test_an_answer_from_the_cache_keeps_its_first_source(tmp_path: Path) -> None:
    study(tmp_path, "other", found=[replace(COMPLETE, source="first trial 7")])
    study(tmp_path, "own", found=[])
    found = cache_of(tmp_path).find(COMPLETE.key, COMPLETE.seed)
    assert found is not None
    assert found.source == "first trial 7"


def test_files_that_do_not_serve_are_passed_over(tmp_path: Path) -> None:
    study(tmp_path, "own", found=[])
    for name, content in (("empty", b""), ("damaged", b"no database at all, " * 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.db").write_bytes(content)
    (tmp_path / "foreign").mkdir()
    with sqlite3.connect(tmp_path / "foreign" / "study.db") as connection:
        connection.execute("CREATE TABLE studies (study_name TEXT)")
    connection.close()
    newer = study(tmp_path, "newer")
    with sqlite3.connect(newer.database) as connection:
        connection.execute("UPDATE nas_version SET number = 1000")
    connection.close()
    odd = study(tmp_path, "odd")
    with sqlite3.connect(odd.database) as connection:
        connection.execute("UPDATE nas_study SET identity = '[1]'")
    connection.close()
    assert len(cache_of(tmp_path)) == 0
    study(tmp_path, "whole")
    assert len(cache_of(tmp_path)) > 0


def test_a_study_that_goes_away_or_changes_answers_no_more(tmp_path: Path) -> None:
    other = study(tmp_path, "other")
    study(tmp_path, "own", found=[])
    cache = cache_of(tmp_path)
    with sqlite3.connect(other.database) as connection:
        connection.execute("UPDATE nas_evaluation SET architecture = (SELECT architecture FROM nas_evaluation LIMIT 1)")
    connection.close()
    changed_row = next(row for row in ROWS[1:] if row.state == "complete")
    assert cache.find(changed_row.key, changed_row.seed) is None
    other.database.unlink()
    assert cache.find(COMPLETE.key, COMPLETE.seed) is None
