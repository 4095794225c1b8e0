"""The layouts of the ``nas_*`` tables, by number, and how one becomes the next.

`tables` says how a new database is made; an older one takes the steps here, so that a new layout is an entry of
`STEPS` and the same in `tables`. A step keeps its own names and types: it must not change when the tables do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.context import Context, canonical
from nas.errors import StudyError
from nas.tables import tables, version_table


def _hashes_and_sources(connection: Connection) -> None:
    """Layout 2: what a row was trained on as hashes, with which versions, proposed by which numbers, and from where."""
    for name in ("space", "dataset", "split", "recipe"):
        connection.exec_driver_sql(f"ALTER TABLE nas_evaluation ADD COLUMN {name} VARCHAR(64)")
    for name in ("versions", "coordinates", "source"):
        connection.exec_driver_sql(f"ALTER TABLE nas_evaluation ADD COLUMN {name} TEXT")
    connection.exec_driver_sql("CREATE INDEX ix_nas_evaluation_key_recipe ON nas_evaluation (key, recipe)")
    studies = sa.text("SELECT id, identity, settings FROM nas_study")
    for number, identity, settings in connection.execute(studies).all():
        versions = json.loads(settings).get("versions")
        values: dict[str, Any] = dict(Context.of(json.loads(identity)).columns)
        values["versions"] = None if versions is None else canonical(versions)
        connection.execute(
            sa.text(
                "UPDATE nas_evaluation SET space = :space, dataset = :dataset, split = :split, recipe = :recipe, "
                "versions = :versions WHERE study = :study"
            ),
            {**values, "study": number},
        )
    _take_coordinates(connection)


def _take_coordinates(connection: Connection) -> None:
    """Before layout 2 only Optuna's tables, in the same database, held the numbers that a trial proposed."""
    tables_there = set(sa.inspect(connection).get_table_names())
    if not {"studies", "trials", "trial_params"} <= tables_there:
        return
    proposed = sa.text(
        "SELECT nas_evaluation.id, trial_params.param_name, trial_params.param_value FROM nas_evaluation "
        "JOIN nas_study ON nas_study.id = nas_evaluation.study "
        "JOIN studies ON studies.study_name = nas_study.name "
        "JOIN trials ON trials.study_id = studies.study_id AND trials.number = nas_evaluation.trial "
        "JOIN trial_params ON trial_params.trial_id = trials.trial_id"
    )
    coordinates: dict[int, dict[str, float]] = {}
    for line, name, value in connection.execute(proposed):
        coordinates.setdefault(line, {})[name] = value
    write = sa.text("UPDATE nas_evaluation SET coordinates = :coordinates WHERE id = :line")
    for line, numbers in coordinates.items():
        connection.execute(write, {"coordinates": canonical(numbers), "line": line})


def _refinements_and_test_readings(connection: Connection) -> None:
    """Layout 3: full trainings of networks of the front, and every reading of the sealed test images."""
    layout = sa.MetaData()
    sa.Table("nas_study", layout, sa.Column("id", sa.Integer, primary_key=True))
    common = (
        ("trial", sa.Integer, False),
        ("key", sa.String(64), False),
        ("weights_sha256", sa.String(64), False),
        ("versions", sa.Text, True),
    )
    refinement = (
        ("replicate", sa.Integer, False),
        ("recipe_hash", sa.String(64), False),
        ("recipe", sa.Text, False),
        ("seed", sa.BigInteger, False),
        ("val_accuracy", sa.Float, False),
        ("curve", sa.Text, False),
        ("seconds", sa.Float, False),
        ("device", sa.String(100), False),
        ("threads", sa.Integer, False),
        ("started_at", sa.Float, False),
        ("finished_at", sa.Float, False),
    )
    reading = (
        ("dataset", sa.String(64), False),
        ("weights", sa.Text, False),
        ("images", sa.Integer, False),
        ("correct", sa.Integer, False),
        ("confusion", sa.Text, False),
        ("command", sa.Text, True),
        ("read_at", sa.Float, False),
    )
    made = []
    for name, own in (("nas_refinement", refinement), ("nas_test_reading", reading)):
        columns = [sa.Column(column, kind, nullable=may_lack) for column, kind, may_lack in (*common, *own)]
        number = sa.Column("id", sa.Integer, primary_key=True)
        study: sa.Column[int] = sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True)
        made.append(sa.Table(name, layout, number, study, *columns))
    made[0].append_constraint(sa.UniqueConstraint("study", "key", "recipe_hash", "replicate"))
    sa.Index("ix_nas_test_reading_dataset", made[1].c.dataset)
    layout.create_all(connection, made)


