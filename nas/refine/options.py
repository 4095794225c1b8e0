"""What a refinement is asked to do: the command line's options as data, handed to each worker as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.recipe import TRAINING_VERSION, Recipe
from nas.study_folder import StudyFolder

LONGER = 4
"""Epochs of a full training, as a multiple of the search's, where the user names no number."""


@dataclass(frozen=True, slots=True)
class RefineOptions:
    """Everything `nas refine` can be told.

    Args:
        study: the study's name.
        url: of its database.
        studies_dir: the folder that holds the study's folder, where weights and checkpoints lie.
        epochs: of a full training, at least 1; None is `LONGER` times the study's.
        seeds: fresh ones a network, at least 1.
        picks: the networks to train, each as `Outcome.pick` takes it; empty: those near the front.
        top: the so many networks nearest to the front, at least 1; None: those near the front.
        workers: processes on this machine, at least 1; the cores are divided among them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dataset: where the study's images are now; None: where the search read them.
        with_line: train the reference line's networks too, as `nas baselines line` has recorded them, and in any case
            all of the front.
    """

    study: str
    url: str
    studies_dir: str = "studies"
    epochs: int | None = None
    seeds: int = 5
    picks: tuple[str, ...] = ()
    top: int | None = None
    workers: int = 1
    device: str = "auto"
    dataset: str | None = None
    with_line: bool = False

    def check(self) -> None:
        """Look over all that needs no study.

        Raises:
            StudyError: a number below 1, or two ways of choosing networks.
        """
        for name, value in (
            ("--epochs", self.epochs),
            ("--seeds", self.seeds),
            ("--top", self.top),
            ("--workers", self.workers),
        ):
            if value is not None and value < 1:
                raise StudyError(f"{name} {value}: it must be a whole number of at least 1")
        if self.picks and self.top is not None:
            raise StudyError("--pick and --top both choose the networks: give one of them")

    @property
    def folder(self) -> StudyFolder:
        """The study's folder."""
        return StudyFolder(Path(self.studies_dir), self.study)

    def recipe(self, outcome: Outcome) -> dict[str, Any]:
        """The study's own recipe with the epochs of a full training, as JSON.

        Raises:
            StudyError: the study keeps none that a training could follow.
        """
        kept = outcome.identity.get("space", {}).get("recipe")
        try:
            recipe = Recipe.model_validate(kept)
        except ValidationError as error:
            raise StudyError(
                f"study {outcome.study!r} keeps no whole recipe, so its networks cannot be trained as it did"
            ) from error
        # The kept words themselves: what a later nas adds to a recipe must not make another one of it.
        assert isinstance(kept, Mapping)
        return {**kept, "epochs": LONGER * recipe.epochs if self.epochs is None else self.epochs}


def check_version(outcome: Outcome) -> None:
    """Whether this nas trains as the study's search did.

    Raises:
        StudyError: it does not, and brief and full training would be two things.
    """
    made = outcome.identity.get("training_version")
    if made != TRAINING_VERSION:
        raise StudyError(
            f"study {outcome.study!r} was trained by version {made} of training, this nas has {TRAINING_VERSION}: "
            "brief and full training could not be compared; search anew under another --study"
        )
