"""What nas reads from others, each reader as a function of bytes: for the tests and for scripts/fuzz.

A reader may refuse with a `NasError`, and may meet what the machine refuses and `nas.cli.main` explains. Any other
exception is a fault of ours.
"""

from __future__ import annotations

import gzip
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

from nas import refined
from nas.architecture import Architecture
from nas.cli import REFUSED
from nas.data.dataset import _read
from nas.database import masked, parse_url, shown
from nas.errors import NasError
from nas.outcome import Outcome, count_of
from nas.record_file import RecordFile, read
from nas.records import Row, StudyRecord
from nas.space import load_space
from nas.study_folder import StudyFolder
from tests.fake_study import identity, rows, settings

CORPUS = Path(__file__).parent / "corpus"


def space(data: bytes) -> None:
    """A space's TOML, and a network in the middle of it."""
    found = load_space(str(_file("space.toml", data)))
    found.decode([0.5] * len(found.coordinates))
    found.identity()


def architecture(data: bytes) -> None:
    """A network's JSON; what is taken has counts, and is the same once written and read again."""
    network = Architecture.from_json(_text(data))
    assert Architecture.from_json(network.to_json()) == network
    assert network.params > 0
    assert len(network.key) == 20


def records(data: bytes) -> None:
    """What lies in a file of records, the gzip around it whole; what is taken can be shown."""
    unpacked(_file("a.csv.gz", gzip.compress(data, 1)))


def packed(data: bytes) -> None:
    """A file of records as it lies on the disk."""
    unpacked(_file("a.csv.gz", data))


def unpacked(path: Path) -> None:
    file = read(path)
    assert all(one.epochs and len(one.recipe_hash) == 64 for one in file.trainings)
    for seed in file.study_seeds:
        outcome = outcome_of(file.of_seed(seed))
        assert outcome.headline
        assert outcome.hypervolume is None or 0 <= outcome.hypervolume <= 1


def pick(data: bytes) -> None:
    """The words of `--pick`."""
    text = _text(data)
    for choose in (fake().pick, lambda said: refined.pick(fake(), [], said)):
        try:
            choose(text)
        except NasError:
            pass


def count(data: bytes) -> None:
    """A number of parameters."""
    assert 1 <= count_of(_text(data)) <= 2**53


def storage(data: bytes) -> None:
    """The URL of a database; what is shown of it holds no password."""
    url = parse_url(_text(data))
    assert shown(url)
    assert parse_url(masked(url)).password in (None, "***")


def study(data: bytes) -> None:
    """A study's name: its folder lies in the folder of studies, under one name."""
    folder = StudyFolder(Path("/studies"), _text(data))
    assert folder.path.resolve().parent == Path("/studies")
    assert parse_url(folder.url).database == str(folder.database)


def dataset(data: bytes) -> None:
    """What `--dataset` takes, but for what lies elsewhere on this disk or is downloaded."""
    text = _text(data).replace("/", "_")
    if text.startswith("folder:"):
        _read(text, (3, 8, 8), False, None, 1 << 20)


READERS: dict[str, Callable[[bytes], None]] = {
    "space": space,
    "architecture": architecture,
    "records": records,
    "packed": packed,
    "pick": pick,
    "count": count,
    "storage": storage,
    "study": study,
    "dataset": dataset,
}


def fault(reader: str, data: bytes) -> str | None:
    """What went wrong, with where; None where the reader took it, or refused it as it may."""
    try:
        taken(reader, data)
    except Exception:
        return traceback.format_exc()
    return None


def taken(reader: str, data: bytes) -> bool:
    """Whether the reader took it; False where it refused as it may. Anything else passes through."""
    try:
        READERS[reader](data)
    except NasError:
        return False
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return False
    return True


def outcome_of(file: RecordFile) -> Outcome:
    """A file's study as `nas front` sees it."""
    study = StudyRecord(1, file.name, dict(file.identity), dict(file.settings), False)
    return Outcome.of(study, [row for _, row in file.rows])


@cache
def fake() -> Outcome:
    found: list[Row] = rows(20)
    return Outcome.of(StudyRecord(1, "fake", identity(), settings("fake"), False), found)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # gone with the process


def _file(name: str, data: bytes) -> Path:
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")  # as the words of a command line come
