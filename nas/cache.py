"""What other studies have trained already: an evaluation that may stand in for a training, and where it comes from."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.checksums import intact
from nas.context import Context
from nas.database import sqlite_url
from nas.errors import ArchitectureError, StudyError
from nas.files import Files
from nas.outage import repeated
from nas.records import Records, Row, evaluation_table, row_of, study_table
from nas.study_folder import StudyFolder


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an evaluation is: a line of a database, or of the one that this study is in where `database` is None."""

    database: Path | None
    study: str
    line: int
    weights: Path
    files: Files


class EvaluationCache:
    """The complete evaluations of other studies that a training here would repeat.

    Those of the studies in the same database, and of every ``study.db`` in `studies_dir`, which are only read. A file
    that is damaged, of another program, or of a newer nas is passed over. What is there is looked up once, when this is
    made, so a look-up costs nothing where nothing is found.

    Args:
        studies_dir: the folder that holds all studies.
        records: of the own study; not closed here.
        study: the own study's name. It is left out: it trains no network twice.
        context: images, split, recipe and version of training, which must all be equal.
        device: kind of device, ``cpu`` or ``cuda``.
        threads: of the training; must be equal.

    Raises:
        StudyError: the own database is out of reach.
    """

    def __init__(
        self, studies_dir: Path, records: Records, study: str, context: Context, *, device: str, threads: int
    ) -> None:
        self._records = records
        self._context = context
        self._on_cpu = device == "cpu"
        self._threads = threads
        self._places: dict[tuple[str, int], list[_Place]] = {}
        own = Path(records.url.database or "") if records.url.get_backend_name() == "sqlite" else None
        self._learn_own(studies_dir, study)
        for database in sorted(studies_dir.glob("*/study.db")):
            if own is not None and _same(database, own):
                continue
            try:
                with _opened(database) as other, other.reading() as connection:
                    self._learn(connection, database, database.parent)
            except (StudyError, ArchitectureError, sa.exc.SQLAlchemyError, ValueError, TypeError, AttributeError):
                continue  # it is another's file, and nothing that this study needs

    def __len__(self) -> int:
        """Number of trainings that it can answer for."""
        return len(self._places)

    def find(self, key: str, seed: int) -> Row | None:
        """The complete evaluation of this network with this training's seed, as the other study has it.

        Returns:
            its `source` says where it was trained, its `trial`, `worker` and times are the other study's; None where
            there is none, or it is no longer there.
        """
        for place in self._places.get((key, seed), ()):
            try:
                row = self._read(place)
            except (StudyError, ArchitectureError, sa.exc.SQLAlchemyError, ValueError, TypeError, KeyError):
                continue
            # A database that was written to since may hold another evaluation in that line.
            if row and (row.key, row.seed, row.state) == (key, seed, "complete") and row.architecture.key == key:
                return row if row.source else replace(row, source=f"{place.study} trial {row.trial}")
        return None

    def weights(self, row: Row) -> Path | None:
        """The file with the averaged weights of a row that `find` gave; None where no other study kept them whole."""
        places = self._places.get((row.key, row.seed), ())
        return next((p.weights for p in places if p.files.fetch(p.weights) and _is_whole(p.weights)), None)

    @repeated
    def _learn_own(self, studies_dir: Path, study: str) -> None:
        """Done again it learns some places twice, which are then looked at twice."""
        with self._records.reading() as connection:
            self._learn(connection, None, studies_dir, leave_out=study)

    def _learn(self, connection: Connection, database: Path | None, folder: Path, leave_out: str | None = None) -> None:
        studies: dict[int, tuple[str, Files]] = {}
        for number, name, identity, settings in connection.execute(
            sa.select(study_table.c.id, study_table.c.name, study_table.c.identity, study_table.c.settings)
        ):
            if name == leave_out or not Context.of(json.loads(identity)).trains_as(self._context):
                continue
            try:
                place = StudyFolder(folder, name) if database is None else StudyFolder(folder.parent, folder.name)
            except StudyError:  # a name from a shared database that no folder could have
                continue
            studies[number] = name, Files(place, json.loads(settings))
        if not studies:
            return
        table = evaluation_table.c
        on_device = table.device == "cpu" if self._on_cpu else table.device != "cpu"
        query = sa.select(table.id, table.study, table.key, table.seed).where(
            table.study.in_(studies), table.state == "complete", on_device, table.threads == self._threads
        )
        for line, study, key, seed in connection.execute(query.order_by(table.id)):
            name, files = studies[study]
            found = _Place(database, name, line, files.folder.weights(key), files)
            self._places.setdefault((key, seed), []).append(found)

    def _read(self, place: _Place) -> Row | None:
        if place.database is None:
            with self._records.reading() as connection:
                return _line(connection, place.line)
        with _opened(place.database) as other, other.reading() as connection:
            return _line(connection, place.line)


def _line(connection: Connection, number: int) -> Row | None:
    """An evaluation by its line; with all columns that are there, since older layouts have fewer."""
    query = sa.text("SELECT * FROM nas_evaluation WHERE id = :number")
    found = connection.execute(query, {"number": number}).mappings().first()
    return None if found is None else row_of(found)


def _opened(database: Path) -> closing[Records]:
    """Another study's records, once their layout is known; closed at the end."""
    records = Records(sqlite_url(database), read_only=True)
    try:
        records.check_version()
    except BaseException:
        records.close()
        raise
    return closing(records)


def _is_whole(weights: Path) -> bool:
    try:
        return intact(weights.read_bytes()) is not False
    except OSError:
        return False


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
