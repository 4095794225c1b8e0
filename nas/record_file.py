"""A study's evaluations as one file that travels: gzip of a CSV, whose first line says what the study is.

The first line is ``# `` and JSON, so that ``pandas.read_csv(path, comment="#")`` reads the rest. The same records are
the same bytes, and what `write` wrote `read` takes: both hold the rows to the same checks.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from nas.architecture import Architecture
from nas.beside import beside
from nas.context import canonical
from nas.errors import StudyError, choices
from nas.files import OF_ONE_FOLDER
from nas.record_checks import at, check
from nas.records import Records, Row

FORMAT = "nas records"
NUMBER = 2
"""Of the format; a file with a higher number was written by a newer nas and is refused. The first had no confusion."""

COLUMNS = ("study_seed", *Row.__dataclass_fields__)
_INTEGERS = ("study_seed", "trial", "params", "macs", "cost", "seed", "threads")
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
    """

    name: str
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[tuple[int, Row], ...]

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
        return cls(name, study.identity, settings, ended)

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
        return replace(self, identity=identity, settings=settings, rows=tuple(r for r in self.rows if r[0] == seed))


def write(path: Path, file: RecordFile) -> None:
    """Write the file whole or not at all; an earlier one is replaced.

    Raises:
        StudyError: a row that `read` would not take back.
        OSError: `path` cannot be written; an earlier file is left as it was.
    """
    check(str(path), file.identity, file.settings, file.rows)
    header = {"format": FORMAT, "number": NUMBER, "nas": version("nas")}
    header |= {"name": file.name, "identity": file.identity, "settings": file.settings}
    lines = [f"# {canonical(header)}", ",".join(COLUMNS)]
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
    file = RecordFile(header["name"], header["identity"], header["settings"], tuple(rows))
    check(str(path), file.identity, file.settings, file.rows)
    return file


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = _parsed(line.removeprefix("# ")) if line.startswith("# ") else None
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
    if _deep(header):
        raise StudyError(f"{path}: its header is nested too deep; export it again")
    return header


def _deep(value: Any, most: int = 50) -> bool:
    """Whether JSON data has lists or objects in each other more than `most` times: Python writes no 1,000."""
    inside = [value]
    for _ in range(most):
        nested = [item.values() if isinstance(item, dict) else item for item in inside if isinstance(item, dict | list)]
        inside = [item for items in nested for item in items]
    return bool(inside)


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
        try:
            values[name] = networks.get(cell) if name == "architecture" else _READERS.get(name, str)(cell)
        except (ValueError, TypeError, OverflowError) as error:  # the last: a whole number too large for a float
            short = cell if len(cell) <= 60 else f"{cell[:57]}..."
            raise ValueError(f"{name} {short!r}: {error}") from error
    if values["architecture"] is None:  # the same network comes once for each study seed
        values["architecture"] = networks[cells["architecture"]] = Architecture.from_json(cells["architecture"])
    return values.pop("study_seed"), Row(**values)


def _integer(cell: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", cell) or int(cell) >= 2**63:
        raise ValueError("not a whole number in 0..2**63 - 1")
    return int(cell)


def _number(cell: str) -> float:
    if not re.fullmatch(r"[-+.0-9eE]+", cell):
        raise ValueError("not a number")
    return float(cell)


def _boolean(cell: str) -> bool:
    if cell not in ("true", "false"):
        raise ValueError("neither true nor false")
    return cell == "true"


def _moment(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    if moment.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return moment.astimezone(UTC)


def _points(cell: str) -> tuple[tuple[int, float, float], ...]:
    points = []
    for point in _parsed(cell):
        epoch, accuracy, loss = point
        if isinstance(epoch, bool) or not isinstance(epoch, int):
            raise ValueError("an epoch is a whole number")
        points.append((epoch, _real(accuracy), _real(loss)))
    return tuple(points)


def _matrix(cell: str) -> tuple[tuple[int, ...], ...]:
    lines = tuple(map(tuple, _parsed(cell)))
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for line in lines for n in line):
        raise ValueError("numbers of images are whole and at least 0")
    return lines


def _object(cell: str) -> dict[str, Any]:
    value = _parsed(cell)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _coordinates(cell: str) -> dict[str, float]:
    return {name: _real(value) for name, value in _object(cell).items()}


def _versions(cell: str) -> dict[str, str]:
    value = _object(cell)
    if not all(isinstance(number, str) for number in value.values()):
        raise ValueError("a version is text")
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a finite number")

    try:
        value = json.loads(text, parse_constant=refuse)
        if "\\u" in text:  # it may be half a character, which can be written nowhere; some stand for a path's bytes
            json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(("val_accuracy", "seconds"), _number),
    **dict.fromkeys(_MOMENTS, _moment),
    "killed": _boolean,
    "curve": _points,
    "confusion": _matrix,
    "stopped": _object,
    "coordinates": _coordinates,
    "versions": _versions,
}
