"""Which network of a study is taken away, and with which weights: refined, the search's own, or trained again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import safetensors
import torch
from pydantic import ValidationError
from safetensors.torch import load
from torch import Tensor

from nas import refined
from nas.checksums import packed
from nas.chosen import Weights, choose
from nas.data import Dataset
from nas.errors import ExportError, StudyError
from nas.evaluation import evaluate
from nas.files import Files
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.records import Row
from nas.refined import Refined
from nas.search.hardware import hardware, versions
from nas.study_folder import StudyFolder
from nas.training import TRAINING_VERSION


@dataclass(frozen=True, slots=True)
class Picked:
    """A network with what its weights are.

    Args:
        row: its record in the search.
        words: which weights: ``search``, ``refined, 60 epochs, replicate 2`` or ``search, trained again``.
        recorded: the study's metric that they reached, 0..1.
        epochs, seed, device, threads: of their training.
        recipe: what they were trained by.
        file: that holds them; None where they have to be trained again.
        refined: the network's full trainings, where one of them is what is taken.
        sha256: of the file, once it is read.
    """

    row: Row
    words: str
    recorded: float
    epochs: int
    seed: int
    device: str
    threads: int
    recipe: Mapping[str, Any]
    file: Weights | None
    refined: Refined | None = None
    sha256: str | None = None


def pick_network(
    folder: StudyFolder, outcome: Outcome, found: Sequence[Refined], pick: str, *, as_is: bool = False
) -> Picked:
    """The network that `pick` names: among the refined ones where there are some, otherwise among the search's.

    A trial that is named by its number and is not refined counts by the search's own weights.

    Args:
        found: the study's refined networks.
        pick: as `Outcome.pick` takes it.
        as_is: the search's networks and weights, refined or not.

    Raises:
        StudyError: the pick names nothing, or the refined weights are not there.
    """
    named = outcome.pick(pick) if pick.startswith("trial:") else None
    among = [] if as_is else [one for one in found if named is None or one.row.trial == named.trial]
    if among:
        try:
            number = refined.pick(outcome, among, pick).row.trial
        except StudyError as error:
            raise StudyError(f"among the refined networks: {error}; --as-is picks among all") from error
        chosen = choose(folder, outcome, among, [f"trial:{number}"])[0]
        assert chosen.refined is not None
        one, weights = chosen.refined.middle, chosen.weights[0]
        return Picked(
            row=chosen.row,
            words=weights.words,
            recorded=one.val_accuracy,
            epochs=one.epochs,
            seed=one.seed,
            device=one.device,
            threads=one.threads,
            recipe=one.recipe,
            file=weights,
            refined=chosen.refined,
        )
    row = outcome.pick(pick) if named is None else named
    assert row.val_accuracy is not None  # a complete network was read
    there = Files(folder, outcome.settings).fetch(folder.weights(row.key))
    return Picked(
        row=row,
        words="search" if there else "search, trained again",
        recorded=row.val_accuracy,
        epochs=len(row.curve),
        seed=row.seed,
        device=row.device,
        threads=row.threads,
        recipe=outcome.identity["space"].get("recipe") or {},
        file=choose(folder, outcome, [], [f"trial:{row.trial}"], as_is=True)[0].weights[0] if there else None,
    )


def said_of(picked: Picked, outcome: Outcome, *, as_is: bool) -> str:
    """One line for a person: which weights these are, and what could be better."""
    row = picked.row
    if picked.refined is not None:
        trainings, (low, high) = len(picked.refined.trainings), picked.refined.interval
        sure = f", 95 % {low:.4f} to {high:.4f}" if trainings > 1 else ""
        return (
            f"Trial {row.trial}, refined: of {trainings} full training{'s' * (trainings != 1)} (mean validation "
            f"{outcome.metric_words} {picked.refined.mean:.4f}{sure}) the one of median accuracy; {picked.epochs} "
            "epochs."
        )
    epochs = f"{picked.epochs} epoch{'s' * (picked.epochs != 1)}"
    own = f"Trial {row.trial}: the search's own weights, trained briefly ({epochs})"
    return f"{own}, as asked." if as_is else f"{own}; `nas refine {outcome.study}` trains networks fully."


def read_weights(picked: Picked) -> tuple[Picked, dict[str, Tensor]]:
    """The tensors in the file of weights. Nothing but safetensors is read, which can hold no code.

    Raises:
        StudyError: the file is gone, or is not the one on record.
        ExportError: it is no safetensors file, or a damaged one.
    """
    assert picked.file is not None
    content, sha256 = picked.file.read()
    try:
        return replace(picked, sha256=sha256), load(content)
    except safetensors.SafetensorError as error:
        if content.startswith((b"\x80", b"PK\x03\x04")) and content[8:9] != b"{":  # a length may begin so too
            raise ExportError(
                f"{picked.file.path} is a pickle, which could run any code: it was not loaded; weights are kept as "
                "safetensors, so restore the file from a copy"
            ) from error
        raise ExportError(
            f"{picked.file.path} is damaged ({error}); restore it from a copy, or pick another network of `nas front`"
        ) from error


def recipe_again(picked: Picked, outcome: Outcome) -> Recipe:
    """What a network without weights can be trained by once more.

    Raises:
        ExportError: the study was made by another version of training, or does not say how it trained.
    """
    lacks = f"trial {picked.row.trial} has no weights here, since a search keeps those of its front only"
    version = outcome.identity.get("training_version")
    if version != TRAINING_VERSION:
        raise ExportError(
            f"{lacks}, and cannot be trained again: the study is of training version {version}, this nas of "
            f"{TRAINING_VERSION}; pick a network of `nas front`"
        )
    try:
        return Recipe.model_validate(picked.recipe)
    except ValidationError as error:
        raise ExportError(
            f"{lacks}, and the study does not say how it was trained; pick a network of `nas front`"
        ) from error


def train_again(
    picked: Picked, outcome: Outcome, dataset: Dataset, recipe: Recipe, say: Callable[[str], None]
) -> tuple[Picked, dict[str, Tensor]]:
    """The search's training of a network once more, since only those of the front are kept.

    By the same seed, recipe and number of threads; on the CPU that gives the same bits where processor and torch are
    the same.

    Args:
        recipe: of `recipe_again`.
        say: told what it takes before it begins, and what it came to where that is not the record.

    Raises:
        ExportError: the training did not give what is on record though everything is the same.
        TrialFailed: the training fails.
    """
    row = picked.row
    say(
        f"Trial {row.trial} has no weights here: a search keeps those of its front. Training it again as the search "
        f"did ({recipe.epochs} epochs); that took {max(1, round(row.seconds)):,} s."
    )
    before = torch.get_num_threads()
    torch.set_num_threads(row.threads)
    try:
        made = evaluate(
            row.architecture,
            dataset,
            recipe,
            seed=row.seed,
            device="cpu" if row.device == "cpu" else "auto",
            metric=outcome.metric,
        )
    finally:
        torch.set_num_threads(before)
    reached, recorded = made.val_accuracy, picked.recorded
    if reached != recorded:
        if made.device == row.device == "cpu" and _same_machine(outcome, row):
            raise ExportError(
                f"trial {row.trial} trained again reads {outcome.metric_words} {reached:.4f}, the record says "
                f"{recorded:.4f}, and nothing that decides a training has changed; nothing was written"
            )
        say(f"Trained again it reads {outcome.metric_words} {reached:.4f}; the record says {recorded:.4f}.")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in made.weights.items()}
    done = replace(
        picked,
        recorded=reached,
        device=made.device,
        threads=made.threads,
        sha256=hashlib.sha256(packed(state)).hexdigest(),
    )
    return done, state


def _same_machine(outcome: Outcome, row: Row) -> bool:
    """Whether this processor and torch are those of the record, as far as that is known."""
    trained = row.versions or outcome.settings.get("versions") or {}
    here = hardware(torch.device("cpu"))
    return (
        row.source is None
        and outcome.settings.get("hardware") == here
        and trained.get("torch") == versions().get("torch")
    )
