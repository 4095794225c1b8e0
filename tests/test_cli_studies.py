"""`nas studies`: whole studies, listed, copied and deleted, or left as they were."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas import seal, studies
from nas.cli import main
from nas.records import VERSION, Records, claim_table, evaluation_table, version_table
from nas.refined import add_refinement, refinements
from nas.search.liveness import Worker
from nas.search.recovery import recover
from nas.search.study import create_study
from nas.study_folder import StudyFolder
from tests.fake_study import identity, rows, settings, write_study
from tests.refining import refinement

ROWS = rows(30, hostile=False)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study with a weight file, an export, a page, a lock and a file that is being written."""
    folder = write_study(tmp_path / "studies", "first", ROWS)
    files = {
        folder.weights("a"): "a", folder.export / "knee" / "model.onnx": "m", folder.artifacts / "x.csv": "x",
        folder.report: "page", folder.workers / "w.lock": "", folder.path / "refine.lock": "1",
        folder.path / "weights" / ".half": "h",
    }  # fmt: skip
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "WAIT", 0.05)


def run(folder: StudyFolder, *words: str) -> int:
    return main(["studies", *words, "--studies-dir", str(folder.studies_dir)])


def line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def tree(folder: StudyFolder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.path)): path.read_bytes()
        for path in sorted(folder.path.rglob("*"))
        if path.is_file()
    }


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """As by a program that writes all the time."""
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def test_list_tells_what_each_study_is(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(folder.studies_dir, "empty", [], dataset="folder:/a/long/path/to/flowers/", cost="macs")
    assert run(folder, "list", "--json") == 0
    empty, first = json.loads(capsys.readouterr().out)
    states = [row.state for row in ROWS]
    assert first["trials"] == {state: states.count(state) for state in ("complete", "pruned", "paused", "failed")}
    assert first["best"] == max(row.val_accuracy or 0 for row in ROWS if row.state == "complete")
    assert (first["cost"], first["dataset"], first["problem"], first["workers"]) == ("params", "digits", None, 0)
    assert first["size"] == sum(map(len, tree(folder).values()))
    assert (empty["front"], empty["best"], empty["cost"]) == (0, None, "macs")
    assert run(folder, "list") == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "study",
        "complete",
        "pruned",
        "failed",
        "front",
        "best",
        "cost",
        "dataset",
        "size",
        "changed",
    ]
    assert [text.split()[0] for text in lines] == ["empty", "first"]
    assert "folder:flowers " in lines[0]
    assert f" {first['front']} " in lines[1]
    assert "just now" in lines[1]


def test_a_reader_is_no_change(folder: StudyFolder) -> None:
    for path in folder.path.rglob("*"):
        os.utime(path, (10**9, 10**9))
    (folder.path / "study.db-wal").touch()  # as sqlite leaves them that was opened read only
    (folder.path / "study.db-shm").write_bytes(bytes(10))
    changed = studies.look(folder).changed
    assert changed is not None
    assert changed.timestamp() == 10**9


