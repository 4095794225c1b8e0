"""The study beside which a network is trained: one that is there, or one that is made for the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
import torch

from nas.baseline_rows import RecipeName
from nas.baselines.memory import check_memory
from nas.baselines.options import TrainOptions, fitted
from nas.baselines.published import published_recipe
from nas.data import Dataset, load_dataset, streaming
from nas.errors import StudyError
from nas.models import build_reference
from nas.outcome import Outcome
from nas.records import Records
from nas.references import Reference
from nas.search.options import SearchOptions
from nas.search.setup import identity_of, settings_of
from nas.search.study import create_study
from nas.space import Space
from nas.study_folder import StudyFolder
from nas.study_images import load_images
from nas.training import Prebuilt


@dataclass(frozen=True, slots=True)
class Place:
    """A study, open for records.

    Args:
        number: of the study in its database.
        dataset: where its images are now; None: where they were.
    """

    folder: StudyFolder
    records: Records
    number: int
    outcome: Outcome
    dataset: str | None

    def images(self, input_shape: tuple[int, int, int], device: torch.device) -> Dataset:
        """The study's images with its split, at another size where the network asks for it.

        Raises:
            DataError: they are gone, broken, or not those of the study.
        """
        cache, room = _keeping(self.folder.studies_dir, device)
        return load_images(self.outcome, input_shape=input_shape, moved=self.dataset, cache=cache, room=room)


@contextmanager
def opened(options: TrainOptions, one: Reference, device: torch.device) -> Iterator[tuple[Place, Reference]]:
    """The study that the options name, or the one made for their images; and the network for the images' size.

    Nothing is made before images and network are known to fit.

    Raises:
        NasError: the study, the images or their size do not serve.
    """
    found = _make(options, one, device) if options.study is None else _find(options, one)
    with closing(found[0].records):
        yield found


def _find(options: TrainOptions, one: Reference) -> tuple[Place, Reference]:
    folder = options.folder
    records = Records(options.url or folder.url)
    try:
        records.check_version()
        outcome = Outcome.read(records, folder.name)
        limit = outcome.settings["train_limit"]
        if options.train_limit is not None and options.train_limit != limit:
            raise StudyError(
                f"study {folder.name!r} was made with --train-limit {limit}, this command says {options.train_limit}: "
                "leave it out, or name another --study"
            )
        one = fitted(one, outcome.input_shape, f"images of study {folder.name!r}", options.resize)
        records.create()  # a study of an older layout has no table for this; also the proof that it can be written
        return Place(folder, records, records.study(folder.name).id, outcome, options.dataset), one
    except BaseException:
        records.close()
        raise


def _make(options: TrainOptions, one: Reference, device: torch.device) -> tuple[Place, Reference]:
    assert options.dataset is not None  # checked
    folder = options.folder
    search = SearchOptions(
        space=options.space,
        dataset=options.dataset,
        study=folder.name,
        studies_dir=options.studies_dir,
        train_limit=options.train_limit,
        device=options.device,
        command=options.command,
    )
    space = search.check()
    cache, room = _keeping(folder.studies_dir, device)
    with closing(
        load_dataset(
            options.dataset,
            input_shape=space.input_shape,
            train_limit=options.train_limit,
            cache=cache,
            room=room,
        )
    ) as images:
        one = fitted(one, images.own_shape, f"images of {options.dataset!r}", options.resize)
        space = space.with_classes(len(images.classes))
        _check_size(options, one, space, images, device)
        with _quiet():
            study = create_study(
                folder.url,
                folder.name,
                identity_of(search, space, images),
                settings_of(search, space, images, device),
            )
    outcome = Outcome.read(study.records, folder.name)
    return Place(folder, study.records, study.record.id, outcome, options.dataset), one


def _check_size(options: TrainOptions, one: Reference, space: Space, images: Dataset, device: torch.device) -> None:
    """Refuse images that are too large for the memory before a study is made for them.

    Args:
        images: at the space's input.

    Raises:
        NasError: a step, or the images at the network's size, need more than there is.
    """
    recipe: RecipeName = "published" if options.recipe == "published" else "study"
    batch = published_recipe(one.name).batch if recipe == "published" else space.recipe.batch
    classes = len(images.classes)
    network = Prebuilt(one.name, one.input_shape, classes, partial(build_reference, one, classes))
    check_memory(network, recipe, batch, len(images.train), device)
    if one.input_shape != space.input_shape and not options.folder.database.exists():
        cache, room = _keeping(options.folder.studies_dir, device)
        load_dataset(options.dataset or "", input_shape=one.input_shape, cache=cache, room=room).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line about a new study."""
    loudness = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(loudness)


def _keeping(studies_dir: Path, device: torch.device) -> tuple[Path, int]:
    """Where decoded images are kept, and how many bytes of memory they may take."""
    return studies_dir / ".cache", streaming.room(device=device)
