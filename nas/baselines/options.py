"""What a training beside a study is asked to do: the command line's options as data. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nas.baseline_rows import RECIPES
from nas.baselines.published import published_recipe
from nas.errors import DataError, StudyError, choices
from nas.references import Reference, reference
from nas.space import list_spaces
from nas.study_folder import StudyFolder

OWN_SPACE = "cifar10"
"""Space of a study that is made for images that no space ships for: its input is that of most reference networks."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Everything `nas baselines train` can be told.

    Args:
        name: of a reference network.
        recipe: ``published`` is the network's own, ``study`` the one that the study's trials get.
        dataset: as `nas.data.load_dataset` takes it; None: where the study's search read them.
        study: of a study that is there; None: one that is made for these images.
        url: of that study's database; None: in its folder.
        studies_dir: the folder that holds the studies.
        epochs: at least 1; None: as published, or as the study's trials.
        seed: which of the network's seeds, 0..2**32 - 1; 0 is the one that a trial of the study would have.
        resize: side of the images; None: they have the network's own.
        train_limit: train on a stratified subset of so many images; None: as the study.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        command: the shell command, without passwords, for the record of a study that is made.
    """

    name: str
    recipe: str = "published"
    dataset: str | None = None
    study: str | None = None
    url: str | None = None
    studies_dir: str = "studies"
    epochs: int | None = None
    seed: int = 0
    resize: int | None = None
    train_limit: int | None = None
    device: str = "auto"
    command: str = ""

    def check(self) -> Reference:
        """Look over all that needs neither images nor a database; the network.

        Raises:
            NasError: an unknown network or recipe, a network without the recipe, a number out of range, or neither
                images nor a study.
        """
        one = reference(self.name)
        if self.recipe not in RECIPES:
            raise StudyError(choices("--recipe", self.recipe, RECIPES))
        if self.recipe == "published":
            published_recipe(self.name)
        for name, value in (
            ("--epochs", self.epochs),
            ("--resize", self.resize),
            ("--train-limit", self.train_limit),
        ):
            if value is not None and value < 1:
                raise StudyError(f"{name} {value}: it must be a whole number of at least 1")
        if not 0 <= self.seed < 2**32:
            raise StudyError(f"--seed {self.seed}: it must be in 0..{2**32 - 1}")
        if self.dataset is None and self.study is None:
            raise StudyError("neither --study nor --dataset is given: name a study, or the images to train on")
        if self.resize is not None:
            one.at(self.resize)
        return one

    @property
    def folder(self) -> StudyFolder:
        """The study's folder; one that is made is named by its images, and by a limit on them."""
        if self.study is not None:
            return StudyFolder(Path(self.studies_dir), self.study)
        word, _, path = (self.dataset or "").partition(":")
        name = re.sub(r"[^\w.+-]", "-", Path(path).absolute().name if path else word)[:60].strip("-. ") or "images"
        limit = "" if self.train_limit is None else f"-{self.train_limit}"
        return StudyFolder(Path(self.studies_dir), f"baselines-{name}{limit}")

    @property
    def space(self) -> str:
        """The space of a study that is made: the images' own where one ships."""
        own = self.dataset or ""
        return own if own in list_spaces() else OWN_SPACE


def fitted(one: Reference, seen: tuple[int, int, int] | None, whose: str, resize: int | None) -> Reference:
    """The network for the images that it will be given.

    Args:
        seen: (channels, height, width) of the images as they are; None where that is not known.
        whose: what they are called.
        resize: the side that was asked for.

    Raises:
        DataError: they are not what the network reads, and no side was asked for; both are said.
        ArchitectureError: the network cannot read images of that side.
    """
    if resize is not None:
        return one.at(resize)
    if seen is not None and seen != one.input_shape:
        wanted, side = times(one.input_shape), one.input_shape[1]
        raise DataError(f"{whose} are {times(seen)}, {one.name} reads {wanted}: --resize {side} loads them so")
    return one


def times(shape: tuple[int, ...]) -> str:
    """``3x32x32``."""
    return "x".join(map(str, shape))
