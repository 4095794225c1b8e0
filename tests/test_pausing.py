"""Trials that are set aside: one curve however often it was interrupted, nothing lost, nothing left open."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from nas.outcome import Outcome
from nas.records import Records
from nas.search.checkpoints import Checkpoints
from nas.search.claims import Claims
from nas.search.liveness import Worker
from nas.search.loop import STATES
from nas.search.pruners import PRUNERS
from nas.search.pruners.one_epoch import OneEpochPruner
from nas.search.recovery import recover
from nas.search.study import OpenStudy, create_study
from nas.search.worker_storage import WorkerStorage
from nas.study_folder import StudyFolder
from nas.training import Training
from tests.searches import check, paused, rows, running, search, trials, wait_for, zombies
from tests.test_claims import IDENTITY, row
from tests.training_inputs import RECIPE, dataset, network

TRIALS = 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[tuple[int, float, float], ...]]:
    """The curves of a search without a pruner, by key: what every interrupted one must come to."""
    path = tmp_path_factory.mktemp("whole")
    search(path, "--trials", str(TRIALS), "--sampler", "random", "--pruner", "none", "--epochs", "4")
    return {found.key: found.curve for found in check(path, TRIALS)}


def begun(studies: Path) -> bool:
    """A first network has ended, so the tables are there."""
    folder = StudyFolder(studies, "tiny").path
    return (folder / "weights").is_dir()


def test_a_search_that_pauses_ends_with_every_trial_told_and_whole_curves(tmp_path: Path, whole: dict) -> None:
    said = search(tmp_path, "--trials", str(TRIALS), "--sampler", "random", "--epochs", "4")
    assert "paused" in said
    found = check(tmp_path, TRIALS)
    assert {one.key for one in found} == set(whole)
    resumed = [one for one in found if one.state == "complete" and f"trial {one.trial:>4}  paused" in said]
    assert resumed, "no trial was taken up again: the test shows nothing"
    for one in found:
        assert one.curve == whole[one.key][: len(one.curve)]
        assert (one.state == "complete") == (len(one.curve) == 4)
        assert (one.reason is None) == (one.state == "complete")


def test_killed_with_paused_trials_the_same_command_goes_on_with_them(tmp_path: Path, whole: dict) -> None:
    options = ("--trials", str(TRIALS), "--sampler", "random", "--epochs", "4")
    with running(tmp_path, *options) as process:
        wait_for(lambda: begun(tmp_path) and len(paused(tmp_path)) >= 2)
        os.killpg(process.pid, signal.SIGKILL)
    aside = paused(tmp_path)
    # One of the checkpoints is lost, one is damaged: the curves are the same all the same.
    files = sorted(StudyFolder(tmp_path, "tiny").path.glob("paused/*.pt"))
    assert len(files) >= len(aside)
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    said = search(tmp_path, *options)
    found = {one.trial: one for one in check(tmp_path, TRIALS)}
    assert aside <= set(found)
    assert not zombies(tmp_path)
    assert f"{TRIALS}/{TRIALS} trials" in said
    # What a resumed search draws differs from then on.
    known = [one for one in found.values() if one.state != "failed" and one.key in whole]
    assert {one.trial for one in known} >= aside
    for one in known:
        assert one.curve == whole[one.key][: len(one.curve)]


def test_interrupted_it_keeps_them_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--trials", "200", "--sampler", "random") as process:
        wait_for(lambda: begun(tmp_path) and len(paused(tmp_path)) >= 1)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130
    assert not zombies(tmp_path)
    aside = [one for one in rows(tmp_path) if one.state == "paused"]
    assert all("points behind trial" in (one.reason or "") for one in aside)
    records = Records(StudyFolder(tmp_path, "tiny").url)
    assert f"{len(aside)} paused" in Outcome.read(records, "tiny").headline
    records.close()
    for trial in trials(tmp_path):
        if trial.number in {one.trial for one in aside}:
            assert trial.state == TrialState.RUNNING
            assert trial.intermediate_values


# ---- claims


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenStudy]:
    made = create_study(f"sqlite:///{tmp_path / 'study.db'}", "s", IDENTITY, {})
    yield made
    made.records.close()


def aside(opened: OpenStudy, worker: str = "w") -> int:
    """A paused trial: its number."""
    trial = opened.study.ask()
    claims = Claims(opened.records, opened.record.id, worker)
    place = claims.place(100)
    assert isinstance(place, int)
    one = row(trial.number, state="paused", reason="behind")
    assert claims.network(place, trial.number, one.key)
    claims.pause(place, one)
    return trial.number


def test_a_paused_trial_keeps_its_place_and_its_network(opened: OpenStudy) -> None:
    number = aside(opened)
    claims = Claims(opened.records, opened.record.id, "w")
    assert claims.paused() == [number]
    assert not claims.busy()
    assert claims.place(1) == "full"
    other = claims.place(2)
    assert isinstance(other, int)
    assert claims.busy()
    assert not claims.network(other, 7, row(number).key)


def test_one_worker_resumes_it_and_no_second(opened: OpenStudy) -> None:
    number = aside(opened)
    first, second = (Claims(opened.records, opened.record.id, name) for name in ("a", "b"))
    taken = first.resume(number)
    assert taken is not None
    assert taken[1].state == "paused"
    assert second.resume(number) is None
    assert first.busy()
    assert first.paused() == []
    first.finish(taken[0], row(number))
    assert [one.state for one in opened.records.rows("s")] == ["complete"]  # in place of the paused one
    assert first.place(1) == "done"


def test_a_dead_worker_leaves_what_it_had_resumed_paused(opened: OpenStudy) -> None:
    number = aside(opened)
    assert Claims(opened.records, opened.record.id, "dead").resume(number) is not None
    running = opened.study.ask().number  # and one that it had begun
    claims = Claims(opened.records, opened.record.id, "dead")
    place = claims.place(100)
    assert isinstance(place, int)
    assert claims.network(place, running, row(running).key)
    assert recover(opened).failed == 1
    assert Claims(opened.records, opened.record.id, "w").paused() == [number]
    states = {trial.number: trial.state for trial in opened.study.get_trials()}
    assert states == {number: TrialState.RUNNING, running: TrialState.FAIL}


def test_recovery_leaves_paused_trials_and_living_workers_alone(opened: OpenStudy, tmp_path: Path) -> None:
    number = aside(opened)
    with Worker(opened.records, opened.record.id, tmp_path / "workers") as worker:
        assert Claims(opened.records, opened.record.id, worker.id).resume(number) is not None
        assert recover(opened).failed == 0
        assert Claims(opened.records, opened.record.id, "w").paused() == []
    recover(opened)
    assert Claims(opened.records, opened.record.id, "w").paused() == [number]


def test_a_trial_that_a_dead_worker_had_just_asked_for_is_its_own(opened: OpenStudy, tmp_path: Path) -> None:
    assert isinstance(opened.storage, WorkerStorage)
    opened.storage.owner = "dead"
    left = opened.study.ask().number  # killed before its place knew of it
    with Worker(opened.records, opened.record.id, tmp_path / "workers") as worker:
        assert isinstance(Claims(opened.records, opened.record.id, worker.id).place(100), int)  # it asks meanwhile
        opened.storage.owner = worker.id
        asked = opened.study.ask().number
        assert recover(opened).failed == 1
        states = {trial.number: trial.state for trial in opened.study.get_trials()}
        assert states == {left: TrialState.FAIL, asked: TrialState.RUNNING}


# ---- checkpoints


def training() -> Training:
    return Training(network(), dataset(), RECIPE, seed=3, device="cpu")


def test_a_checkpoint_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    whole = [(one.epoch, one.val_accuracy, one.train_loss) for one in training().fit()]
    kept = Checkpoints(StudyFolder(tmp_path, "s"))
    first = training()
    before = next(first.fit())
    kept.keep(first, "key")
    second = training()
    assert kept.restore(second, "key") is None
    after = [(one.epoch, one.val_accuracy, one.train_loss) for one in second.fit()]
    assert [(before.epoch, before.val_accuracy, before.train_loss), *after] == whole
    kept.drop("key", was_paused=True)
    assert list((tmp_path / "s" / "paused").iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "foreign", "pickle"])
def test_a_lost_checkpoint_costs_time_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    folder = StudyFolder(tmp_path, "s")
    kept, first = Checkpoints(folder), training()
    next(first.fit())
    kept.keep(first, "key")
    path = folder.paused("key")
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        torch.save({"identity": "another", "epoch": 1}, path)
    elif damage == "pickle":
        torch.save(shutil.rmtree, path)  # what weights_only refuses to run
    else:
        path.write_bytes(path.read_bytes()[: 200 if damage == "cut" else 0])
    second = training()
    said = kept.restore(second, "key")
    assert said is not None
    assert str(path) in said
    assert "begins anew" in said
    assert next(second.fit()).epoch == 1


# ---- which one is resumed


def study_of(*curves: tuple[float, dict[int, float], bool]) -> optuna.Study:
    """(cost, values by epoch, complete) of each trial of 9 epochs; what is not complete runs."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for cost, values, complete in curves:
        trial = study.ask()
        trial.set_user_attr("cost", cost)
        for step, value in values.items():
            trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        if complete:
            study.tell(trial, [values[9], cost])
    return study


