"""One full training: from its start or its checkpoint to its weights and its row, the same result either way."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nas.errors import DataError, StudyError, TrialFailed
from nas.models import build
from nas.outcome import Outcome
from nas.reading import accuracy
from nas.recipe import Recipe
from nas.records import Records
from nas.refine import checkpoints
from nas.refine.checkpoints import write_whole
from nas.refine.options import RefineOptions
from nas.refine.worker import RefineWorker
from nas.refined import Refinement, recipe_hash
from nas.search.loop import Interrupted, Stop
from nas.seeds import training_seed
from nas.study_folder import StudyFolder
from nas.study_images import load_images
from tests import refining
from tests.pictures import pictures

EPOCHS = 4


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return refining.write(tmp_path / "studies")


class Station:
    """A worker in this process, stopped when it has said a word `times` times."""

    def __init__(self, folder: StudyFolder, *, stop_at: tuple[str, int] | None = None, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._stop, self._stop_at = Stop(), stop_at
        asked = RefineOptions(
            folder.name, folder.url, str(folder.studies_dir), **{"epochs": EPOCHS, "device": "cpu", **options}
        )
        records = Records(folder.url)
        self.recipe = asked.recipe(Outcome.read(records, folder.name))
        records.close()
        self.worker = RefineWorker(asked, self.recipe, 0, self._stop, self._emit)

    def _emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if self._stop_at is not None:
            kind, times = self._stop_at
            if sum(one["event"] == kind for one in self.events) == times:
                self._stop.ask()

    def train(self, trial: int = 1, replicate: int = 1) -> None:
        try:
            self.worker.train(trial, replicate)
        finally:
            self.worker.close()

    def checkpoint(self, folder: StudyFolder, key: str) -> Path:
        return folder.refining(key, recipe_hash(self.recipe), 1)


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Refinement:
    """One training that ran through."""
    folder = refining.write(tmp_path_factory.mktemp("through"))
    Station(folder).train()
    (found,) = refining.recorded(folder)
    return found


def test_a_training_leaves_its_weights_and_its_row(folder: StudyFolder) -> None:
    row = refining.networks()[1]
    station = Station(folder)
    station.train()
    (found,) = refining.recorded(folder)
    assert (found.trial, found.key, found.replicate, found.epochs) == (1, row.key, 1, EPOCHS)
    assert found.seed == training_seed(3, row.key, 1)
    assert found.seed != training_seed(3, row.key)
    assert found.recipe == {**refining.RECIPE.model_dump(mode="json"), "epochs": EPOCHS}
    assert [epoch for epoch, _, _ in found.curve] == [1, 2, 3, 4]
    assert found.val_accuracy == found.curve[-1][1]
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())
    assert found.started_at < found.finished_at
    assert found.versions is not None
    assert {"nas", "torch"} <= set(found.versions)

    path = folder.refined(row.key, found.recipe_hash, 1)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == found.weights_sha256
    network = build(row.architecture)
    network.load_state_dict(load_file(path))
    records = Records(folder.url)
    images = load_images(Outcome.read(records, "s"), input_shape=(1, 8, 8))
    records.close()
    assert accuracy(network.eval(), images.validation, images.mean, images.std) == found.val_accuracy
    assert not list((folder.path / "refining").iterdir())
    assert [event["event"] for event in station.events] == ["begun", *["epoch"] * EPOCHS, "done"]


@pytest.mark.parametrize("after", [1, 3])
def test_stopped_after_an_epoch_it_goes_on_to_the_same_result(
    folder: StudyFolder, through: Refinement, after: int
) -> None:
    first = Station(folder, stop_at=("epoch", after))
    with pytest.raises(Interrupted):
        first.train()
    assert refining.recorded(folder) == []
    assert first.checkpoint(folder, refining.networks()[1].key).is_file()
    second = Station(folder)
    second.train()
    assert second.events[0] == {"event": "begun", "trial": 1, "replicate": 1, "epoch": after}
    assert refining.same(refining.recorded(folder)) == refining.same([through])
    assert not list((folder.path / "refining").iterdir())


def test_asked_to_stop_before_it_begins_it_trains_nothing(folder: StudyFolder) -> None:
    station = Station(folder, stop_at=("begun", 1))
    with pytest.raises(Interrupted):
        station.train()
    assert [event["event"] for event in station.events] == ["begun"]


def test_asked_to_stop_in_its_last_epoch_it_ends_whole(folder: StudyFolder) -> None:
    Station(folder, stop_at=("epoch", EPOCHS)).train()
    assert len(refining.recorded(folder)) == 1


def test_killed_between_its_weights_and_its_row_it_is_done_again_to_the_same(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, through: Refinement
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("nas.refine.worker.add_refinement", kill)
        with pytest.raises(Killed):
            Station(folder).train()
    station = Station(folder)
    station.train()
    assert station.events[0]["epoch"] == EPOCHS - 1
    assert refining.same(refining.recorded(folder)) == refining.same([through])


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _summed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


class Planted:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self._path), "w")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncated, "is damaged; that training begins anew"),
        (_flipped, "is damaged; that training begins anew"),
        (lambda content: b"", "is damaged; that training begins anew"),
        (lambda content: _summed(b"not torch's"), "is no checkpoint of this training"),
    ],
    ids=["truncated", "flipped bit", "empty", "another file"],
)
def test_a_damaged_checkpoint_is_named_and_that_training_begins_anew(
    folder: StudyFolder, through: Refinement, damage: Callable[[bytes], bytes], said: str
) -> None:
    first = Station(folder, stop_at=("epoch", 2))
    with pytest.raises(Interrupted):
        first.train()
    path = first.checkpoint(folder, refining.networks()[1].key)
    path.write_bytes(damage(path.read_bytes()))
    second = Station(folder)
    second.train()
    assert second.events[0]["event"] == "say"
    assert str(path) in second.events[0]["words"]
    assert said in second.events[0]["words"]
    assert second.events[1]["epoch"] == 0
    assert refining.same(refining.recorded(folder)) == refining.same([through])


def test_a_planted_pickle_is_not_run(folder: StudyFolder, tmp_path: Path) -> None:
    station = Station(folder)
    path, sign = station.checkpoint(folder, refining.networks()[1].key), tmp_path / "sign"
    stream = io.BytesIO()
    torch.save({"training": Planted(sign), "progress": {}}, stream)
    for content in (stream.getvalue(), pickle.dumps(Planted(sign), protocol=2)):
        write_whole(path, _summed(content))
        station.events.clear()
        Station.train(station)
        assert "is no checkpoint of this training" in station.events[0]["words"]
    assert not sign.exists()


def test_another_trainings_checkpoint_is_not_taken(folder: StudyFolder) -> None:
    other = Station(folder, stop_at=("epoch", 1))
    with pytest.raises(Interrupted):
        other.train(trial=2)
    rows = refining.networks()
    station = Station(folder)
    kept = other.checkpoint(folder, rows[2].key)
    kept.rename(station.checkpoint(folder, rows[1].key))
    station.train()
    assert "is no checkpoint of this training" in station.events[0]["words"]


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as failure:
        write_whole(path, b"second")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"first"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_training_that_fails_leaves_nothing(tmp_path: Path) -> None:
    wild = Recipe(epochs=2, batch=32, learning_rate=1e30)
    folder = refining.write(tmp_path, recipe=wild)
    station = Station(folder)
    with pytest.raises(TrialFailed, match=r"not finite|loss is"):
        station.train()
    assert refining.recorded(folder) == []
    assert not [path for name in ("refined", "refining") for path in (folder.path / name).glob("*")]


def test_balanced_accuracy_is_what_is_read(tmp_path: Path) -> None:
    images = pictures(tmp_path / "uneven", {str(digit): 40 if digit == 0 else 8 for digit in range(10)})
    folder = refining.write(tmp_path / "s", dataset=f"folder:{images}", metric="balanced-accuracy", limit=None)
    Station(folder, epochs=2).train()
    (found,) = refining.recorded(folder)
    records = Records(folder.url)
    outcome = Outcome.read(records, "s")
    records.close()
    dataset = load_images(outcome, input_shape=(1, 8, 8))
    row = refining.networks()[1]
    network = build(row.architecture)
    network.load_state_dict(load_file(folder.refined(row.key, found.recipe_hash, 1)))
    network.eval()
    balanced, plain = (
        accuracy(network, dataset.validation, dataset.mean, dataset.std, metric=metric)
        for metric in ("balanced-accuracy", "accuracy")
    )
    assert found.val_accuracy == balanced
    assert balanced != plain


def test_other_images_are_refused_and_moved_ones_found(tmp_path: Path) -> None:
    counts = {str(digit): 10 for digit in range(10)}
    place = pictures(tmp_path / "here", counts)
    folder = refining.write(tmp_path / "s", dataset=f"folder:{place}", limit=None)
    moved = place.rename(tmp_path / "there")
    with pytest.raises(DataError, match=r"does not exist: .*; name images that were moved with --dataset"):
        Station(folder)
    with pytest.raises(DataError, match="the images of digits are not those that study 's' was made from"):
        Station(folder, dataset="digits")
    Station(folder, dataset=f"folder:{moved}").worker.close()


def test_a_study_of_another_version_of_training_is_refused(tmp_path: Path) -> None:
    folder = refining.write(tmp_path, training_version=0)
    with pytest.raises(StudyError, match="was trained by version 0 of training, this nas has 1: brief and full"):
        Station(folder)
