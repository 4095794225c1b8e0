"""A known network trained beside a study: once, recorded, resumable, and every mistake in one line."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import torch
from safetensors.torch import load

from nas import references
from nas.architecture import Architecture
from nas.baseline_rows import Baseline, baselines
from nas.baselines import memory, published
from nas.baselines import train as train_module
from nas.baselines.options import TrainOptions
from nas.baselines.published import Published
from nas.baselines.train import train
from nas.cli import main
from nas.data import load_dataset, streaming
from nas.errors import ArchitectureError, DataError, DeviceError, NasError, StudyError, TrialFailed
from nas.evaluation import evaluate
from nas.models import build_reference
from nas.plain import Linear, PlainConv, PlainNetwork
from nas.reading import accuracy
from nas.recipe import Recipe
from nas.records import Records
from nas.references import Reference
from nas.refined import refinements
from nas.search.options import SearchOptions
from nas.search.setup import identity_of, settings_of
from nas.search.study import create_study
from nas.space import load_space
from nas.study_folder import StudyFolder
from nas.tables import baseline_table
from tests import refining
from tests.pictures import pictures
from tests.searches import wait_for
from tests.training_inputs import network

LIMIT = 120
STUDY = "baselines-digits-120"


def little(input_shape: tuple[int, int, int], classes: int) -> PlainNetwork:
    return PlainNetwork(input_shape, (PlainConv(6), Linear(classes)))


def modules(input_shape: tuple[int, int, int], classes: int) -> Architecture:
    return replace(network(dropout=0.2), input_shape=input_shape, classes=classes)


RECIPE = Published(
    epochs=3,
    batch=32,
    optimiser="adam",
    learning_rate=3e-3,
    mean=(0.3, 0.3, 0.3),
    std=(0.35, 0.35, 0.35),
    trained_on="all of its images",
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks that train in no time, beside the known ones."""
    for name, design in (("little", little), ("modules", modules)):
        one = Reference(name, "a small one", "a test", (3, 8, 8), 10, "", design)
        monkeypatch.setitem(references.REFERENCES, name, one)
        monkeypatch.setitem(published.PUBLISHED, name, RECIPE)


def options(studies: Path, **changes: Any) -> TrainOptions:
    given = {"name": "little", "dataset": "digits", "train_limit": LIMIT, "resize": 8, "device": "cpu"}
    return TrainOptions(**{**given, "studies_dir": str(studies), **changes})


def run(studies: Path, **changes: Any) -> tuple[Baseline, list[str]]:
    said: list[str] = []
    return train(options(studies, **changes), said.append)[1], said


def recorded(studies: Path, name: str = STUDY) -> list[Baseline]:
    with closing(Records(StudyFolder(studies, name).url)) as records:
        return baselines(records, records.study(name).id)


def same(row: Baseline) -> Baseline:
    """Without what a clock decides."""
    moment = row.started_at.replace(year=2000, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return replace(row, seconds=0, started_at=moment, finished_at=moment)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Baseline]]:
    """One training by the published recipe that ran through."""
    with pytest.MonkeyPatch.context() as patch:
        small.__wrapped__(patch)  # type: ignore[attr-defined]
        studies = tmp_path_factory.mktemp("done")
        yield studies, run(studies)[0]


def test_a_training_leaves_its_row_weights_and_table(done: tuple[Path, Baseline]) -> None:
    studies, row = done
    assert recorded(studies) == [row]
    assert (row.kind, row.name, row.recipe_name, row.epochs, row.replicate) == (
        "reference",
        "little",
        "published",
        3,
        0,
    )
    assert (row.params, row.macs) == (6 * 3 * 9 + 3 * 6 + (6 * 64 + 1) * 10, 6 * 3 * 9 * 64 + 6 * 64 * 10)
    assert row.input_shape == (3, 8, 8)
    assert row.architecture is None
    assert [epoch for epoch, _, _ in row.curve] == [1, 2, 3]
    assert row.val_accuracy == row.curve[-1][1] > 0.3
    images = load_dataset("digits", input_shape=(3, 8, 8), train_limit=LIMIT)
    assert (row.dataset, row.split) == (images.digest, images.split_digest)
    assert row.confusion is not None
    assert [sum(line) for line in row.confusion] == images.validation.labels.bincount().tolist()
    right = sum(line[label] for label, line in enumerate(row.confusion))
    assert right / len(images.validation) == row.val_accuracy

    folder = StudyFolder(studies, STUDY).path / "baselines"
    (path,) = folder.glob("*.safetensors")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.weights_sha256
    net = build_reference(references.reference("little"), 10)
    net.load_state_dict(load(path.read_bytes()))
    assert accuracy(net, images.validation, RECIPE.mean, RECIPE.std) == row.val_accuracy
    assert sorted(one.suffix for one in folder.iterdir()) == [".csv", ".safetensors"]


