"""The sealed test images: every reading of them on record, what it found, and how often that was, over all studies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from nas.context import canonical
from nas.database import sqlite_url
from nas.errors import StudyError
from nas.records import Records
from nas.tables import study_table, test_reading_table


@dataclass(frozen=True)
class Reading:
    """One network's answers on all test images, taken once.

    Args:
        trial: the study's, whose network this is.
        key: the network's.
        dataset: digest of all image content of the data, as in a study's identity.
        weights: what was read, for a person: ``search``, or ``refined, 60 epochs, replicate 2``.
        weights_sha256: of their file.
        confusion: images by true class (rows) and answer (columns), in the order of the study's classes.
        command: as it was given.
        read_at: UTC; the networks of one pass over the images have the same.
        versions: of nas, python, torch and so on.
    """

    trial: int
    key: str
    dataset: str
    weights: str
    weights_sha256: str
    confusion: tuple[tuple[int, ...], ...]
    command: str | None
    read_at: datetime
    versions: Mapping[str, str] | None = None

    @cached_property
    def class_images(self) -> tuple[int, ...]:
        """Test images of each class."""
        return tuple(map(sum, self.confusion))

    @cached_property
    def class_correct(self) -> tuple[int, ...]:
        """Those of them that are right."""
        return tuple(row[label] for label, row in enumerate(self.confusion))

    @property
    def images(self) -> int:
        """All test images."""
        return sum(self.class_images)

    @property
    def correct(self) -> int:
        """Those that are right."""
        return sum(self.class_correct)

    @property
    def accuracy(self) -> float:
        """Part of the images that are right, 0..1."""
        return self.correct / self.images

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.correct, self.images)

    @cached_property
    def balanced_accuracy(self) -> float:
        """Mean over the classes with images of the part of their images that is right, 0..1."""
        recalls = [right / images for right, images in self._classes]
        return math.fsum(recalls) / len(recalls)

    @cached_property
    def balanced_interval(self) -> tuple[float, float]:
        """95 % interval of the balanced accuracy, from Wilson's of each class.

        Distances to each class's limits add as variances do: Zou and Donner's method for a linear combination of
        independent estimates (doi.org/10.1002/sim.3095). A bootstrap would have no width where all answers are right.
        """
        below = above = 0.0
        for right, images in self._classes:
            low, high = wilson(right, images)
            below += (right / images - low) ** 2
            above += (high - right / images) ** 2
        centre, n = self.balanced_accuracy, len(self._classes)
        return max(0.0, centre - math.sqrt(below) / n), min(1.0, centre + math.sqrt(above) / n)

    @property
    def _classes(self) -> list[tuple[int, int]]:
        return [pair for pair in zip(self.class_correct, self.class_images, strict=True) if pair[1]]


def wilson(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a part, without correction for continuity.

    Args:
        right: 0..images.
        images: at least 1.
    """
    from scipy.stats import binomtest  # slow to load, and no command that only counts needs it

    low, high = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def add(records: Records, study: int, readings: Sequence[Reading]) -> None:
    """Write readings of the study with this number: all, or none.

    Raises:
        StudyError: the database is out of reach, read-only or full.
    """
    lines = [
        {
            "study": study,
            "trial": reading.trial,
            "key": reading.key,
            "dataset": reading.dataset,
            "weights": reading.weights,
            "weights_sha256": reading.weights_sha256,
            "images": reading.images,
            "correct": reading.correct,
            "confusion": canonical([list(row) for row in reading.confusion]),
            "command": reading.command,
            "read_at": reading.read_at.timestamp(),
            "versions": None if reading.versions is None else canonical(dict(reading.versions)),
        }
        for reading in readings
    ]
    with records.writing() as connection:
        connection.execute(test_reading_table.insert(), lines)


def readings(records: Records, study: int) -> list[Reading]:
    """The readings for the study with this number, in the order of time; a database of an older layout has none."""
    with records.reading() as connection:
        return [reading for _, reading in _read(connection, test_reading_table.c.study == study)]


@dataclass(frozen=True, slots=True)
class Seal:
    """How often the test images of some data were read, by all studies that could be looked into.

    Args:
        readings: the study's name and the reading, in the order of time.
        unknown: databases that could not be read: damaged, or of a newer nas.
    """

    readings: tuple[tuple[str, Reading], ...]
    unknown: tuple[Path, ...] = ()

    @property
    def times(self) -> int:
        """Passes over the images: one `nas test` is one, however many networks it names."""
        return len({(study, reading.read_at) for study, reading in self.readings})

    @property
    def words(self) -> str:
        """One line for a person, without a full stop: how often, for how many networks, by which studies."""
        if not self.readings:
            said = "never read"
        else:
            passes: dict[str, set[datetime]] = {}
            for study, reading in self.readings:
                passes.setdefault(study, set()).add(reading.read_at)
            by = ", ".join(f"{study} ({_times(len(moments))})" for study, moments in passes.items())
            networks = len({reading.weights_sha256 for _, reading in self.readings})
            said = f"read {_times(self.times)}, for {networks} trained network{'s' * (networks != 1)}, by {by}"
        if self.unknown:
            said += f"; not counted, because they cannot be read: {', '.join(map(str, self.unknown))}"
        return said


def look(studies_dir: Path, records: Records, dataset: str) -> Seal:
    """Who read the test images of some data: every study in `studies_dir` and in the given records.

    A study that lies in several places, as a copied folder does, counts once.

    Args:
        studies_dir: the folder that holds all studies; each ``study.db`` is only read.
        records: of the own study, where it may be kept elsewhere.
        dataset: digest of the images, as in a study's identity.

    Raises:
        StudyError: the own records are out of reach.
    """
    mine = test_reading_table.c.dataset == dataset
    with records.reading() as connection:
        found = _read(connection, mine)
    unknown = []
    for database in sorted(studies_dir.glob("*/study.db")):
        try:
            with closing(Records(sqlite_url(database), read_only=True)) as other:
                other.check_version()
                with other.reading() as connection:
                    found += _read(connection, mine)
        except StudyError:
            unknown.append(database)
    once: dict[tuple[datetime, str, str], tuple[str, Reading]] = {}
    for study, reading in found:
        once.setdefault((reading.read_at, reading.key, reading.weights_sha256), (study, reading))
    return Seal(tuple(sorted(once.values(), key=lambda pair: pair[1].read_at)), tuple(unknown))


def _read(connection: Connection, which: sa.ColumnElement[bool]) -> list[tuple[str, Reading]]:
    """Names of studies and their readings, in the order of time."""
    table = test_reading_table.c
    if not sa.inspect(connection).has_table(test_reading_table.name):
        return []
    query = sa.select(study_table.c.name.label("of"), test_reading_table).join(
        study_table, study_table.c.id == table.study
    )
    lines = connection.execute(query.where(which).order_by(table.read_at, table.id)).mappings().all()
    made = []
    for line in lines:
        given = {name: line[name] for name in Reading.__dataclass_fields__}
        try:
            given["confusion"] = tuple(tuple(map(int, row)) for row in json.loads(line["confusion"]))
            given["versions"] = None if line["versions"] is None else json.loads(line["versions"])
        except (ValueError, TypeError) as error:
            raise StudyError(f"a reading of the test images is damaged ({error}); restore it from a copy") from error
        given["read_at"] = datetime.fromtimestamp(line["read_at"], UTC)
        made.append((str(line["of"]), Reading(**given)))
    return made


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
