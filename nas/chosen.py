"""The networks that a person named, and the file with the weights that stands for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas import refined
from nas.checksums import intact
from nas.errors import StudyError
from nas.files import Files
from nas.outcome import Outcome
from nas.records import Row
from nas.refined import Refined, Refinement
from nas.study_folder import StudyFolder


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of averaged weights.

    Args:
        path: the safetensors file.
        words: for a person: ``search``, or ``refined, 60 epochs, replicate 2``.
        val_accuracy: the study's metric that they reached, 0..1.
        sha256: of the file when it was written; None where no record keeps it.
    """

    path: Path
    words: str
    val_accuracy: float
    sha256: str | None = None

    def read(self) -> tuple[bytes, str]:
        """The file's bytes and their SHA-256.

        Raises:
            StudyError: the file is gone, or is not the one that was written. Of a search's own weights from an older
                nas, which carry no sum, nobody can tell.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError as error:
            raise StudyError(f"the weights {self.path} are gone: restore them, or train them again") from error
        found = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, found):
            raise StudyError(
                f"{self.path} is not the file that the training wrote: its SHA-256 is {found}, on record is "
                f"{self.sha256}; restore it from a copy"
            )
        if self.sha256 is None and intact(content) is False:
            raise StudyError(
                f"{self.path} is damaged: its own SHA-256 does not fit it; restore it from a copy, or see `nas doctor`"
            )
        return content, found


@dataclass(frozen=True, slots=True)
class Chosen:
    """One network of a study.

    Args:
        row: its record in the search.
        picks: the words that named it.
        refined: its full trainings; None where the search's own weights stand for it.
        weights: the first stands for the network; the others, where they were asked for, are its other full trainings.
    """

    row: Row
    picks: tuple[str, ...]
    refined: Refined | None
    weights: tuple[Weights, ...]


def choose(
    folder: StudyFolder,
    outcome: Outcome,
    found: Sequence[Refined],
    picks: Sequence[str],
    *,
    as_is: bool = False,
    all_seeds: bool = False,
) -> list[Chosen]:
    """The networks that `picks` name, each once, in the order of the picks.

    Where networks are refined the picks are among these, by their means, and `Refined.middle` stands for each;
    otherwise they are among the search's, with its own weights.

    Args:
        found: the study's refined networks.
        picks: words as `Outcome.pick` takes them, at least one.
        as_is: the search's networks and weights, refined or not.
        all_seeds: with the weights of every full training.

    Raises:
        StudyError: a pick names nothing; a network has no weights; `all_seeds` where there is one training only.
    """
    if all_seeds and (as_is or not found):
        raise StudyError(
            f"--all-seeds: a search trains each network once; "
            f"{'leave --as-is out' if found else f'run `nas refine {outcome.study}` first'}"
        )
    by_trial: dict[int, Chosen] = {}
    for text in picks:
        network = None if as_is or not found else refined.pick(outcome, found, text)
        row = outcome.pick(text) if network is None else network.row
        words = (*(by_trial[row.trial].picks if row.trial in by_trial else ()), text)
        if network is None:
            weights: tuple[Weights, ...] = (_of_search(folder, outcome, row),)
        else:
            middle = network.middle
            others = [one for one in network.trainings if one is not middle] if all_seeds else []
            weights = tuple(_of_refinement(folder, outcome, one) for one in (middle, *others))
        by_trial[row.trial] = Chosen(row, words, network, weights)
    return list(by_trial.values())


def _of_search(folder: StudyFolder, outcome: Outcome, row: Row) -> Weights:
    path = folder.weights(row.key)
    if not Files(folder, outcome.settings).fetch(path):
        raise StudyError(
            f"trial {row.trial} has no weights at {path}: a search keeps those of its front only, on the machine that "
            f"trained them; run `nas refine {outcome.study} --pick trial:{row.trial}`"
        )
    assert row.val_accuracy is not None  # a complete network was read
    return Weights(path, "search", row.val_accuracy)


def _of_refinement(folder: StudyFolder, outcome: Outcome, one: Refinement) -> Weights:
    path = folder.refined(one.key, one.recipe_hash, one.replicate)
    if not Files(folder, outcome.settings).fetch(path):
        raise StudyError(
            f"the weights of trial {one.trial}, {one.epochs} epochs, replicate {one.replicate}, are not at {path}: "
            "they lie on the machine that trained them; restore them, or give --as-is for the search's own"
        )
    words = f"refined, {one.epochs} epochs, replicate {one.replicate}"
    return Weights(path, words, one.val_accuracy, one.weights_sha256)
