"""One known network, trained beside a study: from its start or its checkpoint to weights, record and artifact."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import save
from torch import nn

from nas.architecture import Architecture
from nas.baseline_rows import Baseline, RecipeName, add_baseline, baselines
from nas.baselines.artifact import write_artifact
from nas.baselines.loop import LOOP_VERSION, PublishedTraining
from nas.baselines.memory import check_memory
from nas.baselines.options import TrainOptions, times
from nas.baselines.place import Place, opened
from nas.baselines.published import as_json, published_recipe
from nas.curve import EpochResult
from nas.data import Dataset
from nas.errors import DeviceError, StudyError, TrialFailed, written
from nas.metric import in_words
from nas.models import build, build_reference
from nas.models.plain import build_plain
from nas.outage import Patience
from nas.outcome import Outcome
from nas.reading import answers, confusion
from nas.recipe import Recipe
from nas.references import Reference, counted
from nas.refine.checkpoints import Progress, keep, restore, write_whole
from nas.refine.options import RefineOptions
from nas.refined import recipe_hash
from nas.search.hardware import device_name, versions
from nas.seeds import training_seed
from nas.training import TRAINING_VERSION, Prebuilt, Training, pick_device

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Task:
    """One training, all of it decided.

    Args:
        one: the network, for the images' size.
        network: the same for a training, its first weights as the recipe has them.
        architecture: None for a plain network.
        recipe: all of it as JSON, epochs included.
        seed: of the training.
    """

    one: Reference
    network: Prebuilt
    architecture: Architecture | None
    recipe_name: RecipeName
    recipe: Mapping[str, Any]
    replicate: int
    seed: int

    @property
    def stem(self) -> str:
        """Of the names of its files."""
        at = times(self.network.input_shape)
        return f"{self.one.name}-{at}-{self.recipe_name}-{recipe_hash(self.recipe)[:16]}-{self.replicate}"

    def is_of(self, row: Baseline) -> bool:
        """Whether a record is this training's."""
        mine = ("reference", self.one.name, self.network.key, self.network.input_shape, self.replicate)
        theirs = (row.kind, row.name, row.key, row.input_shape, row.replicate)
        return mine == theirs and row.recipe_hash == recipe_hash(self.recipe)


def train(options: TrainOptions, say: Say) -> tuple[Outcome, Baseline]:
    """Train what the options name, unless it is on record already; the study as it was before, and the row.

    Each epoch is kept: after Ctrl-C or a kill the same command goes on, on the CPU to the same bits.

    Args:
        say: takes a line for the person.

    Raises:
        NasError: what the user can mend; nothing half-written is left.
        KeyboardInterrupt: passes through; the checkpoint stands after the last whole epoch.
    """
    one = options.check()
    device = pick_device(options.device)

    def outage(words: str | None) -> None:
        say("the database answers again; the training goes on" if words is None else words)

    with opened(options, one, device) as (place, fitted), Patience(outage, lambda: None, known=True):
        task = _task(place, fitted, options)
        row = _recorded(place, task)
        if row is None:
            with _alone(place, task):
                row = _recorded(place, task) or _train(place, task, device, say)
        else:
            say(f"{one.name} is on record as asked, trained on {row.device}: nothing is trained twice.")
        write_artifact(
            place.records.url, place.folder, place.outcome.settings["classes"], row, _path(place, task, "csv")
        )
    return place.outcome, row


def _task(place: Place, one: Reference, options: TrainOptions) -> Task:
    outcome = place.outcome
    classes = len(outcome.settings["classes"])
    design = one.network(classes)
    recipe: Mapping[str, Any]
    if options.recipe == "published":
        name: RecipeName = "published"
        published = published_recipe(one.name)
        recipe = {**as_json(published, options.epochs or published.epochs), "loop_version": LOOP_VERSION}
    else:
        name = "study"
        made = outcome.identity.get("training_version")
        if made != TRAINING_VERSION:
            raise StudyError(
                f"study {outcome.study!r} was trained by version {made} of training, this nas has {TRAINING_VERSION}: "
                "its recipe could not be followed; name another --study"
            )
        epochs = options.epochs or int(outcome.settings["epochs"])
        recipe = RefineOptions(outcome.study, "", epochs=epochs).recipe(outcome)

    def first() -> nn.Module:
        """As published, or as every trial begins."""
        if name == "published":
            return build_reference(one, classes)
        return build(design) if isinstance(design, Architecture) else build_plain(design)

    architecture = design if isinstance(design, Architecture) else None
    words = f"{one.name} {times(one.input_shape)} {classes}"  # the name stands for a plain network's layers
    key = hashlib.sha256(words.encode()).hexdigest()[:20] if architecture is None else architecture.key
    return Task(
        one=one,
        network=Prebuilt(key, one.input_shape, classes, first),
        architecture=architecture,
        recipe_name=name,
        recipe=recipe,
        replicate=options.seed,
        seed=training_seed(int(outcome.identity["seed"]), key, options.seed),
    )


def _recorded(place: Place, task: Task) -> Baseline | None:
    return next((row for row in baselines(place.records, place.number) if task.is_of(row)), None)