def test_list_has_a_word_for_what_cannot_be_read(folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    def made(name: str) -> StudyFolder:
        other = StudyFolder(folder.studies_dir, name)
        other.path.mkdir()
        return other

    made("damaged").database.write_bytes(b"SQLite format 3\0" + bytes(2000))
    made("nothing").database.write_bytes(b"")
    with closing(sqlite3.connect(made("foreign").database)) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    shutil.copytree(folder.path, folder.studies_dir / "renamed")
    shutil.copytree(folder.path, folder.studies_dir / ".hidden")
    newer = write_study(folder.studies_dir, "newer", [])
    with closing(Records(newer.url)) as records, records.writing() as connection:
        connection.execute(version_table.update().values(number=99))
    broken = write_study(folder.studies_dir, "broken", ROWS)
    with closing(Records(broken.url)) as records, records.writing() as connection:
        connection.execute(evaluation_table.update().values(val_accuracy=None))
    made("no-database")
    held = write_study(folder.studies_dir, "held", ROWS)
    with locked(held):
        assert run(folder, "list") == 0
    _, _, *lines = capsys.readouterr().out.splitlines()
    words = {text.split()[0]: text.split("ago")[-1].split("now")[-1].strip() for text in lines}
    assert words == {
        "broken": "is damaged",
        "damaged": "is damaged",
        "first": "",
        "foreign": "has no records of nas",
        "held": "is locked by another program",
        "newer": f"has records of layout 99, this nas reads {VERSION}",
        "nothing": "has no records of nas",
        "renamed": "holds 'first', not 'renamed'",
    }
    assert run(folder, "list", "--json") == 0
    problems = {entry["name"]: entry["problem"] for entry in json.loads(capsys.readouterr().out)}
    assert problems["damaged"].startswith(str(folder.studies_dir / "damaged" / "study.db"))
    assert problems["held"] is None


def test_list_without_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies", "list", "--studies-dir", str(tmp_path / "none")]) == 1
    assert "no folder" in line(capsys)
    assert main(["studies", "list", "--studies-dir", str(tmp_path)]) == 0
    assert line(capsys).startswith(f"No study in {tmp_path} yet")
    assert main(["studies", "list", "--json", "--studies-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_list_of_a_database(folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Records(folder.url)) as records:
        records.add_study("second", identity(), settings("second"))
    assert main(["studies", "list", "--json", "--storage", folder.url, "--studies-dir", str(tmp_path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], second["name"]) == ("first", "second")
    assert (first["size"], sum(first["trials"].values())) == (None, 30)
    assert first["changed"] == max(row.finished_at for row in ROWS).isoformat()
    assert (second["changed"], second["trials"]["complete"]) == (None, 0)


def test_list_loads_no_optuna(folder: StudyFolder) -> None:
    code = "import sys; from nas.cli import main; assert main(sys.argv[1:]) == 0; print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "studies", "list", "--studies-dir", str(folder.studies_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"optuna", "torch", "plotly", "scipy"} & set(done.stderr.split()) == set()


def test_a_copy_has_everything_but_the_page_and_the_locks(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Records(folder.url)) as records:
        add_refinement(records, 1, refinement(ROWS[0], 0.9))
        trained = refinements(records, 1)
    before = tree(folder)
    assert run(folder, "copy", "first", "second") == 0
    said = capsys.readouterr()
    copied = StudyFolder(folder.studies_dir, "second")
    assert said.out == f"{copied.path}\n"
    assert said.err.startswith("Study second: 30 trials, ")
    assert set(tree(copied)) == set(before) - {"report.html", "workers/w.lock", "refine.lock", "weights/.half"}
    assert tree(folder) == before
    assert copied.weights("a").read_text() == "a"
    with closing(Records(copied.url)) as records:
        assert records.studies() == ["second"]
        assert records.rows("second") == ROWS
        assert refinements(records, 1) == trained
    assert sorted(path.name for path in folder.studies_dir.iterdir()) == ["first", "second"]


def test_a_copy_takes_the_write_ahead_log_in_and_what_a_search_writes_meanwhile(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = studies._copy_database

    def meanwhile(*given: object) -> None:
        folder.weights("a").write_text("changed")
        os.utime(folder.weights("a"), (1, 1))
        folder.weights("b").write_text("b")
        real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(studies, "_copy_database", meanwhile)
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("UPDATE nas_evaluation SET reason = 'in the log' WHERE trial = 3")
        assert (folder.path / "study.db-wal").stat().st_size > 0
        assert run(folder, "copy", "first", "second") == 0
    copied = StudyFolder(folder.studies_dir, "second")
    with closing(Records(copied.url)) as records:
        assert records.rows("second", [3])[0].reason == "in the log"
    assert (copied.weights("a").read_text(), copied.weights("b").read_text()) == ("changed", "b")
    assert [path.name for path in copied.path.glob("study.db*")] == ["study.db"]


def test_a_search_goes_on_with_the_copy_of_a_running_one(tmp_path: Path) -> None:
    """Both halves are renamed, and the running trial, whose worker lives, is the other study's."""
    folder = StudyFolder(tmp_path, "first")
    opened = create_study(folder.url, "first", identity(), settings("first"))
    ended = opened.study.ask()
    opened.study.tell(ended, [0.5, 1000.0])
    running = opened.study.ask()
    with Worker(opened.records, opened.record.id, folder.workers) as worker:
        with opened.records.writing() as connection:
            claim = {"study": opened.record.id, "worker": worker.id, "state": "held", "trial": running.number}
            connection.execute(claim_table.insert().values(**claim, key="k"))
        assert recover(opened).failed == 0
        studies.copy(folder, StudyFolder(tmp_path, "second"))
        copy = create_study(StudyFolder(tmp_path, "second").url, "second", identity(), settings("second"))
        assert recover(copy).failed == 1
        assert [trial.state for trial in copy.study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
        assert [trial.state for trial in opened.study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
        assert copy.study.ask().number == 2
    assert optuna.get_all_study_names(copy.storage) == ["second"]
    with closing(opened.records), closing(copy.records):
        pass


@pytest.mark.slow
def test_the_same_options_go_on_with_a_copy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nas", "search", "--space", "tiny", "--epochs", "1", "--train-limit", "200"]
    command += ["--workers", "1", "--device", "cpu", "--studies-dir", str(tmp_path)]
    subprocess.run([*command, "--trials", "4"], check=True, capture_output=True)
    assert main(["studies", "copy", "tiny", "more", "--studies-dir", str(tmp_path)]) == 0
    subprocess.run([*command, "--trials", "6", "--study", "more"], check=True, capture_output=True)
    with closing(Records(StudyFolder(tmp_path, "more").url)) as records:
        more = records.rows("more")
    with closing(Records(StudyFolder(tmp_path, "tiny").url)) as records:
        assert more[:4] == records.rows("tiny")
    assert len(more) == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
def test_a_copy_that_is_broken_off_leaves_nothing(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    real = studies._copy_database

    def broken_off(*given: object) -> None:
        real(*given)  # type: ignore[arg-type]
        raise error

    monkeypatch.setattr(studies, "_copy_database", broken_off)
    code = run(folder, "copy", "first", "second")
    if isinstance(error, KeyboardInterrupt):
        assert code == 130
    else:
        assert code == 1
        assert "the disk is full" in line(capsys)
    assert [path.name for path in folder.studies_dir.iterdir()] == ["first"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "frist", "second"], "did you mean 'first'?"),
        (["copy", "first", "first"], "is there already"),
        (["copy", "first", "there"], "is there already"),
        (["copy", "first", "dangling"], "is there already"),
        (["copy", "first", "../second"], "study name '../second'"),
        (["copy", "first", ".."], "study name '..'"),
        (["copy", "a/b", "second"], "study name 'a/b'"),
        (["copy", "first", "second", "--storage", "sqlite:///x"], "only a study in a folder of its own is copied"),
        (["delete", "frist", "--yes"], "did you mean 'first'?"),
        (["delete", "..", "--yes"], "study name '..'"),
        (["delete", "../studies/first", "--yes"], "study name '../studies/first'"),
        (["delete", "/etc", "--yes"], "study name '/etc'"),
        (["delete", "there", "--yes"], "unknown study 'there'"),
        (["delete", "first", "--yes", "--storage", "sqlite:///x"], "only a study in a folder of its own is deleted"),
        (["delete", "first"], "(30 trials, "),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (folder.studies_dir / "there").mkdir()
    (folder.studies_dir / "dangling").symlink_to("nowhere")
    before, names = tree(folder), sorted(folder.studies_dir.iterdir())
    assert run(folder, *words) == 1
    assert said in line(capsys)
    assert (tree(folder), sorted(folder.studies_dir.iterdir())) == (before, names)


def test_a_locked_or_damaged_database_is_not_copied(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(folder):
        assert run(folder, "copy", "first", "second") == 1
        assert "is locked by another program" in line(capsys)
        assert run(folder, "delete", "first", "--yes") == 1
        assert "is locked by another program" in line(capsys)
    damaged = bytearray(folder.database.read_bytes())
    damaged[4096 * 6 : 4096 * 7] = bytes(4096)  # a page of the evaluations
    folder.database.write_bytes(damaged)
    assert run(folder, "copy", "first", "second") == 1
    assert f"{folder.database} is damaged" in line(capsys)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    folder.database.write_bytes(b"no database at all")
    assert run(folder, "copy", "first", "second") == 1
    assert "damaged" in line(capsys)
    assert [path.name for path in folder.studies_dir.iterdir()] == ["first"]
    assert run(folder, "delete", "first", "--yes") == 0  # nothing in it can be lost
    assert list(folder.studies_dir.iterdir()) == []


def test_a_folder_that_cannot_be_written(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(folder)

    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for name, words in (("mkdir", ["copy", "first", "second"]), ("rename", ["delete", "first", "--yes"])):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refused)
            assert run(folder, *words) == 1
        assert "no permission" in line(capsys)
        assert tree(folder) == before
        assert [path.name for path in folder.studies_dir.iterdir()] == ["first"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_delete_asks_and_says_what_is_lost(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool
) -> None:
    other = write_study(folder.studies_dir, "other", [])
    reading = dict.fromkeys(seal.Reading.__dataclass_fields__, "x") | {
        "trial": 1, "confusion": ((1, 0), (0, 1)), "read_at": ROWS[0].started_at, "versions": None,
    }  # fmt: skip
    with closing(Records(folder.url)) as records:
        seal.add(records, 1, [seal.Reading(**reading)])  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert run(folder, "delete", "first") == (0 if gone else 1)
    said = capsys.readouterr()
    assert said.out == ""
    assert "This deletes study first: 30 trials, " in said.err
    assert f"kB in {folder.path}, and the record of 1 reading of the test images. It cannot be undone." in said.err
    assert folder.path.exists() != gone
    assert ("Deleted study first" in said.err) == gone
    assert ("Nothing was deleted." in said.err) != gone
    assert other.database.is_file()
    assert [path for path in folder.studies_dir.iterdir() if path.name.startswith(".")] == []


def test_delete_removes_a_link_and_not_what_it_leads_to(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder.path.rename(elsewhere)
    folder.path.symlink_to(elsewhere)
    (elsewhere / "artifacts" / "out").symlink_to(tmp_path)
    assert run(folder, "copy", "first", "second") == 0
    copied = StudyFolder(folder.studies_dir, "second")
    assert not copied.path.is_symlink()
    assert os.readlink(copied.artifacts / "out") == str(tmp_path)
    assert run(folder, "delete", "second", "--yes") == 0
    capsys.readouterr()
    assert run(folder, "delete", "first", "--yes") == 0
    assert f"the link {folder.path}; {elsewhere} stays" in line(capsys)
    assert (elsewhere / "study.db").is_file()
    assert list(folder.studies_dir.iterdir()) == []


@pytest.mark.parametrize("who", ["worker", "lock", "refinement"])
def test_delete_leaves_a_study_alone_that_somebody_works_on(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    with closing(Records(folder.url)) as records:
        if who == "worker":  # its lock lies in another folder, as of another --studies-dir
            with Worker(records, 1, folder.studies_dir.parent / "locks"):
                assert run(folder, "list", "--json") == 0
                assert json.loads(capsys.readouterr().out)[0]["workers"] == 1
                assert run(folder, "delete", "first", "--yes") == 1
        else:
            path = folder.path / "refine.lock" if who == "refinement" else folder.workers / "w.lock"
            with path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                assert run(folder, "delete", "first", "--yes") == 1
    said = line(capsys)
    assert "is in use: " in said
    assert ("nas refine" if who == "refinement" else "a search with 1 worker runs") in said
    assert folder.database.is_file()
    assert run(folder, "delete", "first", "--yes") == 0
    assert not folder.path.exists()


def test_what_is_listed_can_be_compared(folder: StudyFolder) -> None:
    studies.copy(folder, StudyFolder(folder.studies_dir, "second"))
    first, second = (asdict(one) for one in studies.studies_in(folder.studies_dir))
    for one in (first, second):
        del one["name"], one["size"], one["changed"]
    assert first == second
