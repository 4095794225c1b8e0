"""The seal of the test images: what a reading says, its record, and the count over all studies."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import seal
from nas.errors import StudyError
from nas.records import Records
from nas.seal import Reading, Seal, wilson
from nas.study_folder import StudyFolder
from tests.fake_study import identity, settings, write_study

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def reading(trial: int = 3, minutes: int = 0, dataset: str = "images", weights: str = "a") -> Reading:
    """Two classes: 8 of 10 and 1 of 2 right."""
    return Reading(
        trial, f"key{trial}", dataset, "search", weights, ((8, 2), (1, 1)), "nas test x",
        NOON + timedelta(minutes=minutes), {"nas": "0.1.0"},
    )  # fmt: skip


def study(studies: Path, name: str, read: Sequence[Reading] = ()) -> StudyFolder:
    folder = write_study(studies, name, [], digests=("images", "split"))
    with closing(Records(folder.url)) as records:
        if read:
            seal.add(records, records.study(name).id, read)
    return folder


def look(folder: StudyFolder, studies: Path | None = None, dataset: str = "images") -> Seal:
    with closing(Records(folder.url)) as records:
        return seal.look(folder.studies_dir if studies is None else studies, records, dataset)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe 1998, table I, method 3 (doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(right: int, images: int, low: float, high: float) -> None:
    assert wilson(right, images) == pytest.approx((low, high), abs=5e-5)


def test_a_reading_counts_by_class() -> None:
    one = reading()
    assert (one.images, one.correct, one.accuracy) == (12, 9, 0.75)
    assert (one.class_images, one.class_correct) == ((10, 2), (8, 1))
    assert one.balanced_accuracy == pytest.approx((0.8 + 0.5) / 2)
    assert one.interval == wilson(9, 12)


def test_a_class_without_test_images_is_left_out_of_the_balanced_accuracy() -> None:
    one = Reading(0, "k", "d", "search", "w", ((3, 1, 0), (0, 0, 0), (0, 0, 4)), None, NOON)
    assert one.balanced_accuracy == pytest.approx((0.75 + 1) / 2)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_balanced_interval_of_one_class_is_wilsons(pair: tuple[int, int]) -> None:
    right, images = pair
    one = Reading(0, "k", "d", "search", "w", ((right, images - right), (0, 0)), None, NOON)
    assert one.balanced_interval == pytest.approx(wilson(right, images), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_equal_classes_narrow_the_balanced_interval_by_their_root(classes: int) -> None:
    names = range(classes)
    confusion = tuple(tuple(45 if c == r else 5 if c == (r + 1) % classes else 0 for c in names) for r in names)
    low, high = Reading(0, "k", "d", "search", "w", confusion, None, NOON).balanced_interval
    one_low, one_high = wilson(45, 50)
    assert low == pytest.approx(0.9 - (0.9 - one_low) / classes**0.5)
    assert high == pytest.approx(0.9 + (one_high - 0.9) / classes**0.5)


def test_the_balanced_interval_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "wilson", lru_cache(wilson))
    truth, images = np.array([0.8, 0.95, 0.99]), np.array([15, 60, 400])
    inside = 0
    for rights in np.random.default_rng(0).binomial(images, truth, (1000, 3)):
        confusion = tuple(
            tuple(int(r) if c == label else int(n - r) if c == (label + 1) % 3 else 0 for c in range(3))
            for label, (r, n) in enumerate(zip(rights, images, strict=True))
        )
        low, high = Reading(0, "k", "d", "search", "w", confusion, None, NOON).balanced_interval
        inside += low <= truth.mean() <= high
    assert 930 <= inside <= 985


def test_readings_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    late, early = reading(minutes=5), reading(trial=4, weights="b")
    folder = study(tmp_path, "own", [late, early])
    with closing(Records(folder.url)) as records:
        assert seal.readings(records, records.study("own").id) == [early, late]
        assert seal.readings(records, records.study("own").id + 1) == []


def test_readings_are_written_all_or_none(tmp_path: Path) -> None:
    folder = study(tmp_path, "own")
    wrong = reading(trial=None)  # type: ignore[arg-type]
    with closing(Records(folder.url)) as records:
        with pytest.raises(Exception, match="NOT NULL"):
            seal.add(records, records.study("own").id, [reading(), wrong])
        assert seal.readings(records, records.study("own").id) == []


def test_every_study_of_the_folder_is_counted(tmp_path: Path) -> None:
    pair = [reading(), reading(trial=4, weights="b")]
    own = study(tmp_path, "own", pair)
    study(tmp_path, "other", [reading(minutes=9, weights="c"), reading(minutes=10, weights="c")])
    study(tmp_path, "elsewhere", [reading(minutes=20, dataset="other images")])
    study(tmp_path, "new")
    found = look(own)
    assert [name for name, _ in found.readings] == ["own", "own", "other", "other"]
    assert [one for _, one in found.readings][:2] == pair
    assert found.times == 3
    assert found.words == "read 3 times, for 3 trained networks, by own (once), other (2 times)"
    assert look(own, dataset="nobody's").words == "never read"


def test_a_study_that_lies_in_two_places_counts_once(tmp_path: Path) -> None:
    own = study(tmp_path, "own", [reading()])
    shutil.copytree(own.path, tmp_path / "copy")
    assert look(own).words == "read once, for 1 trained network, by own (once)"


def test_a_shared_database_and_the_folder_are_counted_together(tmp_path: Path) -> None:
    study(tmp_path / "studies", "there", [reading(weights="b")])
    shared = study(tmp_path / "far", "own", [reading(minutes=1)])
    with closing(Records(shared.url)) as records:
        second = records.add_study("second", identity("images", "split"), settings("second"))
        seal.add(records, second.id, [reading(minutes=2)])
    found = look(shared, tmp_path / "studies")
    assert [name for name, _ in found.readings] == ["there", "own", "second"]


def test_what_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    own = study(tmp_path, "own", [reading()])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.db").write_bytes(b"not a database" * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "study.db").touch()
    old = tmp_path / "old" / "study.db"
    old.parent.mkdir()
    old.write_bytes(gzip.decompress((Path(__file__).parent / "study_layout1.db.gz").read_bytes()))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    found = look(own)
    assert len(found.readings) == 1  # one of an older layout has none
    assert found.unknown == (tmp_path / "damaged" / "study.db", tmp_path / "empty" / "study.db")
    assert found.words.startswith(
        "read once, for 1 trained network, by own (once); not counted, because they cannot be "
    )
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


def test_a_damaged_reading_is_said(tmp_path: Path) -> None:
    own = study(tmp_path, "own", [reading()])
    with closing(Records(own.url)) as records:
        with records.writing() as connection:
            connection.exec_driver_sql("UPDATE nas_test_reading SET confusion = '[[1,'")
        with pytest.raises(StudyError, match="a reading of the test images is damaged"):
            seal.readings(records, 1)
