"""Trainings beside a study on record: written, read again in order, once each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nas.baseline_rows import Baseline, add_baseline, baselines
from nas.errors import StudyError
from nas.records import Records
from nas.refined import recipe_hash
from nas.tables import baseline_table
from tests import refining

STARTED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def baseline(name: str = "small", **changes: Any) -> Baseline:
    """A training of a network that is not made of modules."""
    made: dict[str, Any] = {
        "kind": "reference",
        "name": name,
        "key": f"key of {name}",
        "architecture": None,
        "params": 1_000,
        "macs": 50_000,
        "input_shape": (1, 8, 8),
        "recipe_name": "published",
        "recipe": {"epochs": 2, "optimiser": "adam"},
        "replicate": 0,
        "seed": 2**63 - 1,
        "val_accuracy": 0.75,
        "curve": ((1, 0.5, 2.0), (2, 0.75, 1.0)),
        "seconds": 1.5,
        "device": "cpu",
        "threads": 1,
        "dataset": "d",
        "split": "s",
        "started_at": STARTED,
        "finished_at": STARTED,
        "confusion": ((3, 1), (1, 3)),
        "weights_sha256": "ab" * 32,
        "versions": {"nas": "0"},
    }
    return Baseline(**(made | changes))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    made = Records(f"sqlite:///{tmp_path / 'study.db'}")
    made.create()
    made.add_study("s", {}, {})
    made.add_study("another", {}, {})
    return made


def test_what_is_written_is_read_again(records: Records) -> None:
    network = refining.networks()[0].architecture
    plain = baseline()
    inception = baseline("inception", key=network.key, architecture=network, params=network.params, confusion=None)
    line = baseline("line 1", kind="line", recipe_name="study", versions=None, weights_sha256=None)
    for one in (plain, inception, line):
        add_baseline(records, 1, one)
    found = baselines(records, 1)
    assert sorted(found, key=lambda one: one.name) == [inception, line, plain]
    assert [one.kind for one in found] == ["line", "reference", "reference"]
    assert baselines(records, 2) == []


def test_the_order_is_kind_size_name_recipe_and_replicate(records: Records) -> None:
    longer = {"epochs": 4, "optimiser": "adam"}
    ordered = [
        baseline("a", recipe_name="published", replicate=0),
        baseline("a", recipe_name="published", replicate=1),
        baseline("a", recipe_name="study", recipe=longer),
        baseline("b"),
        baseline("a larger", params=2_000),
    ]
    for one in reversed(ordered):
        add_baseline(records, 1, one)
    assert baselines(records, 1) == ordered


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "line"},
        {"name": "other"},
        {"key": "other"},
        {"input_shape": (1, 16, 16)},
        {"recipe": {"epochs": 3}},
        {"replicate": 1},
    ],
)
def test_only_an_equal_one_is_replaced(records: Records, change: dict[str, Any]) -> None:
    first, other = baseline(), replace(baseline(), **change)
    again = replace(first, val_accuracy=0.25, device="NVIDIA")
    for one in (first, other, again):
        add_baseline(records, 1, one)
    assert sorted(baselines(records, 1), key=lambda one: one.val_accuracy) == [again, other]


def test_epochs_hash_cost_and_classes() -> None:
    one = baseline(confusion=((3, 1, 0), (0, 0, 0), (2, 0, 2)))
    assert one.epochs == 2
    assert one.recipe_hash == recipe_hash({"optimiser": "adam", "epochs": 2})
    assert (one.cost("params"), one.cost("macs")) == (1_000, 50_000)
    assert one.class_accuracies == (0.75, None, 0.5)
    assert baseline(confusion=None).class_accuracies == ()


def test_a_database_of_an_older_layout_has_none(records: Records) -> None:
    with records.writing() as connection:
        baseline_table.drop(connection)
    assert baselines(records, 1) == []


def test_a_damaged_record_is_said(records: Records) -> None:
    add_baseline(records, 1, baseline())
    with records.writing() as connection:
        connection.execute(sa.update(baseline_table).values(curve="[[1]]"))
    with pytest.raises(StudyError, match="a baseline's record is damaged"):
        baselines(records, 1)