def _train(place: Place, task: Task, device: torch.device, say: Say) -> Baseline:
    checkpoint = _path(place, task, "pt")
    with closing(place.images(task.network.input_shape, device)) as images:
        check_memory(task.network, task.recipe_name, int(task.recipe["batch"]), len(images.train), device)
        say(_words(place, task, images, device))
        began, before = time.perf_counter(), Progress((), 0.0, time.time())
        try:
            training = _training(place, task, images, device)
            kept = restore(checkpoint, training)
            if isinstance(kept, str):
                say(kept)
            elif kept is not None:
                before = kept
                say(f"It goes on after epoch {len(before.curve)}.")
            curve = list(before.curve)
            for reading in training.fit():
                curve.append(reading)
                say(_epoch(reading, int(task.recipe["epochs"]), in_words(place.outcome.metric)))
                if reading.epoch < task.recipe["epochs"]:
                    seconds = before.seconds + time.perf_counter() - began
                    keep(checkpoint, training, Progress(tuple(curve), seconds, before.started_at))
        except TrialFailed as failure:
            checkpoint.unlink(missing_ok=True)
            raise _explained(failure, task, device) from failure
        seconds = before.seconds + time.perf_counter() - began
        network, scale = _trained(task, training, images, device)
        validation = images.validation.to(device)
        (given,) = answers([network], validation, *scale)
        matrix = confusion(validation.labels, given, task.network.classes)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    weights = save(state)
    # The weights first: a row without them would pass for done.
    write_whole(_path(place, task, "safetensors"), weights)
    row = Baseline(
        kind="reference",
        name=task.one.name,
        key=task.network.key,
        architecture=task.architecture,
        params=task.one.params(task.network.classes),
        macs=task.one.macs(task.network.classes),
        input_shape=task.network.input_shape,
        recipe_name=task.recipe_name,
        recipe=task.recipe,
        replicate=task.replicate,
        seed=task.seed,
        val_accuracy=curve[-1].val_accuracy,
        curve=tuple((point.epoch, point.val_accuracy, point.train_loss) for point in curve),
        seconds=seconds,
        device=device_name(device),
        threads=torch.get_num_threads(),
        dataset=images.digest,
        split=images.split_digest,
        started_at=datetime.fromtimestamp(before.started_at, UTC),
        finished_at=datetime.now(UTC),
        confusion=matrix,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        versions=versions() | {"torchvision": version("torchvision")},
    )
    add_baseline(place.records, place.number, row)
    checkpoint.unlink(missing_ok=True)
    return row


def _training(place: Place, task: Task, images: Dataset, device: torch.device) -> Training | PublishedTraining:
    metric = place.outcome.metric
    if task.recipe_name == "study":
        recipe = Recipe.model_validate(task.recipe)
        return Training(task.network, images, recipe, seed=task.seed, device=device, metric=metric)
    return PublishedTraining(
        task.network,
        images,
        published_recipe(task.one.name),
        epochs=int(task.recipe["epochs"]),
        seed=task.seed,
        device=device,
        metric=metric,
    )


def _trained(
    task: Task, training: Training | PublishedTraining, images: Dataset, device: torch.device
) -> tuple[nn.Module, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The network as the last reading read it, and mean and std of its images."""
    if isinstance(training, PublishedTraining):
        return training.network, training.scale
    network = task.network.build()
    network.load_state_dict(training.averaged_state())
    return network.to(device), (images.mean, images.std)


def _words(place: Place, task: Task, images: Dataset, device: torch.device) -> str:
    """What is trained on what; the published numbers had other images, which is said."""
    recipe, one = task.recipe, task.one
    epochs = f"{recipe['epochs']} epoch{'s' * (recipe['epochs'] != 1)}"
    lines = [
        f"{one.name}, {counted(one.name, one.params(task.network.classes))}, at {times(one.input_shape)}, by the "
        f"{task.recipe_name} recipe: {epochs} of {len(images.train):,} images in batches of {recipe['batch']} on "
        f"{device_name(device)}, seed {task.replicate}, beside study {place.folder.name}.",
        f"{len(images.validation):,} validation images come out of the training images, as the study's split says.",
    ]
    if task.recipe_name == "published":
        how = f"trained on {published_recipe(one.name).trained_on}"
        if one.watched_test:
            how += ", and watched the test images every epoch"
        lines.append(
            f"The published accuracy is of one run, which {how}; it is on test images, which stay sealed here."
        )
    return "\n".join(lines)


def _epoch(reading: EpochResult, epochs: int, metric: str) -> str:
    return (
        f"epoch {reading.epoch} of {epochs}: validation {metric} {reading.val_accuracy:.4f}, "
        f"loss {reading.train_loss:.4f}, {reading.seconds:.1f} s"
    )


def _explained(failure: TrialFailed, task: Task, device: torch.device) -> StudyError | DeviceError:
    recipe = f"{task.one.name} by the {task.recipe_name} recipe"
    if failure.reason.startswith("out of memory"):
        return DeviceError(
            f"{recipe}, batches of {task.recipe['batch']} at {times(task.network.input_shape)}, cannot run on "
            f"{device_name(device)}: {failure.reason}; take a device with more memory, or a smaller --resize"
        )
    return StudyError(f"{recipe}, seed {task.replicate}: {failure.reason}; nothing is recorded, take another --seed")


@contextmanager
def _alone(place: Place, task: Task) -> Iterator[None]:
    """Hold this training for this process; the kernel lets go of a lock however its process ends.

    Raises:
        StudyError: another one holds it.
    """
    path = _path(place, task, "lock")
    with _locked(path, task.one.name):
        for half in path.parent.glob(f".{task.stem}.*"):  # what a kill left half written
            half.unlink(missing_ok=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, name: str) -> IO[str]:
    """The file, made where it is missing, with a lock on it: whoever unlinks it holds the lock.

    Raises:
        StudyError: another process holds it.
    """
    while True:
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            file.close()
            raise StudyError(f"another command trains {name} just so in this study; wait for it") from error
        file.close()  # its owner ended meanwhile and took the file away: this lock would hold nobody off


def _path(place: Place, task: Task, ending: str) -> Path:
    return place.folder.path / "baselines" / f"{task.stem}.{ending}"