def test_the_table_has_true_classes_as_rows_and_the_dashboard_has_it_too(done: tuple[Path, Baseline]) -> None:
    studies, row = done
    (path,) = (StudyFolder(studies, STUDY).path / "baselines").glob("*.csv")
    head, *lines = csv.reader(path.read_text().splitlines())
    assert head == ["true class", "images", "right", "accuracy", *(f"answer {digit}" for digit in range(10))]
    assert row.confusion is not None
    assert [tuple(map(int, line[4:])) for line in lines] == list(row.confusion)
    for label, (name, all_of, right, part, *_) in enumerate(lines):
        counts = row.confusion[label]
        assert (name, int(all_of), int(right)) == (str(label), sum(counts), counts[label])
        assert float(part) == pytest.approx(row.class_accuracies[label] or 0.0, abs=1e-6)
    storage = optuna.storages.RDBStorage(StudyFolder(studies, STUDY).url)
    study = optuna.load_study(study_name=STUDY, storage=storage)
    (meta,) = optuna.artifacts.get_all_artifact_meta(study)
    storage.engine.dispose()
    assert meta.filename == path.name
    copy = StudyFolder(studies, STUDY).artifacts / meta.artifact_id
    assert copy.read_bytes() == path.read_bytes()


def test_the_made_study_has_no_trials_and_a_front_that_says_so(
    done: tuple[Path, Baseline], capsys: pytest.CaptureFixture[str]
) -> None:
    studies, _ = done
    assert main(["front", STUDY, "--studies-dir", str(studies)]) == 0
    assert "No trial is complete yet, so there is no front." in capsys.readouterr().err
    assert main(["show", STUDY, "--studies-dir", str(studies), "--trial", "0"]) == 1


def test_an_equal_one_is_not_trained_twice(done: tuple[Path, Baseline], monkeypatch: pytest.MonkeyPatch) -> None:
    studies, row = done
    monkeypatch.setattr(train_module, "PublishedTraining", None)
    again, said = run(studies)
    assert again == row
    assert said == ["little is on record as asked, trained on cpu: nothing is trained twice."]
    assert run(studies, epochs=3)[0] == row
    with pytest.raises(TypeError, match="NoneType"):  # it would be trained
        run(studies, epochs=2)


def test_seed_epochs_and_side_make_another_training(done: tuple[Path, Baseline], tmp_path: Path) -> None:
    _, row = done
    found = [run(tmp_path, **change)[0] for change in ({}, {"seed": 1}, {"epochs": 1}, {"resize": 10})]
    assert same(found[0]) == same(row)
    assert len({one.seed for one in found}) == 3  # another side is another network; other epochs are not another seed
    assert found[1].val_accuracy != row.val_accuracy or found[1].curve != row.curve
    assert found[3].input_shape == (3, 10, 10)
    assert len(recorded(tmp_path)) == 4


class Ended(KeyboardInterrupt):
    pass


def ends_at(words: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        if line.startswith(words):
            raise Ended

    return say


@pytest.mark.parametrize("recipe", ["published", "study"])
def test_interrupted_it_goes_on_to_the_same_bits(tmp_path: Path, recipe: str) -> None:
    through, _ = run(tmp_path / "through", recipe=recipe, epochs=4)
    studies = tmp_path / "cut"
    with pytest.raises(Ended):
        train(options(studies, recipe=recipe, epochs=4), ends_at("epoch 3 "))
    assert recorded(studies) == []
    folder = StudyFolder(studies, STUDY).path / "baselines"
    (kept,) = folder.glob("*.pt")
    half = kept.with_name(f".{kept.name}.99")  # as a kill in the middle of writing leaves it
    half.write_bytes(b"half")
    row, said = run(studies, recipe=recipe, epochs=4)
    assert "It goes on after epoch 2." in said
    assert [line.split(":")[0] for line in said if line.startswith("epoch")] == ["epoch 3 of 4", "epoch 4 of 4"]
    assert same(row) == same(through)
    assert sorted(one.suffix for one in folder.iterdir()) == [".csv", ".safetensors"]


def test_a_damaged_checkpoint_begins_anew(tmp_path: Path, done: tuple[Path, Baseline]) -> None:
    with pytest.raises(Ended):
        train(options(tmp_path), ends_at("epoch 3 "))
    (path,) = (StudyFolder(tmp_path, STUDY).path / "baselines").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-9])
    row, said = run(tmp_path)
    assert any("is damaged; that training begins anew" in line for line in said)
    assert same(row) == same(done[1])


