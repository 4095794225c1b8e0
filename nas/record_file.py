"""A study's evaluations as one file that travels: gzip of a CSV, whose first line says what the study is.

The first line is ``# `` and JSON, and so is a line for each known network and each full training that is recorded
beside the evaluations, so that ``pandas.read_csv(path, comment="#")`` reads the rest. The same records are the same
bytes, and what `write` wrote `read` takes: both hold the rows to the same checks.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.architecture import Architecture
from nas.baseline_rows import Baseline, baselines
from nas.beside import beside
from nas.context import canonical
from nas.errors import StudyError, choices
from nas.files import OF_ONE_FOLDER
from nas.record_cells import deep, parsed, value_of
from nas.record_checks import at, check
from nas.record_trainings import check_trainings, line_of, read_lines
from nas.records import Records, Row
from nas.refined import Refinement, refinements

FORMAT = "nas records"
NUMBER = 3
"""Of the format; a file with a higher number was written by a newer nas and is refused. The first had no confusion, the
second no trainings beside evaluations: where there are none it still is what is written, and an older nas reads it."""

COLUMNS = ("study_seed", *Row.__dataclass_fields__)
_JSON = ("stopped", "coordinates", "versions")
_MOMENTS = ("started_at", "finished_at")
_OPTIONAL = ("reason", "source", "val_accuracy", "confusion", *_JSON)
_LONGEST_CELL = 100_000_000
_LARGEST = 2**29
"""Bytes of an unpacked file: 10,000 trials with confusion matrices of a hundred classes have half of that. A file of a
few KB can unpack to many GB."""


@dataclass(frozen=True, slots=True)
class RecordFile:
    """What a file holds.

    Args:
        name: the study's.
        identity, settings: as its records keep them.
        rows: (study seed, evaluation); a table of a benchmark has the same networks under several seeds.
        trainings: known networks and full trainings of the identity's seed, in the order of their records.
    """

    name: str
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[tuple[int, Row], ...]
    trainings: tuple[Baseline | Refinement, ...] = ()

    @classmethod
    def of_study(cls, records: Records, name: str) -> RecordFile:
        """What a study's records hold, but for paused trials: they have not ended, and their training stays behind.

        Raises:
            StudyError: there is no such study, or its database is out of reach.
        """
        study = records.study(name)
        seed = int(study.identity.get("seed", 0))
        ended = tuple((seed, row) for row in records.rows(name, confusions=True) if row.state != "paused")
        settings = {name: value for name, value in study.settings.items() if name not in OF_ONE_FOLDER}
        trainings: tuple[Baseline | Refinement, ...] = (
            *baselines(records, study.id),
            *refinements(records, study.id),
        )
        return cls(name, study.identity, settings, ended, trainings)

    @property
    def study_seeds(self) -> tuple[int, ...]:
        """The different seeds, rising; the identity's where there are no rows."""
        return tuple(sorted({seed for seed, _ in self.rows} or {self.identity["seed"]}))

    def of_seed(self, seed: int) -> RecordFile:
        """The study of one seed alone.

        Raises:
            StudyError: the file has no rows of it.
        """
        if seed not in self.study_seeds:
            raise StudyError(f"no rows of study seed {seed}: the file has {', '.join(map(str, self.study_seeds))}")
        identity, settings = {**self.identity, "seed": seed}, {**self.settings, "seed": seed}
        rows = tuple(row for row in self.rows if row[0] == seed)
        trainings = self.trainings if seed == self.identity["seed"] else ()
        return replace(self, identity=identity, settings=settings, rows=rows, trainings=trainings)

    @property
    def words(self) -> str:
        """How much it holds, for a person."""
        known = sum(isinstance(one, Baseline) for one in self.trainings)
        counts = (known, "of known networks"), (len(self.trainings) - known, "in full")
        each = [f"{count:,} training{'s' * (count != 1)} {what}" for count, what in counts if count]
        return ", ".join([f"{len(self.rows):,} evaluations", *each])


def write(path: Path, file: RecordFile) -> None:
    """Write the file whole or not at all; an earlier one is replaced.

    Raises:
        StudyError: a row that `read` would not take back.
        OSError: `path` cannot be written; an earlier file is left as it was.
    """
    check(str(path), file.identity, file.settings, file.rows)
    check_trainings(str(path), file.identity, file.settings, file.rows, file.trainings)
    header = {"format": FORMAT, "number": NUMBER if file.trainings else NUMBER - 1, "nas": version("nas")}
    header |= {"name": file.name, "identity": file.identity, "settings": file.settings}
    lines = [f"# {canonical(header)}", *map(line_of, file.trainings), ",".join(COLUMNS)]
    lines += [",".join(map(_quoted, _cells(seed, row))) for seed, row in file.rows]
    buffer = io.BytesIO()
    content = ("\n".join(lines) + "\n").encode()
    if len(content) > _LARGEST:
        raise StudyError(f"{path}: {len(content):,} bytes of records; `nas records import` takes {_LARGEST:,} at most")
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as packed:
        packed.write(content)
    with beside(path) as aside:
        aside.write_bytes(buffer.getvalue())
        aside.replace(path)


