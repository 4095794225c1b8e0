"""The file of records: what went in comes out, the bytes are the same, and a file that lies is refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nas import record_file as module
from nas.baseline_rows import Baseline
from nas.errors import StudyError
from nas.record_checks import _STOPPED
from nas.record_file import COLUMNS, RecordFile, read, write
from nas.records import Row
from nas.references import REFERENCES
from nas.refined import Refinement
from nas.seeds import training_seed
from tests.fake_study import EPOCHS, architecture, identity, settings
from tests.fake_study import rows as fake_rows
from tests.refining import refinement
from tests.test_baseline_rows import baseline

IMAGES = 10_000


def matrix(accuracy: float) -> tuple[tuple[int, ...], ...]:
    """Answers of ten classes to `IMAGES` images: as many of them right as the accuracy says, the last ones wrong."""
    each, right = IMAGES // 10, round(accuracy * IMAGES)
    hits = [min(each, max(0, right - each * label)) for label in range(10)]
    return tuple(
        tuple(
            hits[label] if label == given else each - hits[label] if given == (label + 1) % 10 else 0
            for given in range(10)
        )
        for label in range(10)
    )


def rows(count: int = 30, seed: int = 0) -> list[Row]:
    """Of a study with this seed, with the seeds that its trainings would have had, and all that a row may say."""
    versions = {"nas": "0.1.0", "torch": "2.14.1"}
    return [
        replace(
            row,
            seed=training_seed(seed, row.key),
            coordinates={"size": (row.trial + 0.1) / count, "m1.width": 1 / (row.trial + 3)},
            versions=versions if row.trial % 3 else None,
            source="other trial 3 #7" if row.trial == 1 else None,
            confusion=matrix(row.val_accuracy or 0.0) if row.trial == 6 else None,
        )
        for row in fake_rows(count)
    ]


def record_file(count: int = 30, seeds: tuple[int, ...] = (0,)) -> RecordFile:
    several = tuple((seed, row) for seed in seeds for row in rows(count, seed))
    return RecordFile("fake", identity(), settings("fake"), several)


FILE = record_file()


def test_what_went_in_comes_out_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.csv.gz", FILE)
    found = read(tmp_path / "a.csv.gz")
    assert found == FILE
    write(tmp_path / "b.csv.gz", found)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv.gz", "b.csv.gz"}


def test_a_file_of_the_first_format_has_no_confusions(tmp_path: Path) -> None:
    def older(header: dict[str, Any], table: Table) -> None:
        header["number"] = 1
        for line in table:
            del line["confusion"]

    rewritten(tmp_path / "a.csv.gz", older)
    first, *rest = read(tmp_path / "a.csv.gz").rows[6:]
    assert first[1] == replace(FILE.rows[6][1], confusion=None)
    assert rest == list(FILE.rows[7:])


def test_balanced_accuracy_is_held_to_the_mean_over_classes(tmp_path: Path) -> None:
    lines = [[0] * 10 for _ in range(10)]
    lines[0][0], lines[1][1], lines[1][2], lines[3][3] = 90, 1, 2, 5  # plain 96 of 98, balanced (1 + 1/3 + 1) / 3
    seed, row = FILE.rows[6]
    for metric, read_as in (("accuracy", 96 / 98), ("balanced-accuracy", fmean([1, 1 / 3, 1]))):
        *curve, (epoch, _, loss) = row.curve
        other = replace(
            row,
            val_accuracy=read_as,
            curve=(*curve, (epoch, read_as, loss)),
            confusion=tuple(map(tuple, lines)),
        )
        file = replace(FILE, settings={**FILE.settings, "metric": metric}, rows=((seed, other),))
        write(tmp_path / "a.csv.gz", file)
        assert read(tmp_path / "a.csv.gz") == file
        wrong = {"accuracy": "balanced-accuracy", "balanced-accuracy": "accuracy"}[metric]
        with pytest.raises(StudyError, match="its confusion matrix says"):
            write(tmp_path / "b.csv.gz", replace(file, settings={**FILE.settings, "metric": wrong}))


def trainings() -> tuple[Baseline | Refinement, ...]:
    """A known network, a point of the line, and full trainings of that point and of a trial."""
    row, point = FILE.rows[0][1], architecture(0.9, (0.6, 0.5, 0.4))
    shape, plain = (3, 32, 32), REFERENCES["nin-cifar"]

    def beside(name: str, key: str, **changes: Any) -> Baseline:
        one = baseline(name, key=key, recipe_name="study", seed=training_seed(0, key), dataset="0", split="0")
        return replace(one, **{"confusion": None, **changes})

    nin = beside(
        "nin-cifar",
        "abc",
        params=plain.params(10),
        macs=plain.macs(10),
        input_shape=shape,
        recipe_name="published",
        val_accuracy=0.9,
        curve=((1, 0.5, 2.0), (2, 0.9, 1e-300)),
        confusion=matrix(0.9),
        started_at=datetime(2026, 5, 4, 12, 0, 0, 123, tzinfo=UTC),
        device='a "gpu", # 1',
    )
    sizes = {"params": point.params, "macs": point.macs, "architecture": point, "weights_sha256": None}
    line = beside("x 0.9", point.key, kind="line", versions=None, **sizes)
    full = [
        replace(refinement(one, 0.8, replicate), seed=training_seed(0, one.key, replicate))
        for one in (replace(row, trial=-1, key=point.key), row)
        for replicate in (1, 2)
    ]
    return nin, line, *full


def test_known_networks_and_full_trainings_come_along(tmp_path: Path) -> None:
    file = replace(FILE, trainings=trainings())
    write(tmp_path / "a.csv.gz", file)
    found = read(tmp_path / "a.csv.gz")
    assert found == file
    write(tmp_path / "b.csv.gz", found)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    again = replace(file, trainings=changed(NIN, confusion=matrix(0.9001)))  # as a GPU may read it
    write(tmp_path / "c.csv.gz", again)
    assert read(tmp_path / "c.csv.gz") == again
    assert file.words == "30 evaluations, 2 trainings of known networks, 4 trainings in full"
    lines = gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode().split("\n")
    assert json.loads(lines[0][2:])["number"] == 3
    assert [line[:9] for line in lines[1:7]] == ['# {"basel'] * 2 + ['# {"refin'] * 4
    assert lines[7].startswith("study_seed,")
    several = replace(record_file(4, (0, 1)), trainings=file.trainings[:2])
    assert several.of_seed(0).trainings == file.trainings[:2]
    assert several.of_seed(1).trainings == ()


def test_without_them_the_file_is_what_an_older_nas_reads(tmp_path: Path) -> None:
    write(tmp_path / "a.csv.gz", FILE)
    assert b'"number":2' in gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).split(b"\n")[0]


NIN, LINE, FULL = 0, 1, 2


def changed(number: int, **changes: Any) -> tuple[Baseline | Refinement, ...]:
    return tuple(replace(one, **changes) if n == number else one for n, one in enumerate(trainings()))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (changed(NIN, seed=3), "training 1: seed is 3, it should be"),
        (changed(NIN, params=3), "training 1: params is 3, it should be 1485386"),
        (changed(NIN, macs=3), "training 1: macs is 3"),
        (changed(NIN, input_shape=(3, 4, 4)), "training 1: macs is"),
        (changed(NIN, input_shape=(3, 32, 9)), r"training 1: input_shape is \(3, 32, 9\)"),
        (changed(NIN, dataset="d"), "training 1: dataset is d, it should be 0"),
        (changed(NIN, split="s"), "training 1: split is s"),
        (changed(NIN, val_accuracy=0.5), "training 1: val_accuracy is 0.5, it should be 0.9"),
        (changed(NIN, confusion=matrix(0.8)), "training 1: val_accuracy is 0.9, its confusion matrix says 0.8"),
        (changed(NIN, recipe={"epochs": 3}), "training 1: its curve ends at epoch 2, not 3"),
        (changed(NIN, recipe={"epochs": 1}), "training 1: the curve's epochs must rise from 1 to 1 at most"),
        (changed(NIN, recipe={}), "training 1: its recipe has no number of epochs"),
        (changed(NIN, recipe={"epochs": True}), "training 1: its recipe has no number of epochs"),
        (changed(NIN, kind="lines"), "training 1: unknown kind 'lines': did you mean 'line'"),
        (changed(NIN, recipe_name="own"), "training 1: unknown recipe_name 'own'"),
        (changed(NIN, seconds=-1.0), "training 1: -1.0 seconds"),
        (changed(LINE, params=3), "training 2: params is 3"),
        (changed(LINE, key="k", seed=training_seed(0, "k")), "training 2: key is k, it should be"),
        (changed(LINE, input_shape=(1, 9, 9)), "training 2: input_shape is"),
        (changed(FULL, trial=0), "training 3: trial 0 has no network"),
        (changed(FULL, key="k", seed=training_seed(0, "k", 1)), "training 3: trial -1 has no network k in this file"),
        (changed(FULL, replicate=2, seed=trainings()[3].seed), "training 4: it is there twice"),
        (trainings() + trainings()[:1], "training 7: it is there twice"),
    ],
)
def test_trainings_that_lie_are_neither_written_nor_read(
    found: tuple[Baseline | Refinement, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv.gz"
    with pytest.raises(StudyError, match=said):
        write(path, replace(FILE, trainings=found))
    with monkeypatch.context() as patch:
        patch.setattr(module, "check_trainings", lambda *given: None)
        write(path, replace(FILE, trainings=found))
    with pytest.raises(StudyError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"baseline":', '"other":', "training 1: neither a baseline nor a refinement"),
        ('{"baseline":', '[{"baseline":', "training 1: "),
        ('"key":"abc"', '"key":3', "training 1: key is not text"),
        ('"key":"abc"', r'"key":"\ud800"', "training 1: .*surrogates not allowed"),
        ('"key":"abc",', "", "training 1: field 'key' is missing"),
        ('"key":"abc"', '"key":null', "training 1: key is not text"),
        ('"key":"abc"', '"key":"abc","keys":1', "training 1: unknown field 'keys': did you mean 'key'"),
        ('"params":1485386', '"params":-1', "training 1: params '-1': not a whole number"),
        ('"params":1485386', '"params":1e999', "training 1: "),
        ('"macs":', '"macs":1.5,"macs":1.5,"m":', "training 1: unknown field 'm'"),
        ('"input_shape":[3,32,32]', '"input_shape":[3,32]', "training 1: input_shape .*not .channels, height, width"),
        ('"versions":{"nas":"0"}', '"versions":{"nas":0}', "training 1: versions .*a version is text"),
        ('"recipe":{', '"recipe":{"deep":' + "[" * 60 + "]" * 60 + ",", "training 1: neither a baseline"),
        ('"recipe":{', '"recipe":[{', "training 1: "),
        ('"epochs":2', '"epochs":1e999', "training 1: "),
        ('"number":3', '"number":2', "row 1: not CSV"),
    ],
)
def test_a_line_of_a_training_that_is_none_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    write(path, replace(FILE, trainings=trainings()))
    first, newline, rest = gzip.decompress(path.read_bytes()).decode().partition("\n")
    assert old in first + rest
    first, rest = (first, rest.replace(old, new, 1)) if old in rest else (first.replace(old, new), rest)
    path.write_bytes(gzip.compress(f"{first}{newline}{rest}".encode()))
    with pytest.raises(StudyError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_table_of_several_study_seeds(tmp_path: Path) -> None:
    table = record_file(10, (3, 1, 2))
    write(tmp_path / "a.csv.gz", table)
    found = read(tmp_path / "a.csv.gz")
    assert found == table
    assert found.study_seeds == (1, 2, 3)
    one = found.of_seed(2)
    assert one.rows == tuple((2, row) for row in rows(10, 2))
    assert (one.identity["seed"], one.settings["seed"]) == (2, 2)
    with pytest.raises(StudyError, match="no rows of study seed 4: the file has 1, 2, 3"):
        found.of_seed(4)


def test_a_study_without_rows(tmp_path: Path) -> None:
    empty = replace(FILE, rows=())
    write(tmp_path / "a.csv.gz", empty)
    assert read(tmp_path / "a.csv.gz") == empty
    assert empty.study_seeds == (0,)


def test_any_csv_reader_that_skips_comments_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "a.csv.gz", FILE)
    lines = gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode().split("\n")
    assert lines[0].startswith('# {"format":"nas records",')
    table = list(csv.DictReader(io.StringIO("\n".join(lines[1:]))))
    assert [int(row["trial"]) for row in table] == list(range(30))
    assert [row["key"] for row in table] == [row.key for _, row in FILE.rows]
    # an unquoted # would be a comment to pandas
    assert any('"other trial 3 #7"' in line for line in lines)


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
unknown = words.filter(lambda name: name not in _STOPPED)
"""Of a verdict: what a pruner writes has a kind of its own."""


@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_number_keeps_its_bits_and_every_row_its_place(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drawn: list[tuple[int, Row]] = []
    for trial, row in enumerate(data.draw(st.permutations(rows(6)))):
        length = data.draw(st.integers(1, EPOCHS))
        curve = tuple((epoch, data.draw(st.floats(0, 1)), data.draw(finite)) for epoch in range(1, length + 1))
        moment = data.draw(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1))).replace(tzinfo=UTC)
        drawn.append(
            (
                0,
                replace(
                    row,
                    trial=trial,
                    curve=curve,
                    val_accuracy=curve[-1][1],
                    state="complete" if length == EPOCHS else "failed",
                    reason=None if length == EPOCHS else data.draw(words),
                    killed=length == 1,
                    worker=data.draw(words),
                    seconds=abs(data.draw(finite)),
                    started_at=moment,
                    finished_at=moment,
                    coordinates=data.draw(st.none() | st.dictionaries(words, st.floats(0, 1))),
                    stopped=data.draw(st.none() | st.dictionaries(unknown, finite | st.integers(0, 9) | st.none())),
                    versions=data.draw(st.none() | st.dictionaries(words, words)),
                ),
            )
        )
    path = tmp_path_factory.mktemp("records") / "a.csv.gz"
    file = replace(FILE, rows=tuple(drawn))
    write(path, file)
    found = read(path)
    assert found == file
    for (_, mine), (_, theirs) in zip(file.rows, found.rows, strict=True):
        for point, other in zip(mine.curve, theirs.curve, strict=True):
            assert struct.pack("2d", *point[1:]) == struct.pack("2d", *other[1:])
        assert struct.pack("d", mine.seconds) == struct.pack("d", theirs.seconds)


Table = list[dict[str, str]]


def rewritten(path: Path, change: Callable[[dict[str, Any], Table], object]) -> None:
    """Change a good file's header and cells as another program would, past all checks of `write`."""
    write(path, FILE)
    first, _, body = gzip.decompress(path.read_bytes()).decode().partition("\n")
    header, table = json.loads(first[2:]), list(csv.DictReader(io.StringIO(body, newline="")))
    change(header, table)
    text = io.StringIO()
    columns = list(table[0])
    lines = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    lines.writeheader()
    lines.writerows(table)
    path.write_bytes(gzip.compress(f"# {json.dumps(header)}\n{text.getvalue()}".encode()))


