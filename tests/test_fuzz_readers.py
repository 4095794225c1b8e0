"""Whatever lies in a file or stands in an option: a reader takes it, or refuses it in words."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas import record_file
from nas.architecture import Architecture
from nas.database import masked, parse_url, sqlite_url
from nas.errors import ArchitectureError, SpaceError, StudyError
from nas.space import list_spaces, load_space
from nas.space_file import parse_space
from tests import fuzzing
from tests.fuzzing import CORPUS, READERS, fault, taken

# The same examples every time: a new finding belongs into the corpus or beside the examples, not into a red build.
some = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(max_examples=60, deadline=None, derandomize=True)

NUMBERS = st.sampled_from([0, -1, 1, 3, 2**31, 2**53 + 1, 2**63, 10**400, -0.0, 0.5, 1e-320, 1e308, float("inf")])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
DEEP = "[" * 100_000 + "]" * 100_000
ARCHITECTURE: dict[str, Any] = json.loads((CORPUS / "architecture" / "three-modules").read_text())
RECORDS = (CORPUS / "records" / "four-rows").read_text()
TRAININGS = (CORPUS / "records" / "trainings").read_text()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once(path: Path) -> None:
    assert fault(path.parent.name, path.read_bytes()) is None


def test_the_corpus_is_small_and_has_something_for_each_reader() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(READERS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 30_000
    whole = {path.parent.name for path in CORPUS.glob("*/*") if taken(path.parent.name, path.read_bytes())}
    assert whole == set(READERS) - {"dataset"}  # where fuzzing begins is whole; no folder of images is among it


@pytest.mark.parametrize("reader", sorted(READERS))
@few
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(reader: str, data: bytes) -> None:
    assert fault(reader, data) is None


@some
@given(st.data())
def test_a_network_with_one_value_changed(data: st.DataObject) -> None:
    assert fault("architecture", json.dumps(_changed(ARCHITECTURE, data)).encode()) is None


@pytest.mark.parametrize(
    "text", [DEEP, "1" * 5000, '{"stages":' + DEEP + "}", "null", "[]", '"a"', '[["stages", 1]]', "\ud800", ""]
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_json(text)


@pytest.mark.parametrize("auxiliary", [[True], [1.0], [False, 1], ["1"], [None], [[1]], [-1], [1, 1]])
def test_auxiliary_heads_are_whole_numbers(auxiliary: list[Any]) -> None:
    # true equals 1 in Python: the network would equal another and have a key of its own
    with pytest.raises(ArchitectureError):
        Architecture.from_json(ARCHITECTURE | {"auxiliary": auxiliary})


@few
@given(st.data())
def test_a_space_with_lines_dropped_swapped_or_changed(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list_spaces()))
    lines = load_space(name).toml.splitlines()
    assert fault("space", "\n".join(_mutated(lines, data)).encode()) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("step = 2", "step = " + "1" * 5000, "not a TOML file: a whole number beyond 64 bits"),
        ("step = 2", "step = 0x" + "f" * 5000, "not a TOML file: a whole number beyond 64 bits"),
        ("channels = 8", f"channels = {2**63 - 1}", "network.stem.0: channels must be at most 65536, got 9223372036"),
        ("channels = 8", "channels = true", "network.stem.0: stem convolution's channels must be a whole number"),
        ("step = 2", "step = 2\nx = " + DEEP, "not a TOML file: nested too deeply"),
    ],
)
def test_numbers_beyond_all_networks(old: str, new: str, said: str) -> None:
    text = load_space("tiny").toml
    assert old in text
    with pytest.raises(SpaceError) as caught:
        parse_space(text.replace(old, new), "a.toml")
    assert str(caught.value).startswith(f"a.toml: {said}")


@some
@given(st.data())
def test_records_with_lines_dropped_swapped_or_changed(data: st.DataObject) -> None:
    assert fault("records", "\n".join(_mutated(RECORDS.split("\n"), data)).encode("utf-8", "surrogatepass")) is None


@some
@given(st.data())
def test_records_whose_header_says_something_else(data: st.DataObject) -> None:
    first, newline, rest = RECORDS.partition("\n")
    header = json.loads(first.removeprefix("# "))
    rows = data.draw(st.sampled_from([rest, rest.partition("\n")[0]]))
    assert fault("records", f"# {json.dumps(_changed(header, data))}{newline}{rows}".encode()) is None


@some
@given(st.data())
def test_a_training_with_one_value_changed(data: st.DataObject) -> None:
    header, *lines = TRAININGS.split("\n")
    number = data.draw(st.integers(0, 3))
    lines[number] = f"# {json.dumps(_changed(json.loads(lines[number].removeprefix('# ')), data))}"
    assert fault("records", "\n".join([header, *lines]).encode("utf-8", "surrogatepass")) is None


@few
@given(st.data())
def test_a_packed_file_cut_off_or_with_a_bit_flipped(data: st.DataObject) -> None:
    raw = bytearray((CORPUS / "packed" / "four-rows").read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[place:]
    else:
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
    assert fault("packed", bytes(raw)) is None


HEADERS: dict[str, tuple[str, Any, str]] = {
    "half a character": ("settings.hardware", "\ud800", "does not begin with the header"),
    "a class of bytes": ("settings.classes", ["\udcff"] * 10, "header: settings.classes is missing or out of range"),
    "deep": ("settings.options", json.loads("[" * 60 + "]" * 60), "its header is nested too deep"),
    "a seed of many digits": ("identity.seed", 10**30, "header: identity.seed is missing or out of range"),
    "epochs of many digits": ("settings.epochs", 10**400, "header: settings.epochs is missing or out of range"),
    "three costs": ("settings.cost_range", [1, 2, 3], "header: settings.cost_range is missing or out of range"),
    "costs beyond floats": ("settings.cost_range", [1, 10**400], "header: settings.cost_range is missing"),
    "input": ("identity.space.input", [1, 8], "header: identity.space.input is missing or out of range"),
    "recipe": ("identity.space.recipe", [1], "header: identity.space.recipe is of another kind"),
    "images": ("identity.data.images", 3, "header: identity.data is missing or out of range"),
    "dataset": ("settings.dataset", 3, "header: settings.dataset is of another kind"),
    "versions": ("settings.versions", {"torch": 2}, "header: settings.versions is of another kind"),
    "mean": ("settings.mean", [10**400], "header: settings.mean is of another kind"),
    "created at": ("settings.created_at", "2026-05-04", "header: settings.created_at is of another kind"),
    "warm start": ("settings.warm_start", ["a"], "header: settings.warm_start is of another kind"),
    "skip broken": ("settings.skip_broken", "no", "header: settings.skip_broken is of another kind"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_a_report_could_not_show(case: str, tmp_path: Path) -> None:
    place, value, said = HEADERS[case]
    first, _, rest = RECORDS.partition("\n")
    header = json.loads(first.removeprefix("# "))
    *tables, name = place.split(".")
    inside = header
    for table in tables:
        inside = inside[table]
    inside[name] = value
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(f"# {json.dumps(header)}\n{rest}".encode()))
    with pytest.raises(StudyError, match=said):
        record_file.read(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('""size"":0.', '""size"":1' + "0" * 400 + ".", "not in 0..1"),
        ("[[1,0.", "[[1,1" + "0" * 400 + ",0.", "row 1: curve"),
        ("2026-05-04T12:00:00+00:00,2026", "0001-01-01T00:00:00+00:00,2026", "row 1: it began 0001-01-01"),
        ("[[1,0.", "[[1,1" + "0" * 400 + ",1],[2,0.", "row 1: curve"),
    ],
)
def test_a_row_that_no_database_takes(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in RECORDS
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(RECORDS.replace(old, new, 1).encode()))
    with pytest.raises(StudyError, match=said):
        record_file.read(path)


def test_a_few_kilobytes_that_unpack_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"".join(pack.compress(b"\0" * 2**20) for _ in range(64)) + pack.flush())
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(record_file, "_LARGEST", 2**20)  # the limit itself would take seconds and half a GB
    with pytest.raises(StudyError, match=r"unpacks to more than 1,048,576 bytes and is not read"):
        record_file.read(path)
    monkeypatch.setattr(record_file, "_LARGEST", 1000)
    found = record_file.RecordFile("a", *_file_of(RECORDS))
    with pytest.raises(StudyError, match=r"bytes of records; `nas records import` takes 1,000 at most"):
        record_file.write(tmp_path / "b.csv.gz", found)
    assert not (tmp_path / "b.csv.gz").exists()


@some
@given(st.text(st.characters(codec=None), max_size=40))
@example("trial:" + "9" * 5000)
@example("trial:٣")
@example("under:nan")
@example("under:1e999")
@example("under:0.0k")
@example("smallest:nan")
@example("smallest:-0.0")
@example("smallest:1e-400")
@example("best:best")
@example("under:" + "9" * 5000 + "k")
def test_any_pick(text: str) -> None:
    assert fault("pick", text.encode("utf-8", "surrogatepass")) is None
    for word in ("trial", "under", "smallest"):
        assert fault("pick", f"{word}:{text}".encode("utf-8", "surrogatepass")) is None


@some
@given(st.text(max_size=20) | st.from_regex(r"[0-9_,. ]{0,12}[kKmM]?", fullmatch=True))
@example("1e5k")
@example("-1")
@example("inf")
@example("٣k")
@example("0.0000001k")
@example("1" * 5000)
def test_any_count(text: str) -> None:
    assert fault("count", text.encode("utf-8", "surrogatepass")) is None


URL = st.builds(
    "{}://{}{}{}/{}{}".format,
    st.sampled_from(["sqlite", "postgresql", "postgresql+psycopg", "mysql", "", "a+b"]),
    st.sampled_from(["", "u@", "u:p@", ":p@", "u:p:q@", "u:p@q@", "%00:%ff@"]),
    st.sampled_from(["", "host", "[::1]", "[", "host:", "\ud800"]),
    st.sampled_from(["", ":5432", ":", ":x", ":-1", ":99999999999999999999", ":٣"]),
    st.text(max_size=8) | st.sampled_from(["%2f..%2f", "a\0b", "\ud800"]),
    st.sampled_from(["", "?", "?password=p", "?PASSWORD=p&sslpassword=p&a=b", "?a=b&a=c", "?=", "?%", "?\ud800"]),
)


@some
@given(URL)
@example("postgresql://u:p@host:port/name")
@example("sqlite:///\udcff/study.db")
def test_any_storage(url: str) -> None:
    assert fault("storage", url.encode("utf-8", "surrogatepass")) is None


def test_a_password_among_the_options_of_a_url_is_never_shown() -> None:
    url = parse_url("postgresql+psycopg://u:one%40@host/name?password=two&sslpassword=three&sslmode=require")
    assert masked(url) == "postgresql+psycopg://u:***@host/name?sslmode=require"


@some
@given(st.text(st.characters(codec=None), max_size=120))
@example("é" * 100)
@example("\U0001d518" * 100)
@example("CON")
@example("nul.db")
@example("..")
@example("a/../../b")
@example("-x")
@example(" a")
@example("a.")
@example("a\n")
@example("a\0")
def test_any_name_of_a_study(name: str) -> None:
    assert fault("study", name.encode("utf-8", "surrogatepass")) is None


def test_a_name_longer_than_a_folder_may_have() -> None:
    assert taken("study", ("a" + "é" * 99).encode())
    with pytest.raises(StudyError, match=r"400 bytes in UTF-8 are more than the 255 that a folder's name may have"):
        fuzzing.study(("\U0001d518" * 100).encode())


@pytest.mark.parametrize(
    "name", ["a?b", "a?mode=memory", "100%41", "a%2f..%2fb", "a#b", "a&b=c@d:e", "a b", "é", "a+b"]
)
def test_the_database_of_a_folder_is_in_that_folder(name: str, tmp_path: Path) -> None:
    """Once a question mark ended the path, and a per cent sign in it stood for another character."""
    path = tmp_path / name / "study.db"
    try:
        assert parse_url(sqlite_url(path)).database == str(path)
    except StudyError as error:  # an SQLAlchemy before 2.1 writes no such path
        assert "cannot be named in a database's URL" in str(error)  # noqa: PT017


@some
@given(st.text(st.characters(codec=None), max_size=40))
@example("folder:~nobody-of-this-name/photos")
@example("folder:" + "a" * 300)
@example("folder:a\0b")
@example("folder:\ud800")
@example("folder:")
@example("digits:")
def test_any_dataset(spec: str) -> None:
    assert fault("dataset", spec.encode("utf-8", "surrogatepass")) is None
    assert fault("dataset", f"folder:{spec}".encode("utf-8", "surrogatepass")) is None


def _changed(value: Any, data: st.DataObject) -> Any:
    """JSON data with one of the values in it, at any depth, replaced or left out."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 9)):
        copy: Any = value.copy()
        place = data.draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
        if data.draw(st.integers(0, 9)):
            copy[place] = _changed(copy[place], data)
        else:
            del copy[place]
        return copy
    return data.draw(JSON)


def _mutated(lines: list[str], data: st.DataObject) -> list[str]:
    """Lines of which one is dropped, doubled or swapped with another, or a number or word in it replaced."""
    lines = lines.copy()
    one, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["drop", "double", "swap", "cut", "replace"])):
        case "drop":
            del lines[one]
        case "double":
            lines.insert(other, lines[one])
        case "swap":
            lines[one], lines[other] = lines[other], lines[one]
        case "cut":
            lines[one] = lines[one][: data.draw(st.integers(0, len(lines[one])))]
        case "replace":
            start = data.draw(st.integers(0, len(lines[one])))
            end = data.draw(st.integers(start, min(len(lines[one]), start + 12)))
            lines[one] = lines[one][:start] + str(data.draw(NUMBERS | st.text(max_size=6))) + lines[one][end:]
    return lines


def _file_of(text: str) -> Any:
    header = json.loads(text.partition("\n")[0].removeprefix("# "))
    return header["identity"], header["settings"], ()
