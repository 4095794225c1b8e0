"""`nas records`: a study goes out as a file and comes back as a study that can be looked at and gone on with."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.baseline_rows import Baseline, add_baseline
from nas.cache import EvaluationCache
from nas.cli import main
from nas.context import Context
from nas.errors import StudyError
from nas.record_file import read, write
from nas.records import Records, Row
from nas.refined import add_refinement
from nas.search import restore as restoring
from nas.search.claims import Claims
from nas.search.restore import GAPS, restore
from nas.study_folder import StudyFolder, aside
from tests.fake_study import write_study
from tests.test_record_file import FILE, record_file, rows, trainings

ROWS = rows(30)


@pytest.fixture
def exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A file of the study ``fake``, written by the command; the folder that the study was in is gone."""
    write_study(tmp_path / "before", "fake", ROWS)
    path = tmp_path / "fake.csv.gz"
    assert main(["records", "export", "fake", "--output", str(path), "--studies-dir", str(tmp_path / "before")]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{path}\n", "Study fake: 30 evaluations\n")
    return path


def imported(path: Path, *options: str) -> int:
    return main(["records", "import", str(path), "--studies-dir", str(path.parent / "studies"), *options])


def trials(folder: StudyFolder) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(folder.url)
    found = optuna.load_study(study_name=folder.name, storage=storage).get_trials()
    storage.engine.dispose()
    return found


def test_export_import_export_gives_the_same_bytes(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(exported) == 0
    studies = exported.parent / "studies"
    said = capsys.readouterr()
    assert said.out == f"{studies / 'fake'}\n"
    assert said.err == f"Study fake: 30 evaluations from {exported}.\n"
    again = exported.parent / "again.csv.gz"
    assert main(["records", "export", "fake", "--output", str(again), "--studies-dir", str(studies)]) == 0
    assert again.read_bytes() == exported.read_bytes()
    assert read(again) == FILE
    assert [path.name for path in studies.iterdir()] == ["fake"]
    assert [path.name for path in (studies / "fake").iterdir()] == ["study.db"]


def test_what_was_trained_beside_and_in_full_goes_out_and_comes_back(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line, references, headline and refinements; what needs their weights says so."""
    studies = exported.parent / "before"
    with closing(Records(StudyFolder(studies, "fake").url)) as records:
        number = records.study("fake").id
        for one in trainings():
            if isinstance(one, Baseline):
                add_baseline(records, number, one)
            else:
                add_refinement(records, number, one)
    path, again = exported.parent / "whole.csv.gz", exported.parent / "again.csv.gz"
    assert main(["records", "export", "fake", "--output", str(path), "--studies-dir", str(studies)]) == 0
    counts = "30 evaluations, 2 trainings of known networks, 4 trainings in full"
    assert capsys.readouterr().err == f"Study fake: {counts}\n"
    assert imported(path, "--study", "copy") == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"Study copy: {counts} from {path}."
    assert second.startswith("Their weights are not in a file: ")
    place = ["--studies-dir", str(exported.parent / "studies")]
    assert main(["records", "export", "copy", "--output", str(again), *place]) == 0
    assert read(again) == replace(read(path), name="copy")
    capsys.readouterr()
    said = []
    for name, there in (("fake", "before"), ("copy", "studies")):
        assert main(["front", name, "--json", "--with-baselines", "--studies-dir", str(exported.parent / there)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "nin-cifar" in said[0]
    assert main(["export", "copy", "--pick", "trial:0", *place]) == 1
    assert "they lie on the machine that trained them" in capsys.readouterr().err


def test_front_and_report_are_those_of_the_study(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(exported, "--study", "copy") == 0
    capsys.readouterr()
    said = []
    for name, studies in (("fake", "before"), ("copy", "studies")):
        assert main(["front", name, "--studies-dir", str(exported.parent / studies), "--json"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert main(["report", "copy", "--studies-dir", str(exported.parent / "studies")]) == 0
    assert (exported.parent / "studies" / "copy" / "report.html").stat().st_size > 100_000


def test_optunas_side_is_as_a_search_leaves_it(exported: Path) -> None:
    assert imported(exported) == 0
    told = trials(StudyFolder(exported.parent / "studies", "fake"))
    assert len(told) == len(ROWS)
    for trial, row in zip(told, ROWS, strict=True):
        assert trial.number == row.trial
        assert trial.state.name.lower() == {"failed": "fail"}.get(row.state, row.state)
        assert trial.intermediate_values == {epoch: accuracy for epoch, accuracy, _ in row.curve}
        assert trial.params == row.coordinates
        assert trial.datetime_start is not None
        assert trial.datetime_start.astimezone() == row.started_at
        assert trial.user_attrs["key"] == row.key
        assert trial.user_attrs["cost"] == row.cost
        assert trial.user_attrs.get("reason") == row.reason
        assert trial.constraints == ({"pruned": 1.0} if row.state == "pruned" else {})
        if row.state == "complete":
            assert trial.values == [row.val_accuracy, row.cost]


def test_places_and_networks_are_claimed(tmp_path: Path) -> None:
    failed = next(row for row in ROWS if row.state == "failed")
    first = ROWS[0]
    killed = replace(failed, trial=40, key=first.key, architecture=first.architecture, params=first.params)
    killed = replace(killed, macs=first.macs, cost=first.cost, seed=first.seed, curve=(), val_accuracy=None)
    folder = StudyFolder(tmp_path, "fake")
    restore(replace(FILE, rows=(*FILE.rows, (0, replace(killed, killed=True)))), folder)
    done = sum(row.state != "failed" for row in ROWS)
    with closing(Records(folder.url)) as records:
        claims = Claims(records, records.study("fake").id, "w")
        assert claims.place(done) == "done"
        place = claims.place(done + 1)
        assert isinstance(place, int)
        for row in ROWS:  # what failed by itself would fail again
            assert not claims.network(place, 99, row.key)
        assert claims.network(place, 99, "0" * 20)
    told = trials(folder)
    assert [trial.state for trial in told[30:]] == [TrialState.FAIL] * 11
    assert told[40].user_attrs["key"] == first.key
    assert "without a record" in told[35].user_attrs["reason"]


def test_a_killed_network_may_be_tried_again(tmp_path: Path) -> None:
    failed = next(row for row in ROWS if row.state == "failed")
    others = tuple((0, row) for row in ROWS if row is not failed)
    folder = StudyFolder(tmp_path, "fake")
    restore(replace(FILE, rows=(*others, (0, replace(failed, killed=True)))), folder)
    with closing(Records(folder.url)) as records:
        claims = Claims(records, records.study("fake").id, "w")
        place = claims.place(100)
        assert isinstance(place, int)
        assert claims.network(place, 99, failed.key)


def test_the_cache_answers_from_an_imported_study(exported: Path) -> None:
    assert imported(exported) == 0
    studies = exported.parent / "studies"
    own = write_study(studies, "own", [])
    complete = next(row for row in ROWS if row.state == "complete" and row.source is None)
    with closing(Records(own.url)) as records:
        context = Context.of(FILE.identity)
        cache = EvaluationCache(studies, records, "own", context, device="cpu", threads=1)
        found = cache.find(complete.key, complete.seed)
    assert found == replace(complete, source=f"fake trial {complete.trial}")


def test_one_study_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv.gz"
    write(path, record_file(8, (0, 4)))
    assert imported(path) == 1
    assert "holds study seeds 0, 4; choose one with --seed" in capsys.readouterr().err
    assert imported(path, "--seed", "3") == 1
    assert "no rows of study seed 3" in capsys.readouterr().err
    assert not (tmp_path / "studies").exists()
    assert imported(path, "--seed", "4", "--study", "four") == 0
    with closing(Records(StudyFolder(tmp_path / "studies", "four").url)) as records:
        assert records.rows("four", confusions=True) == rows(8, 4)
        assert records.study("four").identity["seed"] == 4


def test_paused_trials_stay_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruned = next(row for row in ROWS if row.state == "pruned")
    aside = [replace(row, state="paused") if row is pruned else row for row in ROWS]
    write_study(tmp_path, "fake", aside)
    path = tmp_path / "fake.csv.gz"
    assert main(["records", "export", "fake", "--output", str(path), "--studies-dir", str(tmp_path)]) == 0
    assert "29 evaluations; 1 paused ones left out" in capsys.readouterr().err
    assert [row for _, row in read(path).rows] == [row for row in ROWS if row is not pruned]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "fake", "--output", "a.csv"], "end the name with .csv.gz"),
        (["export", "fake", "--output", "fake.csv.gz"], "is there already.*--overwrite"),
        (["export", "fak", "--output", "a.csv.gz"], "did you mean 'fake'"),
        (["import", "none.csv.gz"], "there is no file"),
        (["import", "fake.csv.gz", "--study", "../x"], "choose another --study"),
        (["import", "fake.csv.gz", "--study", "fake"], "is there already and is left alone"),
        (["import", "fake.csv.gz", "--study", "folder"], "is there already and is left alone"),
        (["import", "fake.csv.gz", "--storage", "sqlite:///a.db"], "leave --storage out"),
        (["import", "fake.csv.gz", "--seed", "1"], "no rows of study seed 1"),
        (["import", "broken.csv.gz", "--study", "b"], "not a whole gzip file"),
        (["import", "lying.csv.gz", "--study", "b"], "lying.csv.gz, row 4: params is 1"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "studies", "fake", ROWS)
    (tmp_path / "studies" / "folder").mkdir()
    write(Path("fake.csv.gz"), FILE)
    whole = Path("fake.csv.gz").read_bytes()
    Path("broken.csv.gz").write_bytes(whole[:-20])
    text = gzip.decompress(whole).decode().split("\n")
    fourth = FILE.rows[3][1]
    text[5] = text[5].replace(f",{fourth.params},{fourth.macs},", f",1,{fourth.macs},")
    Path("lying.csv.gz").write_bytes(gzip.compress("\n".join(text).encode()))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["records", *words]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error), error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path.name for path in (tmp_path / "studies").iterdir()} == {"fake", "folder"}


def test_overwrite_replaces(exported: Path) -> None:
    before = exported.read_bytes()
    exported.write_bytes(b"")
    place = ["--studies-dir", str(exported.parent / "before")]
    assert main(["records", "export", "fake", "--output", str(exported), "--overwrite", *place]) == 0
    assert exported.read_bytes() == before


@pytest.mark.parametrize("step", ["_write_records", "_write_optuna", "trial_of"])
def test_an_error_in_the_middle_leaves_nothing(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., object] = getattr(restoring, step)

    def fail(*given: object) -> object:
        real(*given)
        raise StudyError("in the middle")

    monkeypatch.setattr(restoring, step, fail)
    with pytest.raises(StudyError, match="in the middle"):
        restore(FILE, StudyFolder(tmp_path, "fake"))
    assert list(tmp_path.iterdir()) == []


def test_kill_9_in_the_middle_leaves_no_study_and_the_next_import_tidies_up(exported: Path) -> None:
    studies = exported.parent / "studies"
    code = f"""
import os, signal
from nas.cli import main
from nas.search import restore
real = restore.trial_of
def killed(row):
    if row.trial == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(row)
restore.trial_of = killed
main(["records", "import", {str(exported)!r}, "--studies-dir", {str(studies)!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(studies.glob("*/study.db")) == []
    assert not (studies / "fake").exists()
    again = [sys.executable, "-m", "nas", "records", "import", str(exported), "--studies-dir", str(studies)]
    done = subprocess.run(again, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, f"Study fake: 30 evaluations from {exported}.\n")
    assert [path.name for path in studies.iterdir()] == ["fake"]


def test_two_imports_of_one_name_do_not_mix(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "fake")
    with aside(folder, "imported"), pytest.raises(StudyError, match="imported by another command"):
        restore(FILE, folder)
    restore(FILE, folder)
    with pytest.raises(StudyError, match="there already"):
        restore(FILE, folder)


def test_what_cannot_be_one_study_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "fake")
    with pytest.raises(StudyError, match="study seeds 0, 1: choose one"):
        restore(record_file(4, (0, 1)), folder)
    with pytest.raises(StudyError, match="study seeds 1: choose one"):
        restore(record_file(4, (1,)), folder)
    last = replace(ROWS[-1], trial=GAPS + 31)
    with pytest.raises(StudyError, match=f"leave more than {GAPS} out"):
        restore(replace(FILE, rows=(*FILE.rows, (0, last))), folder)
    assert list(tmp_path.iterdir()) == []


def real(studies: Path, *options: str) -> None:
    """A search that trains, on one thread."""
    command = [sys.executable, "-m", "nas", "search", "--space", "tiny", "--epochs", "1", "--train-limit", "200"]
    command += ["--workers", "1", "--device", "cpu", "--studies-dir", str(studies), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_search_goes_on_with_an_imported_study(tmp_path: Path) -> None:
    real(tmp_path / "before", "--trials", "4")
    path = tmp_path / "tiny.csv.gz"
    assert main(["records", "export", "tiny", "--output", str(path), "--studies-dir", str(tmp_path / "before")]) == 0
    assert imported(path) == 0
    folder = StudyFolder(tmp_path / "studies", "tiny")
    found = read(path)
    real(folder.studies_dir, "--trials", "6")
    with closing(Records(folder.url)) as records:
        after: list[Row] = records.rows("tiny", confusions=True)
    assert after[:4] == [row for _, row in found.rows]
    assert len({row.key for row in after}) == len(after) == 6
    assert [trial.state for trial in trials(folder)].count(TrialState.COMPLETE) == 6
    with closing(sqlite3.connect(folder.database)) as connection:
        (identity,) = connection.execute("SELECT identity FROM nas_study").fetchone()
    assert json.loads(identity) == found.identity
