"""`nas refine` as a user runs it: workers in processes, killed, stopped, and gone on with."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas.cli import main
from nas.recipe import Recipe
from nas.records import Records
from nas.refined import Refinement, add_refinement
from nas.study_folder import StudyFolder
from tests import refining
from tests.searches import wait_for, workers_of

TWO = ("--pick", "trial:0", "--pick", "trial:1")
WORK = (*TWO, "--seeds", "2", "--epochs", "12", "--workers", "1", "--device", "cpu")
TASKS = [(0, 1), (0, 2), (1, 1), (1, 2)]


def words(folder: StudyFolder, *options: str) -> list[str]:
    return ["refine", folder.name, "--studies-dir", str(folder.studies_dir), *options]


@contextmanager
def running(folder: StudyFolder, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A refinement in a process group of its own, killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nas", *words(folder, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def under_way(folder: StudyFolder) -> bool:
    return any(folder.path.glob("refining/*.pt"))


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> list[Refinement]:
    """What is recorded where nothing disturbs."""
    folder = refining.write(tmp_path_factory.mktemp("through"))
    assert main(words(folder, *WORK)) == 0
    found = refining.recorded(folder)
    assert [(one.trial, one.replicate) for one in found] == TASKS
    return found


def test_kill_9_and_the_same_command_give_what_ran_through(tmp_path: Path, through: list[Refinement]) -> None:
    folder = refining.write(tmp_path)
    with running(folder, *WORK) as process:
        wait_for(lambda: under_way(folder))
        workers = workers_of(process)
        assert workers
        os.kill(process.pid, signal.SIGKILL)  # the launcher alone: its workers have to end by themselves
        process.wait()
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    before = refining.recorded(folder)
    assert len(before) < len(TASKS)
    (folder.path / "refining" / ".half-written").write_bytes(b"left by a killed worker")
    assert main(words(folder, *WORK)) == 0
    found = refining.recorded(folder)
    assert refining.same(found) == refining.same(through)
    assert [one.started_at for one in found if one in before] == [one.started_at for one in before]
    assert not list((folder.path / "refining").iterdir())
    weights = {path.name for path in (folder.path / "refined").iterdir()}
    assert weights == {folder.refined(one.key, one.recipe_hash, one.replicate).name for one in found}


def test_done_work_is_printed_and_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = refining.write(tmp_path)
    first = ("--pick", "best", "--epochs", "1", "--workers", "1", "--device", "cpu")
    assert main(words(folder, *first, "--seeds", "1")) == 0
    said = capsys.readouterr()
    assert "1 network, picked by best; 1 fresh seed each, 1 epoch." in said.err
    assert "1 training to do by 1 worker, in about 0:00, by what the search's trials took." in said.err
    assert "trial    2  seed 1  1 epochs  accuracy " in said.err
    before = refining.recorded(folder)

    assert main(words(folder, *first, "--seeds", "1", "--json")) == 0
    said = capsys.readouterr()
    assert "Nothing is left to do of 1 training." in said.err
    printed = json.loads(said.out)
    (network,) = printed["networks"]
    assert (network["trial"], network["mean"], network["interval"]) == (2, before[0].val_accuracy, None)
    assert network["marks"] == ["front", "knee", "best"]
    assert refining.recorded(folder) == before

    # A seed more is a training more; weights that were lost are trained again, to the same.
    folder.refined(before[0].key, before[0].recipe_hash, 1).unlink()
    assert main(words(folder, *first, "--seeds", "2")) == 0
    said = capsys.readouterr()
    assert "The weights of 1 recorded training are not in the study's folder: trained again." in said.err
    after = refining.recorded(folder)
    assert [one.replicate for one in after] == [1, 2]
    assert refining.same(after[:1]) == refining.same(before)
    assert after[0] != before[0]


def test_a_failed_training_is_said_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = Recipe(epochs=1, batch=32, learning_rate=1e30)
    folder = refining.write(tmp_path, recipe=wild)
    assert main(words(folder, *TWO, "--seeds", "1", "--epochs", "2", "--workers", "1", "--device", "cpu")) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "failed: trial 0, seed 1: epoch 1: " in said.err
    assert "failed: trial 1, seed 1: epoch 1: " in said.err
    assert refining.recorded(folder) == []


def test_images_that_are_gone_end_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = refining.write(tmp_path)
    place = tmp_path / "nowhere"
    assert main(words(folder, *WORK, "--dataset", f"folder:{place}")) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"nas: folder {place} does not exist")
    assert refining.recorded(folder) == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_study_of_another_version_of_training_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    folder = refining.write(tmp_path, training_version=0)
    assert main(words(folder, *WORK, *options)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nas: study 's' was trained by version 0 of training, this nas has 1: brief and full")
    assert len(err.splitlines()) == 1
    assert not (folder.path / "refining").exists()


def test_a_second_refinement_is_refused_and_a_dry_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = refining.write(tmp_path)
    with (folder.path / "refine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        assert main(words(folder, *WORK)) == 1
        said = capsys.readouterr().err
        assert said.startswith("nas: another `nas refine s` or `nas baselines line s` runs here (process 4711); wait")
        assert main(words(folder, *WORK, "--dry-run")) == 0
        said = capsys.readouterr().err
    assert said.splitlines() == [
        "2 networks, picked by trial:0, trial:1; 2 fresh seeds each, 12 epochs.",
        "4 trainings to do by 1 worker, in about 0:24, by what the search's trials took.",
    ]
    assert not (folder.path / "refining").exists()
    assert not (folder.path / "refined").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top", "0"], "--top 0: it must be a whole number of at least 1"),
        (["--seeds", "0"], "--seeds 0: it must be a whole number of at least 1"),
        (["--epochs", "0"], "--epochs 0: it must be a whole number of at least 1"),
        (["--workers", "0"], "--workers 0: it must be a whole number of at least 1"),
        (["--top", "2", "--pick", "best"], "--pick and --top both choose the networks: give one of them"),
        (["--pick", "nicest"], "unknown pick 'nicest'"),
        (["--pick", "trial:9"], "study 's' has no finished trial 9"),
        (["--show"], "no network of study 's' is refined so yet; run `nas refine s`"),
        (["--storage", "sqlite:///none.db"], "--storage: there is no file 'none.db'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = refining.write(tmp_path)
    there = sorted(folder.path.iterdir())
    assert main(words(folder, *options)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert [path for path in sorted(folder.path.iterdir()) if path.name != "refine.lock"] == there


def test_an_unknown_study_is_said_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refining.write(tmp_path, "digits")
    assert main(["refine", "digit", "--studies-dir", str(tmp_path)]) == 1
    assert "unknown study 'digit': did you mean 'digits'?" in capsys.readouterr().err


def test_the_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refine", "--help"]) == 0
    said = capsys.readouterr()
    assert "Train the networks near the front fully" in said.out
    assert said.err == ""


def _stopped(folder: StudyFolder, *options: str) -> dict[str, Any]:
    """Ctrl-C as a terminal sends it, to the whole group, once a training is under way."""
    with running(folder, *options) as process:
        wait_for(lambda: under_way(folder))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    return {"code": process.returncode, "said": said}


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_under_way_and_says_how_to_go_on(tmp_path: Path, through: list[Refinement]) -> None:
    folder = refining.write(tmp_path)
    ended = _stopped(folder, *WORK)
    assert ended["code"] == 130
    assert "stopping: running trainings are kept after this epoch; Ctrl-C again kills" in ended["said"]
    assert "The same command goes on where it stopped; nas refine s --show prints what is done." in ended["said"]
    assert main(words(folder, *WORK)) == 0
    assert refining.same(refining.recorded(folder)) == refining.same(through)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_training_goes_on(tmp_path: Path, through: list[Refinement]) -> None:
    folder = refining.write(tmp_path)
    with running(folder, *WORK) as process:
        wait_for(lambda: under_way(folder))
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0
    assert "worker 1 was killed (exit code -9); another takes its place" in said
    assert refining.same(refining.recorded(folder)) == refining.same(through)


@pytest.mark.slow
def test_two_workers_find_what_one_does(tmp_path: Path, through: list[Refinement]) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"  # the weights still go to the study's folder
    folder = refining.write(tmp_path, url=url)
    assert main(words(folder, *WORK, "--workers", "2", "--storage", url)) == 0
    found = refining.recorded(folder, url)
    assert refining.same(found) == refining.same(through)
    assert all(folder.refined(one.key, one.recipe_hash, one.replicate).is_file() for one in found)


def test_nas_show_has_the_full_trainings_of_a_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = refining.write(tmp_path)
    rows = refining.networks()
    records = Records(folder.url)
    for accuracy, replicate in ((0.80, 1), (0.84, 2)):
        add_refinement(records, 1, refining.refinement(rows[1], accuracy, replicate))
    records.close()
    show = ["show", "s", "--studies-dir", str(tmp_path), "--trial"]
    assert main([*show, "1"]) == 0
    said = capsys.readouterr().out
    assert "Trained fully by 2 fresh seeds, 8 epochs: mean validation accuracy 0.8200, 95 % interval 0.5659 to" in said
    assert main([*show, "1", "--json"]) == 0
    assert [one["val_accuracy"] for one in json.loads(capsys.readouterr().out)["refinements"]] == [0.80, 0.84]
    assert main([*show, "0"]) == 0
    assert "Trained fully" not in capsys.readouterr().out
    assert main([*show, "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refinements"] == []


def test_show_without_epochs_takes_each_networks_longest_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = refining.write(tmp_path)
    rows = refining.networks()
    records = Records(folder.url)
    for trial, epochs in ((0, 8), (0, 16), (1, 8), (2, 8)):
        add_refinement(records, 1, refining.refinement(rows[trial], 0.5 + trial / 10, epochs=epochs))
    records.close()
    assert main(words(folder, "--show")) == 0
    said = capsys.readouterr()
    assert [line.split()[6] for line in said.out.splitlines()[2:]] == ["1", "1", "1"]
    assert [line.split()[7] for line in said.out.splitlines()[2:]] == ["16", "8", "8"]
    assert "Not all were trained for as many epochs" in said.err
    assert "Front by the means: 3 of the 3, the same as by brief training." in said.err
    assert main(words(folder, "--show", "--epochs", "8", "--json")) == 0
    assert [one["epochs"] for one in json.loads(capsys.readouterr().out)["networks"]] == [8, 8, 8]
    assert main(words(folder, "--show", "--epochs", "5")) == 1
    assert "no network of study 's' is refined so yet" in capsys.readouterr().err
