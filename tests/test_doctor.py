"""`nas doctor`: says what of a study is whole, and mends what one side of it still knows."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.checksums import packed, summed
from nas.cli import main
from nas.doctor import Repaired, examine, files, repair
from nas.doctor.findings import Finding
from nas.errors import StudyError
from nas.pareto import front
from nas.record_file import RecordFile
from nas.records import Records, Row
from nas.refined import add_refinement
from nas.search.liveness import Worker
from nas.search.restore import restore
from nas.seeds import training_seed
from nas.study_folder import StudyFolder
from tests.fake_study import identity, rows, settings
from tests.refining import refinement
from tests.searches import ended, running, search, wait_for
from tests.servers import postgresql
from tests.test_damage import flipped

COUNT = 12
OLD = 10**9


def evaluations() -> list[Row]:
    return [
        replace(row, seed=training_seed(0, row.key), coordinates={"a": row.trial / COUNT, "b": 0.5})
        for row in rows(COUNT, hostile=False)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study with weights of its front; tests take copies."""
    studies = tmp_path_factory.mktemp("made")
    folder = StudyFolder(studies, "s")
    file = RecordFile("s", identity(), settings("s"), tuple((0, row) for row in evaluations()))
    restore(file, folder)
    for row in of_front():
        folder.weights(row.key).parent.mkdir(exist_ok=True)
        folder.weights(row.key).write_bytes(packed({"w": torch.ones(50)}))
    with closing(sqlite3.connect(folder.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return studies


def of_front() -> list[Row]:
    complete = [row for row in evaluations() if row.state == "complete"]
    on_front = front([row.cost for row in complete], [row.val_accuracy or 0 for row in complete])
    return [complete[index] for index in on_front]


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> StudyFolder:
    shutil.copytree(made / "s", tmp_path / "studies" / "s")
    return StudyFolder(tmp_path / "studies", "s")


def changed(folder: StudyFolder, *statements: str) -> None:
    """As a program that knows nothing of nas, or a bad disk, would change the database."""
    with closing(sqlite3.connect(folder.database)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement


def problems(found: tuple[Finding, ...]) -> list[str]:
    return [problem.words for finding in found for problem in finding.problems]


def notes(found: tuple[Finding, ...]) -> str:
    return "\n".join(note for finding in found for note in finding.notes)


def recorded(folder: StudyFolder) -> list[Row]:
    with closing(Records(folder.url)) as records:
        return records.rows("s", confusions=True)


def test_a_whole_study_is_whole_and_is_only_looked_at(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert main(["doctor", "s", "--studies-dir", str(folder.studies_dir)]) == 0
    said = capsys.readouterr().out
    assert "Study s is whole." in said
    assert f"{COUNT} evaluations" in said
    assert f"{len(of_front())} of the front's {len(of_front())} as written" in said
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path in before} == before


COMPLETE = next(row.trial for row in evaluations() if row.state == "complete")
ID = f"(SELECT trial_id FROM trials WHERE number = {COMPLETE})"
LOSE_TRIAL = [
    *(
        f"DELETE FROM trial_{table} WHERE trial_id = {ID}"
        for table in ("values", "intermediate_values", "params", "user_attributes")
    ),
    f"DELETE FROM trials WHERE number = {COMPLETE}",
]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE nas_evaluation SET val_accuracy = 0.999"], "val_accuracy is 0.999, it should be"),
        (["UPDATE nas_evaluation SET params = params + 4096"], "params is"),
        (["UPDATE nas_evaluation SET seed = seed + 1"], "seed is"),
        (["UPDATE nas_evaluation SET architecture = replace(architecture, '1', '2')"], "its record"),
        (["UPDATE nas_evaluation SET curve = replace(curve, '[', '{')"], "cannot be read"),
        (["UPDATE nas_evaluation SET dataset = 'other'"], "dataset is other"),
        ([f"UPDATE nas_evaluation SET state = 'compldte' WHERE trial = {COMPLETE}"], "unknown state 'compldte'"),
        ([f"UPDATE nas_evaluation SET curve = CAST(x'ff' AS TEXT) WHERE trial = {COMPLETE}"], "no text any more"),
        ([f"DELETE FROM nas_evaluation WHERE trial = {COMPLETE}"], "it is not recorded"),
        (["DELETE FROM nas_evaluation"], "it is not recorded"),
        ([f"UPDATE nas_evaluation SET trial = 1048580 WHERE trial = {COMPLETE}"], "recorded as trial 1048580"),
        (LOSE_TRIAL, "not among Optuna's trials"),
        (["DELETE FROM study_directions", "UPDATE studies SET study_name = 't'"], "no study of this name"),
        ([f"UPDATE trial_values SET value = value + 1 WHERE trial_id = {ID}"], "Optuna differ in"),
        ([f"UPDATE trials SET state = 'FAIL' WHERE trial_id = {ID}"], "state (complete, Optuna failed)"),
        ([f"DELETE FROM trial_intermediate_values WHERE trial_id = {ID} AND step = 2"], "accuracy at epoch 2"),
        ([f"DELETE FROM trial_params WHERE trial_id = {ID} AND param_name = 'a'"], "coordinates"),
        ([f"UPDATE trial_user_attributes SET value_json = '{{' WHERE key = 'key' AND trial_id = {ID}"], "key ("),
        ([f"UPDATE trials SET state = 'RUNNING' WHERE trial_id = {ID}"], "open, and no living worker has it"),
        ([f"DELETE FROM nas_claim WHERE trial = {COMPLETE}"], "could be trained again"),
        ([f"UPDATE nas_claim SET state = 'failed' WHERE trial = {COMPLETE}"], "has its place as failed"),
        (["INSERT INTO nas_claim (study, key, trial, worker, state) VALUES (1, 'k', 99, 'w', 'done')"], "not recorded"),
        (["INSERT INTO nas_claim (study, worker, state) VALUES (1, 'w', 'held')"], "which is dead"),
    ],
)  # fmt: skip
def test_one_side_mends_the_other(folder: StudyFolder, statements: list[str], said: str) -> None:
    before = recorded(folder)
    changed(folder, *statements)
    damaged = folder.database.read_bytes()
    found = examine(folder, folder.url)
    assert said in "\n".join(problems(found))
    assert folder.database.read_bytes() == damaged
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    assert done.backup is not None
    assert done.done
    # Optuna's side knows no versions and not what a pruner was moved by.
    assert [same(row) for row in recorded(folder)] == [same(row) for row in before]
    with closing(sqlite3.connect(done.backup)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT COUNT(*) FROM nas_study").fetchone() == (1,)


def same(row: Row) -> Row:
    curve = tuple((epoch, accuracy, loss) for epoch, accuracy, loss in row.curve)
    return replace(row, stopped=None, versions=None, curve=curve)


def test_a_study_that_was_mended_is_gone_on_with_as_it_was(folder: StudyFolder) -> None:
    """The next trial has the next number, which Optuna counts out."""
    from nas.search.study import open_study

    changed(folder, *LOSE_TRIAL)
    assert problems(repair(folder, folder.url).findings) == []
    opened = open_study(folder.url, "s")
    assert [trial.number for trial in opened.study.get_trials()] == list(range(COUNT))
    assert opened.study.ask().number == COUNT
    opened.records.close()


def test_two_whole_sides_that_differ_are_told_and_left_alone(folder: StudyFolder) -> None:
    changed(folder, f"UPDATE trial_params SET param_value = 0.25 WHERE trial_id = {ID} AND param_name = 'b'")
    before = folder.database.read_bytes()
    done = repair(folder, folder.url)
    assert done.backup is None
    assert done.done == ()
    assert "only a copy tells" in problems(done.findings)[0]
    assert folder.database.read_bytes() == before


def test_a_trial_that_neither_side_tells_is_given_up(folder: StudyFolder) -> None:
    changed(
        folder,
        f"UPDATE nas_evaluation SET architecture = '{{' WHERE trial = {COMPLETE}",
        f"UPDATE trial_user_attributes SET value_json = '{{' WHERE trial_id = {ID} AND key = 'architecture'",
    )
    with pytest.raises(StudyError, match="damaged"):
        recorded(folder)
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    assert f"trial {COMPLETE}: given up" in "\n".join(done.done)
    assert [row.trial for row in recorded(folder)] == [n for n in range(COUNT) if n != COMPLETE]


def test_an_earlier_copy_is_never_overwritten(folder: StudyFolder) -> None:
    copies = set()
    for _ in range(3):
        changed(folder, f"DELETE FROM nas_claim WHERE trial = {COMPLETE}")
        copies.add(repair(folder, folder.url).backup)
    assert len(copies) == 3
    assert all(copy is not None and copy.name.endswith(".db.bak") for copy in copies)


def test_nothing_is_repaired_while_a_worker_lives(folder: StudyFolder) -> None:
    changed(folder, f"DELETE FROM nas_claim WHERE trial = {COMPLETE}")
    before = folder.database.read_bytes()
    with closing(Records(folder.url)) as records, Worker(records, records.study("s").id, folder.workers):
        with pytest.raises(StudyError, match="stop that search"):
            repair(folder, folder.url)
        assert "could be trained again" in problems(examine(folder, folder.url))[0]
    assert not list(folder.path.glob("*.bak"))
    assert len(before) == folder.database.stat().st_size


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As by a process that lives."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@pytest.mark.parametrize(
    ("lock", "who"),
    [
        ("refine.lock", "nas refine or nas baselines line runs on it"),
        ("baselines/little-8x8-study-0-0.lock", "nas baselines train runs on it"),
    ],
)
def test_nor_while_networks_are_trained_by_another_command(folder: StudyFolder, lock: str, who: str) -> None:
    changed(folder, f"DELETE FROM nas_claim WHERE trial = {COMPLETE}")
    with locked(folder.path / lock), pytest.raises(StudyError, match=who):
        repair(folder, folder.url)
    assert not list(folder.path.glob("*.bak"))
    assert problems(repair(folder, folder.url).findings) == []  # a lock that nobody holds is no training


def test_nor_where_a_damaged_file_does_not_tell_who_lives(folder: StudyFolder) -> None:
    put(folder, folder.database.read_bytes()[:-4096])
    with locked(folder.workers / "host-1-abc.lock"), pytest.raises(StudyError, match="searched by host-1-abc"):
        repair(folder, folder.url)
    assert not list(folder.path.glob("*.bak"))
    assert repair(folder, folder.url).backup is not None


# ---- the file itself


def put(folder: StudyFolder, content: bytes) -> None:
    """In the place of the database, without a log of the one before."""
    for left in folder.path.glob("study.db*"):
        left.unlink()
    folder.database.write_bytes(content)


def tried(folder: StudyFolder) -> Repaired | None:
    """None where nothing can be read of it, which is said."""
    try:
        return repair(folder, folder.url)
    except StudyError as refused:
        if "restore it from a copy" not in str(refused):
            raise
    return None


def torn(content: bytes, page: int) -> bytes:
    """With one page of noise."""
    noise = random.Random(0).randbytes(4096)
    return content[: 4096 * page] + noise + content[4096 * (page + 1) :]


def test_a_file_with_a_page_of_noise_is_made_anew_and_the_old_one_kept(folder: StudyFolder) -> None:
    before, whole = recorded(folder), folder.database.read_bytes()
    tables: dict[str, int] = {}
    with closing(sqlite3.connect(folder.database)) as connection:
        for name, page in connection.execute("SELECT name, rootpage FROM sqlite_master"):
            tables[name] = page - 1
    for table in ("nas_evaluation", "trial_user_attributes"):
        put(folder, torn(whole, tables[table]))
        damaged = folder.database.read_bytes()
        assert "damaged" in problems(examine(folder, folder.url))[0]
        assert folder.database.read_bytes() == damaged
        done = repair(folder, folder.url)
        assert problems(done.findings) == [], table
        assert [same(row) for row in recorded(folder)] == [same(row) for row in before]
        assert any(copy.read_bytes() == damaged for copy in folder.path.glob("*.bak"))


def test_a_table_whose_description_is_damaged_costs_that_table_alone(folder: StudyFolder) -> None:
    before, whole = recorded(folder), folder.database.read_bytes()
    put(folder, whole.replace(b"CREATE TABLE nas_baseline", b"CREATE TABLA nas_baseline"))
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    assert "nothing of nas_baseline" in done.done[0]
    assert [same(row) for row in recorded(folder)] == [same(row) for row in before]


def test_a_study_that_does_not_say_what_it_is_is_one_line(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(folder, "UPDATE nas_study SET identity = '{'")
    assert main(["doctor", "s", "--studies-dir", str(folder.studies_dir), "--repair"]) == 1
    assert "what the study is cannot be read" in capsys.readouterr().out
    assert main(["front", "s", "--studies-dir", str(folder.studies_dir)]) == 1
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_every_page_of_noise_in_turn_is_made_good_or_the_file_is_left_alone(folder: StudyFolder) -> None:
    before, whole, refused = [same(row) for row in recorded(folder)], folder.database.read_bytes(), []
    for page in range(len(whole) // 4096):
        put(folder, torn(whole, page))
        damaged = folder.database.read_bytes()
        done = tried(folder)
        if done is None:
            assert folder.database.read_bytes() == damaged
            refused.append(page)
            continue
        assert done.done, page
        assert problems(done.findings) == [], page
        assert [same(row) for row in recorded(folder)] == before, page
        assert kept_aside(folder, damaged)
    assert len(refused) <= 5, refused  # of 59


PARTS = {"few": [0.001, 0.5, 0.97], "many": [random.Random(seed).random() for seed in range(40)]}


@pytest.mark.parametrize("parts", ["few", pytest.param("many", marks=pytest.mark.slow)])
def test_of_a_file_without_its_end_is_kept_what_is_there_or_it_is_left_alone(folder: StudyFolder, parts: str) -> None:
    whole, before = folder.database.read_bytes(), {row.trial: same(row) for row in recorded(folder)}
    for part in PARTS[parts]:
        damaged = whole[: int(len(whole) * part)]
        put(folder, damaged)
        done = tried(folder)
        if done is None:
            assert folder.database.read_bytes() == damaged
            continue
        assert done.done, part
        assert problems(done.findings) == []
        found = {row.trial: same(row) for row in recorded(folder) if row.reason != "it ended without a record"}
        assert found.items() <= before.items()
        assert kept_aside(folder, damaged)


def kept_aside(folder: StudyFolder, damaged: bytes) -> bool:
    """Whether the file is there as it was; the copies are removed."""
    copies = list(folder.path.glob("*.bak"))
    found = any(copy.read_bytes() == damaged for copy in copies)
    for copy in copies:
        copy.unlink()
    return found


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(400), marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_flipped_bit_is_found_or_changes_nothing_that_is_read(folder: StudyFolder, seeds: range) -> None:
    """Not found are: which worker, device and threads trained it, when, its reason and versions; and what is unused."""
    whole, before = folder.database.read_bytes(), recorded(folder)
    found = unnoticed = 0
    for seed in seeds:
        draw = random.Random(seed)
        put(folder, flipped(whole, draw.randrange(8 * len(whole))))
        try:
            wrong = problems(examine(folder, folder.url))
        except StudyError as refused:
            wrong = [str(refused)]
        if wrong:
            found += 1
            continue
        now = recorded(folder)
        assert [result(row) for row in now] == [result(row) for row in before], seed
        unnoticed += now != before
    assert found
    assert unnoticed <= found / 50, (unnoticed, found)


def result(row: Row) -> Row:
    """What the front, the samplers and the pruners see of it."""
    moment = row.started_at.replace(year=2000)
    told = {"reason": None, "worker": "", "device": "", "threads": 1, "versions": None, "stopped": None, "source": None}
    return replace(row, **told, started_at=moment, finished_at=moment)


# ---- files


def test_damaged_weights_of_the_front_are_moved_aside(folder: StudyFolder) -> None:
    path = folder.weights(of_front()[0].key)
    damaged = flipped(path.read_bytes(), 777)
    path.write_bytes(damaged)
    assert str(path) in problems(examine(folder, folder.url))[0]
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    assert "`nas export` trains" in "\n".join(done.done)
    assert (folder.path / "damaged" / path.name).read_bytes() == damaged
    assert "no weights at" in notes(done.findings)


def test_weights_without_a_sum_are_said_not_to_be_checked(folder: StudyFolder) -> None:
    from safetensors.torch import save

    folder.weights(of_front()[0].key).write_bytes(save({"w": torch.ones(50)}))
    found = examine(folder, folder.url)
    assert problems(found) == []
    assert "1 files of weights carry no sum" in notes(found)


def test_damaged_checkpoints_and_full_trainings_are_moved_aside(folder: StudyFolder) -> None:
    row = of_front()[0]
    changed(
        folder,
        f"UPDATE nas_evaluation SET state = 'paused', reason = 'aside' WHERE trial = {row.trial}",
        f"UPDATE nas_claim SET state = 'paused' WHERE trial = {row.trial}",
        f"UPDATE trials SET state = 'RUNNING' WHERE number = {row.trial}",
    )
    weights = packed({"w": torch.zeros(9)})
    full = refinement(row, 0.9)
    with closing(Records(folder.url)) as records:
        add_refinement(records, 1, full)
    kept = {
        folder.paused(row.key): summed(b"checkpoint"),
        folder.refining("key", "hash", 1): summed(b"checkpoint"),
        folder.refined(full.key, full.recipe_hash, 1): weights,
    }
    for path, content in kept.items():
        path.parent.mkdir()
        path.write_bytes(content[:-1] + b"?")
    found = problems(examine(folder, folder.url))
    for path in kept:
        assert any(str(path) in line for line in found)
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    for path, content in kept.items():
        assert (folder.path / "damaged" / path.name).read_bytes() == content[:-1] + b"?"
    assert "nas refine s" in "\n".join(done.done)


def test_a_checkpoint_whose_training_has_just_ended_is_not_damaged(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.refining("key", "hash", 1)
    path.parent.mkdir()
    path.write_bytes(summed(b"checkpoint"))
    assert "trainings under way 1" in "".join(finding.words for finding in examine(folder, folder.url))
    read = files._content

    def ended(asked: Path) -> bytes | None:
        path.unlink()
        return read(asked)

    monkeypatch.setattr(files, "_content", lambda asked: ended(asked) if asked == path else read(asked))
    found = examine(folder, folder.url)
    assert problems(found) == []
    assert "trainings under way 0" in "".join(finding.words for finding in found)


def test_what_dead_processes_left_is_removed_and_what_living_ones_write_is_not(folder: StudyFolder) -> None:
    dead, mine, young = (folder.path / f".model.{number}" for number in (4_000_000, os.getpid(), 4_000_001))
    lock = folder.workers / "host-1-abc.lock"
    lock.parent.mkdir()
    for path in (dead, mine, young, lock):
        path.write_text("")
        os.utime(path, None if path == young else (OLD, OLD))
    done = repair(folder, folder.url)
    assert problems(done.findings) == []
    assert len(done.done) == 2
    assert not dead.exists()
    assert not lock.exists()
    assert mine.exists()
    assert young.exists()


def test_a_damaged_export_is_said(folder: StudyFolder) -> None:
    folder.export.mkdir()
    (folder.export / "model.onnx").write_bytes(b"damaged")
    (folder.export / "model.json").write_text(json.dumps({"sha256": {"model.onnx": "0" * 64, "model.py": "1" * 64}}))
    found = "\n".join(problems(examine(folder, folder.url)))
    assert "model.onnx is damaged" in found
    assert "model.py is gone" in found


# ---- the command


def test_the_command_ends_with_1_where_something_is_wrong(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(folder, f"DELETE FROM nas_evaluation WHERE trial = {COMPLETE}")
    words = ["doctor", "s", "--studies-dir", str(folder.studies_dir)]
    assert main(words) == 1
    assert f"wrong: trial {COMPLETE}: Optuna has it, and it is not recorded (--repair)" in capsys.readouterr().out
    assert main([*words, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["whole"] is False
    assert [one["can_be_repaired"] for part in said["findings"] for one in part["problems"]] == [True, True]
    assert main([*words, "--repair"]) == 0
    said = capsys.readouterr().out
    assert "Copied the database to" in said
    assert f"Mended: trial {COMPLETE}: recorded as Optuna has it." in said
    assert main(words) == 0


@pytest.mark.slow
def test_a_study_on_a_server_is_repaired_once_there_is_a_copy(tmp_path: Path) -> None:
    with postgresql() as server:
        search(tmp_path, "--storage", server.url, "--trials", "4", "--epochs", "1")
        folder = StudyFolder(tmp_path, "tiny")
        assert problems(examine(folder, server.url)) == []
        server.say("DELETE FROM nas_evaluation WHERE trial = 1")
        server.say("DELETE FROM nas_claim WHERE trial = 2")
        server.say("UPDATE trial_values SET value = 0.5 WHERE objective = 0 AND trial_id = 4")
        assert len(problems(examine(folder, server.url))) == 4
        with pytest.raises(StudyError, match="--backed-up"):
            repair(folder, server.url)
        done = repair(folder, server.url, backed_up=True)
        assert problems(done.findings) == []
        assert done.backup is None
        search(tmp_path, "--storage", server.url, "--trials", "5", "--epochs", "1")
        assert problems(examine(folder, server.url)) == []


@pytest.mark.slow
def test_beside_a_search_nothing_under_way_is_taken_for_wrong(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "tiny")
    looks = 0
    with running(tmp_path, "--trials", "20", "--workers", "2") as process:
        wait_for(lambda: ended(tmp_path) >= 1)
        while process.poll() is None:
            assert problems(examine(folder, folder.url)) == []
            looks += 1
    assert looks > 3


def test_a_study_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "nothing", "--studies-dir", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["empty", "text", "another's"])
def test_a_file_that_is_no_study_is_one_line_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = StudyFolder(tmp_path, "s")
    folder.path.mkdir()
    if kind == "another's":
        with closing(sqlite3.connect(folder.database)) as connection:
            connection.execute("CREATE TABLE t (a)")
    else:
        folder.database.write_bytes(b"no database " * 99 if kind == "text" else b"")
    before = folder.database.read_bytes()
    for more in ([], ["--repair"]):
        assert main(["doctor", "s", "--studies-dir", str(tmp_path), *more]) == 1
        said = capsys.readouterr()
        assert said.err.count("\n") + said.out.count("wrong: ") == 1
    assert folder.database.read_bytes() == before