def cell(row: int, name: str, value: str) -> Callable[[dict[str, Any], Table], object]:
    return lambda header, table: table[row].update({name: value})


def head(value: dict[str, Any], part: str = "") -> Callable[[dict[str, Any], Table], object]:
    return lambda header, table: (header[part] if part else header).update(value)


def curve(row: int, change: Callable[[list[list[float]]], object]) -> Callable[[dict[str, Any], Table], object]:
    def apply(header: dict[str, Any], table: Table) -> None:
        points = json.loads(table[row]["curve"])
        change(points)
        table[row]["curve"] = json.dumps(points)

    return apply


OTHER = FILE.rows[1][1]
PRUNED = next(number for number, (_, row) in enumerate(FILE.rows) if row.state == "pruned")
FAILED = next(number for number, (_, row) in enumerate(FILE.rows) if row.state == "failed")
BAD: dict[str, tuple[Callable[[dict[str, Any], Table], object], str]] = {
    "format": (head({"format": "other"}), "does not begin with the header of nas records"),
    "newer": (head({"number": 4}), "format 4 .* update nas"),
    "format text": (head({"number": "2"}), "format '2' .* update nas"),
    "no identity": (lambda header, table: header.pop("identity"), "header has no identity"),
    "no name": (head({"name": 3}), "header has no name"),
    "no settings": (head({"settings": []}), "header has no settings"),
    "no space": (head({"space": None}, "identity"), "header: identity.space is missing"),
    "no data": (head({"data": None}, "identity"), "header: identity.data is missing"),
    "no seed": (head({"seed": -1}, "identity"), "header: identity.seed"),
    "cost": (head({"cost": "macs"}, "settings"), "header: identity.space is missing or out of range"),
    "rule": (head({"rule": "shrinking"}, "settings"), "header: settings.rule"),
    "metric": (head({"metric": "loss"}, "settings"), "header: settings.metric"),
    "epochs": (head({"epochs": True}, "settings"), "header: settings.epochs"),
    "classes": (head({"classes": ["0"]}, "settings"), "header: settings.classes"),
    "cost range": (head({"cost_range": [9, 1]}, "settings"), "header: settings.cost_range"),
    "fewer classes": (head({"classes": ["0", "1"]}, "settings"), "row 1: number of classes is 10, it should be 2"),
    "fewer epochs": (head({"epochs": 8}, "settings"), "row 1: .*rise from 1 to 8 at most, 9 follows 8"),
    "more epochs": (head({"epochs": 10}, "settings"), "row 1: a complete one ends at epoch 10, not 9"),
    "unknown column": (lambda header, table: [row.update(test="1") for row in table], "unknown column 'test'"),
    "missing column": (lambda header, table: [row.pop("macs") for row in table], "column 'macs' is missing"),
    "key": (cell(3, "key", OTHER.key), "row 4: key is .*, it should be "),
    "network": (cell(3, "architecture", json.dumps(OTHER.architecture.to_json())), "row 4: key is "),
    "no network": (cell(3, "architecture", "{}"), "row 4: .*not a network's JSON"),
    "params": (cell(2, "params", "7"), "row 3: params is 7, it should be "),
    "macs": (cell(2, "macs", "7"), "row 3: macs is 7"),
    "row cost": (cell(2, "cost", "7"), "row 3: cost is 7"),
    "seed": (cell(2, "seed", "7"), "row 3: seed is 7"),
    "study seed": (cell(2, "study_seed", "7"), "row 3: seed is "),
    "no number": (cell(2, "params", "1_000"), "row 3: params '1_000': not a whole number"),
    "negative": (cell(2, "trial", "-1"), "row 3: trial '-1': not a whole number"),
    "too large": (cell(2, "trial", str(2**63)), "row 3: trial .*: not a whole number"),
    "empty": (cell(2, "threads", ""), "row 3: threads '': not a whole number"),
    "accuracy": (cell(2, "val_accuracy", "0.5"), "row 3: val_accuracy is 0.5, it should be"),
    "accuracy missing": (cell(2, "val_accuracy", ""), "row 3: val_accuracy is None, it should be"),
    "accuracy nan": (cell(2, "val_accuracy", "nan"), "row 3: val_accuracy 'nan': not a number"),
    "accuracy above 1": (curve(2, lambda points: points[0].__setitem__(1, 1.5)), "accuracy 1.5 at epoch 1"),
    "loss": (curve(2, lambda points: points[4].__setitem__(2, math.inf)), "row 3: curve .*Infinity is not a finite"),
    "huge loss": (cell(2, "curve", "[[1,0.5,1e999]]"), "row 3: val_accuracy is|row 3: training loss"),
    "epoch 0": (curve(2, lambda points: points[0].__setitem__(0, 0)), "row 3: .*0 follows 0"),
    "epoch twice": (curve(2, lambda points: points.insert(1, points[0])), "row 3: .*1 follows 1"),
    "epochs fall": (curve(2, lambda points: points[1].__setitem__(0, 9)), "row 3: .*3 follows 9"),
    "epoch 1.5": (curve(2, lambda points: points[1].__setitem__(0, 1.5)), "row 3: .*an epoch is a whole number"),
    "short point": (curve(2, lambda points: points[1].pop()), "row 3: curve"),
    "text point": (curve(2, lambda points: points[1].__setitem__(2, "1")), "row 3: curve .*'1' is not a number"),
    "deep": (cell(2, "curve", "[" * 100_000), "row 3: curve .*nested too deep"),
    "state": (cell(PRUNED, "state", "paused"), "unknown state 'paused'"),
    "complete with a reason": (cell(2, "reason", "why"), "row 3: a complete one has a reason"),
    "pruned without": (cell(PRUNED, "reason", ""), "a pruned one has no reason"),
    "failed without": (cell(FAILED, "reason", ""), "a failed one has no reason"),
    "failed as complete": (
        lambda header, table: table[PRUNED].update(state="complete", reason=""),
        "a complete one ends at epoch 9, not [13]",
    ),
    "pruned without a curve": (
        lambda header, table: table[PRUNED].update(curve="[]", val_accuracy=""),
        "a pruned one has a curve",
    ),
    "killed": (cell(PRUNED, "killed", "true"), "a killed one is failed, not pruned"),
    "killed how": (cell(2, "killed", "1"), "row 3: killed '1': neither true nor false"),
    "seconds": (cell(2, "seconds", "-1.0"), "row 3: -1.0 seconds"),
    "endless": (cell(2, "seconds", "1e999"), "row 3: inf seconds"),
    "when": (cell(2, "started_at", "yesterday"), "row 3: started_at 'yesterday'"),
    "where": (cell(2, "finished_at", "2026-05-04T12:00:00"), "row 3: finished_at .*not in UTC"),
    "coordinate": (cell(2, "coordinates", '{"size":1.01}'), "row 3: coordinate size is 1.01, not in 0..1"),
    "coordinates": (cell(2, "coordinates", "[1]"), "row 3: coordinates .*not a JSON object"),
    "coordinate text": (cell(2, "coordinates", '{"size":"1"}'), "row 3: coordinates .*'1' is not a number"),
    "stopped": (cell(2, "stopped", "3"), "row 3: stopped '3': not a JSON object"),
    "versions": (cell(2, "versions", '{"nas":1}'), "row 3: versions .*a version is text"),
    "confusion": (cell(6, "confusion", "[[1,0],[0,1]]"), "row 7: the confusion matrix is not 10 x 10"),
    "confusion lines": (cell(6, "confusion", json.dumps([[1] * 9] * 10)), "row 7: the confusion matrix is not 10 x 10"),
    "confusion of nothing": (cell(6, "confusion", json.dumps([[0] * 10] * 10)), "row 7: .*has no images"),
    "confusion's accuracy": (cell(6, "confusion", json.dumps([[1] * 10] * 10)), "row 7: .*confusion matrix says 0.1$"),
    "confusion text": (cell(6, "confusion", '["1"]'), "row 7: confusion .*whole and at least 0"),
    "confusion number": (cell(6, "confusion", "7"), "row 7: confusion '7'"),
    "confusion below 0": (cell(6, "confusion", "[[-1]]"), "row 7: confusion .*whole and at least 0"),
    "confusion of a pruned one": (
        cell(PRUNED, "confusion", json.dumps(matrix(0.5))),
        "a pruned one has no confusion matrix",
    ),
    "trial twice": (cell(3, "trial", "2"), "row 4: trial 2 of study seed 0 is there twice"),
    "network twice": (
        lambda header, table: table.append(table[2] | {"trial": "99"}),
        "row 31: network .* of study seed 0 ended twice",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_lies_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, said = BAD[name]
    path = tmp_path / "a.csv.gz"
    rewritten(path, change)
    with pytest.raises(StudyError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_changed_file_that_is_still_true_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    rewritten(path, lambda header, table: table.reverse())
    assert read(path).rows == FILE.rows[::-1]


def test_a_killed_network_may_be_there_again(tmp_path: Path) -> None:
    first = FILE.rows[0][1]
    killed = replace(first, trial=99, state="failed", reason="killed", killed=True, curve=(), val_accuracy=None)
    again = replace(FILE, rows=(*FILE.rows, (0, killed)))
    write(tmp_path / "a.csv.gz", again)
    assert read(tmp_path / "a.csv.gz") == again


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: raw[: len(raw) // 2], "not a whole gzip file"),
        (lambda raw: raw[:-1], "not a whole gzip file"),
        (lambda raw: raw[:400] + bytes(40) + raw[440:], "not a whole gzip file"),
        (lambda raw: raw + b"more", "not a whole gzip file"),
        (lambda raw: b"trial,key\n", "not a whole gzip file"),
        (lambda raw: b"", "does not begin with the header"),
        (lambda raw: gzip.compress(b"\xff\xfe"), "is not text"),
        (lambda raw: gzip.compress(b"# {\n"), "does not begin with the header"),
        (lambda raw: gzip.compress(gzip.decompress(raw).split(b"\n")[0]), "column 'study_seed' is missing"),
        (lambda raw: gzip.compress(gzip.decompress(raw).rstrip() + b",1\n"), "row 30: 25 cells, the header has 24"),
        (lambda raw: gzip.compress(gzip.decompress(raw).replace(b"trial,", b"trial,trial,", 1)), "is there twice"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b'0,"open'), "row 31: not CSV"),
    ],
)
def test_a_spoiled_file_is_refused_in_one_line(spoil: Callable[[bytes], bytes], said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    write(path, FILE)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(StudyError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no file"):
        read(tmp_path / "a.csv.gz")


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    write(path, FILE)
    before = path.read_bytes()
    wrong = replace(FILE.rows[0][1], seed=1)
    with pytest.raises(StudyError, match="row 1: seed is 1"):
        write(path, replace(FILE, rows=((0, wrong),)))
    assert path.read_bytes() == before
    assert len(COLUMNS) == len(Row.__dataclass_fields__) + 1