def front_of(count: int) -> list[tuple[float, dict[int, float], bool]]:
    """Completed trials on the front, each a little behind at epoch 1: at most 5 points."""
    return [
        (10.0 + i, {1: 0.5 + 0.01 * i - 0.05 * (i % 2), 3: 0.6 + 0.01 * i, 9: 0.7 + 0.01 * i}, True)
        for i in range(count)
    ]


def test_the_least_behind_inside_the_margins_is_resumed_first() -> None:
    pruner = PRUNERS["conformal"].for_search(seed=0, last_step=9, validation_images=1000)
    ahead = 0.5 + 0.01 * 19
    behind = [(100.0, {1: ahead - by}, False) for by in (0.30, 0.03, 0.02, 0.045)]
    study = study_of(*front_of(20), *behind)
    assert pruner.resume(study, [20, 21, 22, 23], last=False) == 22
    assert pruner.resume(study, [20, 21, 23], last=False) == 21
    assert pruner.resume(study, [20], last=False) is None
    assert pruner.resume(study, [20], last=True) is None
    assert pruner.resume(study, [], last=True) is None


def test_with_too_little_to_calibrate_nothing_is_resumed_but_in_the_end() -> None:
    pruner = PRUNERS["conformal"].for_search(seed=0, last_step=9, validation_images=1000)
    study = study_of(*front_of(3), (100.0, {1: 0.2}, False), (101.0, {1: 0.3}, False))
    assert pruner.resume(study, [3, 4], last=False) is None
    assert pruner.resume(study, [3, 4], last=True) == 4