def test_killed_between_row_and_table_the_table_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: Any) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "write_artifact", killed)
        with pytest.raises(Ended):
            run(tmp_path)
    (row,) = recorded(tmp_path)
    assert run(tmp_path)[0] == row
    assert len(list((StudyFolder(tmp_path, STUDY).path / "baselines").glob("*.csv"))) == 1


def test_the_same_training_in_another_process_is_waited_for(tmp_path: Path) -> None:
    def say(line: str) -> None:
        if line.startswith("epoch 1 "):
            with pytest.raises(StudyError, match="another command trains little just so in this study"):
                run(tmp_path)
            run(tmp_path, seed=1, epochs=1)  # another one may go on

    train(options(tmp_path), say)
    assert len(recorded(tmp_path)) == 2


def test_a_lock_file_that_was_taken_away_holds_nobody_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, then unlinked by the training that ended: the lock is taken on the file that others will find."""
    path = tmp_path / "baselines" / "a.lock"
    real, calls = fcntl.flock, []

    def flock(file: Any, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(how)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with train_module._locked(path, "a"):
        assert len(calls) == 2
        with pytest.raises(StudyError, match="another command trains a"):
            train_module._locked(path, "a")


def test_a_study_is_not_deleted_under_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    delete = ["studies", "delete", STUDY, "--yes", "--studies-dir", str(tmp_path)]

    def say(line: str) -> None:
        if line.startswith("epoch 1 "):
            assert main(delete) == 1
            assert f"study '{STUDY}' is in use: nas baselines train runs on it" in capsys.readouterr().err

    train(options(tmp_path), say)
    assert len(recorded(tmp_path)) == 1
    assert main(delete) == 0


def test_the_three_that_watched_the_test_images_say_so() -> None:
    watched = {name for name, one in references.REFERENCES.items() if one.watched_test}
    assert watched == {"alexnet-cifar-plain", "alexnet-cifar", "nin-cifar"}


# By the study's recipe


def searched(studies: Path, name: str = "own", **changes: Any) -> StudyFolder:
    """A study of 3x8x8 images as a search makes it, without trials."""
    space = load_space("tiny")
    text = space.toml
    for old, new in (("[1, 8, 8]", "[3, 8, 8]"), ("low = 900", "low = 1_100"), ("low = 10_000", "low = 20_000")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = studies / "space.toml"
    studies.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    search = SearchOptions(
        space=str(path),
        dataset="digits",
        study=name,
        studies_dir=str(studies),
        train_limit=LIMIT,
        device="cpu",
        **changes,
    )
    of = search.check()
    images = load_dataset("digits", input_shape=(3, 8, 8), train_limit=LIMIT)
    folder = search.folder(of)
    made = create_study(
        folder.url, name, identity_of(search, of, images), settings_of(search, of, images, torch.device("cpu"))
    )
    made.records.close()
    return folder


def test_by_the_study_recipe_it_is_trained_as_a_trial_would_be(tmp_path: Path) -> None:
    folder = searched(tmp_path, seed=5)
    change = {"name": "modules", "study": "own", "dataset": None, "resize": None, "train_limit": None}
    row, _ = run(tmp_path, **change, recipe="study", epochs=2)
    architecture = modules((3, 8, 8), 10)
    assert (row.architecture, row.key) == (architecture, architecture.key)
    with closing(Records(folder.url)) as records:
        recipe = Recipe.model_validate({**records.study("own").identity["space"]["recipe"], "epochs": 2})
    images = load_dataset("digits", input_shape=(3, 8, 8), train_limit=LIMIT)
    trial = evaluate(architecture, images, recipe, seed=row.seed, device="cpu")
    assert row.curve == tuple((one.epoch, one.val_accuracy, one.train_loss) for one in trial.curve)
    assert row.seed == train_module.training_seed(5, architecture.key, 0)
    assert row.recipe == recipe.model_dump(mode="json")
    assert recorded(tmp_path, "own") == [row]
    # by default as many epochs as the study's trials
    assert options(tmp_path, **change).epochs is None
    assert run(tmp_path, **change, recipe="study")[0].epochs == load_space("tiny").recipe.epochs


def test_a_single_module_is_trained_by_the_study_recipe_only(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="train it with --recipe study"):
        run(tmp_path, name="inception-v1-module")
    assert not list(tmp_path.iterdir())


def test_a_study_of_an_older_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    folder = refining.write(tmp_path)
    with closing(Records(folder.url)) as records, records.writing() as connection:
        connection.exec_driver_sql("UPDATE nas_version SET number = 3")
        connection.exec_driver_sql("ALTER TABLE nas_evaluation DROP COLUMN confusion")
        baseline_table.drop(connection)
    row, _ = run(tmp_path, study="s", dataset=None, train_limit=None)
    assert recorded(tmp_path, "s") == [row]
    with closing(Records(folder.url)) as records:
        assert refinements(records, 1) == []
        assert len(records.rows("s")) == len(refining.POINTS)


# Mistakes


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"name": "alexnet-cifer"}, ArchitectureError, "unknown reference network 'alexnet-cifer': did you mean"),
        ({"name": "googlenet"}, StudyError, "ImageNet and is not kept here: train it with --recipe study"),
        ({"recipe": "own"}, StudyError, "unknown --recipe 'own': allowed: published, study"),
        ({"epochs": 0}, StudyError, "--epochs 0: it must be a whole number of at least 1"),
        ({"train_limit": 0}, StudyError, "--train-limit 0: it must be"),
        ({"resize": 0}, StudyError, "--resize 0: it must be"),
        ({"seed": -1}, StudyError, "--seed -1: it must be in 0..4294967295"),
        ({"dataset": None}, StudyError, "neither --study nor --dataset"),
        ({"dataset": "digit"}, DataError, "unknown dataset 'digit': did you mean 'digits'"),
        ({"dataset": "folder:gone"}, DataError, "gone"),
        ({"device": "cuda:77"}, DeviceError, "device 'cuda:77' is not there"),
        ({"device": "tpu"}, DeviceError, "unknown device 'tpu'"),
        (
            {"name": "googlenet", "recipe": "study", "resize": 8},
            ArchitectureError,
            "googlenet cannot read images of 8x8",
        ),
        (
            {"resize": None},
            DataError,
            "images of 'digits' are 1x8x8, little reads 3x8x8: --resize 8 loads them so",
        ),
        (
            {"resize": 16, "memory": 240_000},
            DeviceError,
            "batches of 32 images at 3x16x16 need at least 0.000394 GB .* take a smaller --resize",
        ),
        (
            {"resize": 10, "memory": 500_000},  # a step fits, all images do not
            DataError,
            "1,797 images of 1x8x8 at an input of 3x10x10 need 0.00108 GB .* or a smaller --resize",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], kind: type[NasError], words: str
) -> None:
    change = dict(change)
    if "memory" in change:
        there = change.pop("memory")
        monkeypatch.setattr(streaming, "memory", lambda: there)
    with pytest.raises(kind, match=words) as error:
        run(tmp_path, **change)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("[!.]*"))


def test_images_of_a_study_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    refining.write(tmp_path)
    change = {"study": "s", "dataset": None, "train_limit": None, "resize": None}
    with pytest.raises(DataError, match="images of study 's' are 1x8x8, little reads 3x8x8: --resize 8 loads them so"):
        run(tmp_path, **change)
    with pytest.raises(StudyError, match="study 's' was made with --train-limit 120, this command says 121"):
        run(tmp_path, **{**change, "train_limit": 121, "resize": 8})
    others = pictures(tmp_path / "others", {"a": 9, "b": 9})
    with pytest.raises(DataError, match="are not those that study 's' was made from"):
        run(tmp_path, **{**change, "dataset": f"folder:{others}", "resize": 8})
    assert recorded(tmp_path, "s") == []


def test_another_version_of_training_cannot_be_followed(tmp_path: Path) -> None:
    refining.write(tmp_path, training_version=0)
    change = {"study": "s", "dataset": None, "train_limit": None, "epochs": 1}
    with pytest.raises(StudyError, match="study 's' was trained by version 0 of training"):
        run(tmp_path, **change, recipe="study")
    assert run(tmp_path, **change)[0].recipe_name == "published"


def test_a_step_that_the_device_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # conv, norm and linear outputs of 32 images in four bytes
    needed = 4 * 32 * (6 * 64 + 6 * 64 + 10)
    monkeypatch.setattr(memory, "device_memory", lambda device: needed)
    run(tmp_path, epochs=1)
    monkeypatch.setattr(memory, "device_memory", lambda device: needed - 1)
    with pytest.raises(DeviceError, match=r"published recipe's batches of 32 images at 3x8x8 need at least .* GB"):
        run(tmp_path, epochs=2)


def failing(monkeypatch: pytest.MonkeyPatch, failure: TrialFailed) -> None:
    def fit(self: object) -> Iterator[Any]:
        raise failure
        yield

    monkeypatch.setattr(train_module.PublishedTraining, "fit", fit)


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("out of memory: too much", DeviceError, "batches of 32 at 3x8x8, cannot run on cpu: out of memory: too much"),
        ("epoch 2: the training loss is nan", StudyError, "seed 0: epoch 2: the training loss is nan; nothing is"),
    ],
)
def test_a_training_that_fails_is_said_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, kind: type[NasError], words: str
) -> None:
    failing(monkeypatch, TrialFailed(reason))
    with pytest.raises(kind, match=words):
        run(tmp_path)
    assert recorded(tmp_path) == []
    assert not list((StudyFolder(tmp_path, STUDY).path / "baselines").iterdir())


# The command


def command(studies: Path, *more: str) -> list[str]:
    place = ["--studies-dir", str(studies), "--train-limit", str(LIMIT), "--resize", "8", "--device", "cpu"]
    return ["baselines", "train", "little", "--dataset", "digits", "--epochs", "2", *place, *more]


def test_the_command_prints_a_line_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split()[:4] == ["little", "published", "2", "0"]
    assert "validation images come out of the training images, as the study's split says" in err
    assert "The published accuracy is of one run, which trained on all of its images; it is on test images" in err
    assert main(command(tmp_path, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = recorded(tmp_path)
    assert found["val_accuracy"] == row.val_accuracy
    assert found["recipe"] == row.recipe
    assert found["confusion"] == [list(line) for line in row.confusion or ()]
    assert found["class_accuracies"] == list(row.class_accuracies)


def test_before_a_training_stands_what_its_published_run_did_and_both_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = replace(references.REFERENCES["little"], module=references.V1, watched_test=True)
    monkeypatch.setitem(references.REFERENCES, "little", one)
    assert main(command(tmp_path)) == 0
    err = capsys.readouterr().err
    assert "of one run, which trained on all of its images, and watched the test images every epoch; it is on" in err
    both = f"{one.params(10):,} with its wrapper, the module alone 177,376"
    assert f"little, {both}, at 3x8x8, by the published recipe" in err
    assert f"little: {both}." in err


def test_ctrl_c_ends_with_130_and_keeps_whole_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "train", interrupted)
    assert main(command(tmp_path)) == 130
    assert "the same command goes on after the last one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["baselines", "train", "nin-cifer", "--dataset", "digits"], "did you mean 'nin-cifar'"),
        (["baselines", "train", "little", "--study", "gone"], "no study 'gone'"),
        (["baselines", "train", "little"], "neither --study nor --dataset is given"),
        (
            ["baselines", "train", "little", "--dataset", "digits", "--storage", "sqlite:///x"],
            "--storage without --study",
        ),
    ],
)
def test_the_commands_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main([*words, "--studies-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.slow
def test_kill_9_loses_no_epoch(tmp_path: Path) -> None:
    """A real network in a process of its own, killed once its first epoch is kept."""
    words = ["nas", "baselines", "train", "inception-cifar", "--dataset", "digits", "--resize", "32", "--epochs", "2"]
    words = [sys.executable, "-m", *words, "--train-limit", "64", "--studies-dir", str(tmp_path), "--device", "cpu"]
    folder = StudyFolder(tmp_path, "baselines-digits-64").path / "baselines"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=environment, start_new_session=True) as process:
        wait_for(lambda: bool(list(folder.glob("[!.]*.pt"))) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGKILL)
    ended = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "It goes on after epoch 1." in ended.stderr
    (row,) = recorded(tmp_path, "baselines-digits-64")
    assert [epoch for epoch, _, _ in row.curve] == [1, 2]
    with closing(Records(StudyFolder(tmp_path, "baselines-digits-64").url)) as records, records.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(baseline_table)).scalar() == 1
