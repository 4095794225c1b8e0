"""The search as a user runs it: real processes, real kills, a real database."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from nas.errors import StudyError
from nas.records import Records
from nas.search.study import create_study, optuna_explained
from nas.study_folder import StudyFolder
from tests.searches import check, ended, rows, running, search, trials, wait_for, workers_of, zombies


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of 12 trials by two workers; tests only read it."""
    path = tmp_path_factory.mktemp("studies")
    said = search(path, "--trials", "12", "--workers", "2", "--pruner", "none")
    assert "12/12 trials" in said
    return path


def test_a_search_ends_with_exactly_its_trials(studies: Path) -> None:
    found = check(studies, 12)
    assert {row.state for row in found} == {"complete"}
    assert all(len(row.curve) == 3 for row in found)
    assert all(0.1 < (row.val_accuracy or 0) <= 1 for row in found)
    assert len({row.worker for row in found}) == 2


def test_every_complete_trial_keeps_its_answers_by_class(studies: Path) -> None:
    with closing(Records(StudyFolder(studies, "tiny").url)) as records:
        found = records.rows("tiny", confusions=True)
        images = records.study("tiny").settings["validation_images"]
    assert len(found) == 12
    for row in found:
        assert row.confusion is not None
        assert sum(map(sum, row.confusion)) == images
        assert sum(line[label] for label, line in enumerate(row.confusion)) / images == row.val_accuracy


def test_every_trial_says_what_it_is(studies: Path) -> None:
    for trial in trials(studies):
        names = {"cost", "params", "macs", "key", "seed", "seconds", "device", "architecture"}
        assert names <= trial.user_attrs.keys()
        assert trial.user_attrs["cost"] == trial.user_attrs["params"]
        assert 900 <= trial.user_attrs["params"] <= 4000
        assert trial.constraints == {}


def test_optunas_dashboard_gets_names(studies: Path) -> None:
    storage = optuna.storages.RDBStorage(StudyFolder(studies, "tiny").url)
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert study.metric_names == ["val_accuracy", "params"]
    storage.engine.dispose()


def test_a_second_command_with_the_same_total_has_nothing_to_do(studies: Path) -> None:
    before = rows(studies)
    search(studies, "--trials", "12", "--pruner", "none")
    assert rows(studies) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rule", "off"], "space.rule = 'growing', this command says 'off'"),
        (["--cost", "macs"], "space.cost"),
        (["--epochs", "4"], "epochs = 3, this command says 4"),
        (["--train-limit", "500"], "train_limit|split"),
        (["--seed", "1"], "seed = 0, this command says 1"),
        (["--metric", "balanced-accuracy"], "metric = 'accuracy', this command says 'balanced-accuracy'"),
        (["--max-params", "3000"], "max_params"),
    ],
)
def test_a_study_made_from_other_settings_is_refused(studies: Path, options: list[str], said: str) -> None:
    before = rows(studies)
    words = search(studies, "--trials", "13", *options, code=1)
    assert re.search(said, words), words
    assert len(words.strip().splitlines()) == 1
    assert rows(studies) == before