def _baselines(connection: Connection) -> None:
    """Layout 4: trainings of networks that no search proposed, to hold what it finds against."""
    layout = sa.MetaData()
    sa.Table("nas_study", layout, sa.Column("id", sa.Integer, primary_key=True))
    columns = (
        ("kind", sa.String(16), False),
        ("name", sa.String(100), False),
        ("key", sa.String(64), False),
        ("architecture", sa.Text, True),
        ("params", sa.BigInteger, False),
        ("macs", sa.BigInteger, False),
        ("input_shape", sa.String(100), False),
        ("recipe_name", sa.String(16), False),
        ("recipe_hash", sa.String(64), False),
        ("recipe", sa.Text, False),
        ("replicate", sa.BigInteger, False),
        ("seed", sa.BigInteger, False),
        ("val_accuracy", sa.Float, False),
        ("curve", sa.Text, False),
        ("confusion", sa.Text, True),
        ("seconds", sa.Float, False),
        ("device", sa.String(100), False),
        ("threads", sa.Integer, False),
        ("dataset", sa.String(64), False),
        ("split", sa.String(64), False),
        ("weights_sha256", sa.String(64), True),
        ("started_at", sa.Float, False),
        ("finished_at", sa.Float, False),
        ("versions", sa.Text, True),
    )
    number = sa.Column("id", sa.Integer, primary_key=True)
    study: sa.Column[int] = sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True)
    made = [sa.Column(column, kind, nullable=may_lack) for column, kind, may_lack in columns]
    once = sa.UniqueConstraint("study", "kind", "name", "key", "input_shape", "recipe_hash", "replicate")
    sa.Table("nas_baseline", layout, number, study, *made, once).create(connection)


def _confusions(connection: Connection) -> None:
    """Layout 5: what a complete trial answered to the validation images, by class."""
    connection.exec_driver_sql("ALTER TABLE nas_evaluation ADD COLUMN confusion TEXT")


STEPS: dict[int, Callable[[Connection], None]] = {
    2: _hashes_and_sources,
    3: _refinements_and_test_readings,
    4: _baselines,
    5: _confusions,
}
"""By the number of the layout that it leads to, from the one before it."""

VERSION = max(STEPS)
"""Layout of the ``nas_*`` tables; a database with a higher number was written by a newer nas and is refused."""


def bring_up_to_date(connection: Connection, name: str) -> None:
    """Make the tables where there are none, or take the steps from the layout that is there to `VERSION`.

    Args:
        connection: in a transaction that holds the write lock; nothing is kept unless it is committed.
        name: the database's, for a person.

    Raises:
        StudyError: the layout is newer than `VERSION`.
    """
    number = None
    if sa.inspect(connection).has_table(version_table.name):
        if connection.dialect.name == "postgresql":  # SQLite's write lock is held already
            connection.exec_driver_sql("LOCK TABLE nas_version IN ACCESS EXCLUSIVE MODE")
        number = connection.execute(sa.select(sa.func.max(version_table.c.number))).scalar()
    if number is None:
        tables.create_all(connection)
        connection.execute(version_table.insert().values(number=VERSION))
        return
    check_layout(number, name)
    for step in range(number + 1, VERSION + 1):
        STEPS[step](connection)
    if number < VERSION:
        connection.execute(version_table.update().values(number=VERSION))


def check_layout(number: int | None, name: str) -> None:
    """Refuse a layout that is not known.

    Raises:
        StudyError: it is newer than `VERSION`, or there is none.
    """
    if number is None or number > VERSION:
        raise StudyError(f"{name} has records of layout {number}, this nas reads {VERSION}; update nas")