def read(path: Path) -> RecordFile:
    """Read what `write` wrote, every row checked: counts and keys are computed again.

    Raises:
        StudyError: the file is missing, cut off, of another kind, or a row contradicts itself or another; the line
            names the file, the row, counted from 1, and what is wrong.
    """
    try:
        with gzip.open(path) as packed:
            content = packed.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise StudyError(
                f"{path} unpacks to more than {_LARGEST:,} bytes and is not read: it is no file of records"
            )
        text = content.decode()
        del content
    except FileNotFoundError as error:
        raise StudyError(f"there is no file {str(path)!r}; `nas records export` writes one") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise StudyError(f"{path} is not a whole gzip file ({error}); copy or download it again") from error
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not text ({error.reason}); copy or download it again") from error
    first, _, body = text.partition("\n")
    header = _header(path, first)
    beside, body = _comments(body) if header["number"] > 2 else ([], body)
    trainings = read_lines(str(path), beside)
    networks: dict[str, Architecture] = {}
    rows: list[tuple[int, Row]] = []
    longest = csv.field_size_limit(_LONGEST_CELL)
    try:
        lines = csv.reader(io.StringIO(body, newline=""), strict=True)
        columns = next(lines, [])
        _compare_columns(path, columns, [name for name in COLUMNS if name != "confusion" or header["number"] > 1])
        for number, cells in enumerate(lines, start=1):
            with at(f"{path}, row {number}"):
                if len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} cells, the header has {len(columns)} columns")
                rows.append(_row(dict(zip(columns, cells, strict=True)), networks))
    except csv.Error as error:
        raise StudyError(f"{path}, row {len(rows) + 1}: not CSV ({error})") from error
    finally:
        csv.field_size_limit(longest)
    file = RecordFile(header["name"], header["identity"], header["settings"], tuple(rows), trainings)
    check(str(path), file.identity, file.settings, file.rows)
    check_trainings(str(path), file.identity, file.settings, file.rows, file.trainings)
    return file


def _comments(body: str) -> tuple[list[str], str]:
    """The lines before the table, and the table."""
    lines, start = list[str](), 0
    while body.startswith("# ", start):
        end = body.find("\n", start)
        end = len(body) if end < 0 else end
        lines.append(body[start:end])
        start = end + 1
    return lines, body[start:]


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = parsed(line.removeprefix("# ")) if line.startswith("# ") else None
        canonical(header)  # a number beyond floats could be read, and not written
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StudyError(f"{path} does not begin with the header of {FORMAT}; `nas records export` writes such files")
    number = header.get("number")
    if number not in range(1, NUMBER + 1):
        raise StudyError(f"{path} has format {number!r} of {FORMAT}, this nas reads up to {NUMBER}; update nas")
    for name, kind in (("name", str), ("identity", dict), ("settings", dict)):
        if not isinstance(header.get(name), kind):
            raise StudyError(f"{path}: its header has no {name}; export it again")
    if deep(header):
        raise StudyError(f"{path}: its header is nested too deep; export it again")
    return header


def _compare_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    for column in columns:
        if column not in wanted:
            raise StudyError(f"{path}: {choices('column', column, wanted)}")
    missing = [column for column in wanted if column not in columns]
    if missing or len(columns) != len(wanted):
        raise StudyError(f"{path}: " + (f"column {missing[0]!r} is missing" if missing else "a column is there twice"))


def _cells(study_seed: int, row: Row) -> Iterator[str]:
    yield str(study_seed)
    for name in Row.__dataclass_fields__:
        value = getattr(row, name)
        if value is None:
            yield ""
        elif name == "architecture":
            yield canonical(value.to_json())
        elif name == "curve":
            yield canonical([[int(epoch), float(accuracy), float(loss)] for epoch, accuracy, loss in value])
        elif name == "confusion":
            yield canonical([list(line) for line in value])
        elif name == "coordinates":
            yield canonical({coordinate: float(number) for coordinate, number in value.items()})
        elif name in _JSON:
            yield canonical(dict(value))
        elif name in _MOMENTS:
            yield value.astimezone(UTC).isoformat()
        elif name in ("val_accuracy", "seconds"):
            yield repr(float(value))
        elif name == "killed":
            yield "true" if value else "false"
        else:
            yield str(value)


def _quoted(cell: str) -> str:
    # pandas takes an unquoted "#" anywhere in a line for a comment
    return '"' + cell.replace('"', '""') + '"' if re.search(r'[",#\r\n]|^\s|\s$', cell) else cell


def _row(cells: dict[str, str], networks: dict[str, Architecture]) -> tuple[int, Row]:
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if cell == "" and name in _OPTIONAL:
            values[name] = None
            continue
        values[name] = networks.get(cell) if name == "architecture" else value_of(name, cell)
    if values["architecture"] is None:  # the same network comes once for each study seed
        values["architecture"] = networks[cells["architecture"]] = Architecture.from_json(cells["architecture"])
    return values.pop("study_seed"), Row(**values)