def test_ctrl_c_once_marks_the_running_trials_and_ends(tmp_path: Path) -> None:
    with running(tmp_path, "--trials", "500", "--workers", "2", "--epochs", "40") as process:
        wait_for(lambda: any(trial.intermediate_values for trial in open_trials(tmp_path)))
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert not zombies(tmp_path)
    marked = [trial for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    assert marked
    assert {trial.user_attrs["reason"] for trial in marked} == {"the search was interrupted"}


def open_trials(studies: Path) -> list[optuna.trial.FrozenTrial]:
    if not StudyFolder(studies, "tiny").database.is_file():
        return []
    try:
        return [trial for trial in trials(studies) if trial.state == TrialState.RUNNING]
    except (KeyError, SQLAlchemyError, StorageInternalError):  # it is just being made
        return []


def test_workers_do_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    with running(tmp_path, "--trials", "500", "--workers", "2") as process:
        wait_for(lambda: ended(tmp_path) >= 1)
        workers = workers_of(process)
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{worker}/stat").exists() for worker in workers), within=30)
    assert not zombies(tmp_path)


def test_a_space_that_is_exhausted_ends_well(tmp_path: Path) -> None:
    said = search(tmp_path, "--trials", "50", "--max-params", "930", "--pruner", "none", "--sampler", "random")
    assert "exhausted" in said
    found = rows(tmp_path)
    done = [row for row in found if row.state == "complete"]
    assert 0 < len(done) < 50
    assert len({row.key for row in done}) == len(done)


def test_ten_failures_in_a_row_end_the_search(tmp_path: Path, tiny_toml: str) -> None:
    path = tmp_path / "hot.toml"
    path.write_text(tiny_toml.replace("learning_rate = ", "learning_rate = 1e30 # "))
    said = search(tmp_path, "--space", str(path), "--trials", "20", code=1)
    assert "10 trials failed in a row" in said
    assert "the training loss is" in said
    found = rows(tmp_path, "hot")
    assert [row.state for row in found] == ["failed"] * 10
    assert {trial.state for trial in trials(tmp_path, "hot")} == {TrialState.FAIL}


@pytest.fixture
def tiny_toml() -> str:
    from nas.space import load_space

    return load_space("tiny").toml


def test_timeout_begins_no_further_trial(tmp_path: Path) -> None:
    said = search(tmp_path, "--trials", "5000", "--timeout", "10")
    assert "--timeout is over" in said
    found = trials(tmp_path)
    assert len(found) < 5000  # a slow machine may have begun none by then
    assert not zombies(tmp_path)


@pytest.mark.parametrize("sampler", ["nsga2", "random"])
def test_other_samplers_serve(tmp_path: Path, sampler: str) -> None:
    search(tmp_path, "--trials", "4", "--sampler", sampler, "--epochs", "1", "--train-limit", "200")
    check(tmp_path, 4)


def test_one_worker_and_one_seed_find_the_same_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        search(tmp_path / name, "--trials", "3", "--seed", "7")
    one, other = rows(tmp_path / "a"), rows(tmp_path / "b")
    assert [(row.key, row.curve) for row in one] == [(row.key, row.curve) for row in other]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "digit"], "did you mean 'digits'"),
        (["--space", "missing.toml"], "missing.toml"),
        (["--dataset", "digit"], "did you mean 'digits'"),
        (["--dataset", "folder:nowhere"], "nowhere"),
        (["--trials", "0"], "--trials 0"),
        (["--workers", "0"], "--workers 0"),
        (["--epochs", "0"], "--epochs 0"),
        (["--batch", "1"], "--batch 1"),
        (["--timeout", "0"], "--timeout 0"),
        (["--timeout", "nan"], "--timeout nan"),
        (["--seed", "-1"], "--seed -1"),
        (["--train-limit", "0"], "--train-limit 0"),
        (["--train-limit", "5"], "5"),
        (["--sampler", "tpee"], "did you mean 'tpe'"),
        (["--pruner", "conformed"], "did you mean 'conformal'"),
        (["--rule", "grow"], "did you mean 'growing'"),
        (["--cost", "param"], "did you mean 'params'"),
        (["--device", "gpu"], "allowed: auto, cpu, cuda"),
        (["--device", "cuda:x"], "allowed: auto, cpu, cuda"),
        (["--max-params", "10"], "smallest"),
        (["--min-params", "4000", "--max-params", "2000"], "2,?000"),
        (["--min-macs", "1G"], "1G"),
        (["--study", "../out"], "study name"),
        (["--storage", "sqlite://"], "kept in a file"),
        (["--study", ""], "study name"),
        (["--storage", "mysql://u:secret@h/d"], "not supported"),
        (["--storage", "postgresql+psycopg://u:secret@127.0.0.1:9/d"], "out of reach|missing"),
        (["--nonsense"], "nonsense"),
        (["--trials", "many"], "many"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    words = search(tmp_path / "studies", *options, code=1)
    assert re.search(said, words), words
    assert len(words.strip().splitlines()) == 1, words
    assert "secret" not in words
    assert not list(tmp_path.rglob("study.db"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    words = search(tmp_path, "--device", "cuda", code=1)
    assert "cuda" in words
    assert len(words.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("study.db"))


def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "tiny")
    folder.path.mkdir()
    folder.database.write_bytes(b"not a database " * 1000)
    before = folder.database.read_bytes()
    words = search(tmp_path, code=1)
    assert "damaged" in words
    assert len(words.strip().splitlines()) == 1
    assert folder.database.read_bytes() == before


def test_a_full_disk_in_optunas_own_writing_is_explained(tmp_path: Path) -> None:
    """A page limit in place of the disk's end; Optuna wraps the error in one of its own."""
    url = StudyFolder(tmp_path, "tiny").url
    opened = create_study(url, "tiny", {"space": {"cost": "params"}}, {})
    trial = opened.study.ask()
    engine = opened.storage._tables.engine  # type: ignore[attr-defined]
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # as many as there are
    with pytest.raises(StudyError, match="free space on the disk"), optuna_explained(url):
        trial.set_user_attr("long", "x" * 100_000)
    opened.records.close()
    engine.dispose()


def test_another_programs_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "tiny")
    folder.path.mkdir()
    storage = optuna.storages.RDBStorage(folder.url)
    optuna.create_study(study_name="tiny", storage=storage, directions=["maximize", "minimize"])
    storage.engine.dispose()
    words = search(tmp_path, "--trials", "1", code=1)
    assert "was not made by nas" in words
    with sqlite3.connect(folder.database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert not {name for name in tables if name.startswith("nas_")}


def test_a_folder_of_images_that_was_moved_goes_on(tmp_path: Path) -> None:
    write_classes(tmp_path / "here", ("a", "b"), 12)
    search(tmp_path, "--trials", "1", "--epochs", "1", "--dataset", f"folder:{tmp_path / 'here'}")
    (tmp_path / "here").rename(tmp_path / "there")
    search(tmp_path, "--trials", "2", "--epochs", "1", "--dataset", f"folder:{tmp_path / 'there'}")
    assert len(rows(tmp_path)) == 2


def write_classes(root: Path, classes: tuple[str, ...], each: int) -> None:
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(random.integers(0, 256, (9, 11), dtype=np.uint8)).save(root / name / f"{number}.png")