@pytest.mark.parametrize(("pruner", "end"), [("none", "complete"), ("conformal-stop", "pruned")])
def test_another_rule_ends_what_was_set_aside(tmp_path: Path, pruner: str, end: str) -> None:
    with running(tmp_path, "--trials", "200", "--sampler", "random") as process:
        wait_for(lambda: begun(tmp_path) and len(paused(tmp_path)) >= 2)
        os.killpg(process.pid, signal.SIGKILL)
    aside = paused(tmp_path)
    total = sum(one.state in ("complete", "pruned") for one in rows(tmp_path)) + len(aside)
    search(tmp_path, "--trials", str(total), "--sampler", "random", "--pruner", pruner)
    assert {one.state for one in check(tmp_path, total) if one.trial in aside} == {end}


def test_one_epoch_reads_all_and_completes_the_best_quarter() -> None:
    pruner = OneEpochPruner()
    values = [0.5, 0.6, 0.4, 0.7, 0.3, 0.55, 0.2, 0.1]  # on the front at epoch 1, by rising cost: 0, 1 and 3
    study = study_of(*((10.0 + i, {1: value}, False) for i, value in enumerate(values)))
    assert all(pruner.prune(study, trial) for trial in study.get_trials())
    aside = list(range(8))
    assert pruner.resume(study, aside, last=False) is None
    assert pruner.resume(study, aside, last=True) == 0
    aside.remove(0)
    assert pruner.resume(study, aside, last=True) == 1
    aside.remove(1)
    assert pruner.resume(study, aside, last=True) is None  # two of eight
    trials = study.get_trials(deepcopy=False)
    study._storage.set_trial_intermediate_value(trials[0]._trial_id, 2, 0.1)
    assert not pruner.prune(study, study.get_trials()[0])  # what goes on is not asked again


def test_only_rules_that_resume_set_aside() -> None:
    assert [name for name, kind in PRUNERS.items() if kind.pauses] == ["conformal"]
    assert set(STATES) == {"complete", "pruned", "failed"}
