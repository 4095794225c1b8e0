"""The folder that `nas export` writes: a network in every format, checked in fresh processes before it is there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nas.beside import is_running
from nas.errors import ExportError, written
from nas.export.formats import FORMATS, INT8, OURS
from nas.export.pick import pick_network, read_weights, recipe_again, said_of, train_again
from nas.export.verify import Checked
from nas.export.writer import Writer
from nas.outcome import Outcome
from nas.records import Row
from nas.refined import Refined
from nas.seal import Reading
from nas.study_folder import StudyFolder
from nas.study_images import load_images


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        path: the folder.
        row: the network's record.
        weights: which they are, for a person.
        val_accuracy: the study's metric of the written files on the validation images, 0..1.
        images: how many these are.
        interval: Wilson's 95 % interval of the plain accuracy on them.
        checked: what each file answered, in the order of the formats; model-int8.onnx last.
        difference: the largest between a logit of a file (model-int8.onnx left out) and of the network in torch.
    """

    path: Path
    row: Row
    weights: str
    val_accuracy: float
    images: int
    interval: tuple[float, float]
    checked: tuple[Checked, ...]
    difference: float


def export_network(
    folder: StudyFolder,
    outcome: Outcome,
    pick: str,
    *,
    refined: Sequence[Refined] = (),
    readings: Sequence[Reading] = (),
    formats: Sequence[str] = tuple(FORMATS),
    as_is: bool = False,
    pixels: bool = False,
    int8: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
    cache: Path | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a network of a study to a folder; whole and checked, or not at all.

    A network off the front has no weights: it is trained again first, as the search did.

    Args:
        folder: the study's folder, with its weights.
        outcome: the study's records.
        pick: as `Outcome.pick` takes it.
        refined: the study's refined networks; where there are some the pick is among these.
        readings: of the sealed test images; those of the exported weights are told in the card.
        formats: of `FORMATS`. `source` brings the weights that it reads.
        as_is: the search's own network and weights, refined or not.
        pixels: the ONNX files take uint8 pictures (N, H, W, C), as they are decoded.
        int8: an ONNX file in 8 bits beside the other, calibrated on training images.
        output: the folder to make. None: `export/` and the pick in the study's folder, where an earlier export of
            the same pick is replaced without asking, because nas made that folder.
        overwrite: replace an earlier export at `output`. A folder that holds anything else is never touched.
        dataset: where the study's images are now, as `load_dataset` takes it; None: where they were.
        cache: where decoded images are kept.
        command: as it was given; paths are left out of what is kept of it.
        say: told which weights are taken, and how long a training takes before it begins.

    Raises:
        StudyError: the pick names no complete network, or refined weights are gone or others.
        ExportError: the weights are damaged, of another network or no safetensors; `output` is in the way; a file does
            not answer as torch does, or not with the accuracy on record.
        DataError: the study's images are gone or broken, or are not those of the study.
        TrialFailed: the network had to be trained again, and failed.
        OSError: `output` cannot be written, or the disk is full.
        NasError: its folder cannot be made.
    """
    if (int8 or pixels) and "onnx" not in formats:
        raise ExportError(f"{'--int8' if int8 else '--uint8'} is about model.onnx: add onnx to --format")
    picked = pick_network(folder, outcome, refined, pick, as_is=as_is)
    own = output is None
    target = folder.export / pick.replace(":", "-") if output is None else output
    _check_free(target, replace=own or overwrite)
    weights: Mapping[str, Tensor] = {}
    recipe = None
    if picked.file is None:
        recipe = recipe_again(picked, outcome)
        _check_place(target)  # before a training that may take hours, not after it
    else:
        picked, weights = read_weights(picked)
    shape = picked.row.architecture.input_shape
    images = load_images(outcome, input_shape=shape, moved=dataset, cache=cache)
    try:
        if recipe is not None:
            picked, weights = train_again(picked, outcome, images, recipe, say)
        else:
            say(said_of(picked, outcome, as_is=as_is))
        with written(target):
            place = target.absolute()  # `.` has no name to put a folder beside
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f".{place.name}.{os.getpid()}")
            aside.mkdir()
            try:
                writer = Writer(aside, outcome, picked, weights, images, pixels)
                writer.write(formats, int8=int8)
                checked = writer.check()
                accuracy = writer.describe(checked, tuple(readings), command)
                _swap(aside, place)
                _tidy(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    finally:
        images.close()
    exact = [one.difference for one in checked if one.file != INT8]
    return Exported(
        path=target,
        row=picked.row,
        weights=picked.words,
        val_accuracy=accuracy["exported"],
        images=accuracy["images"],
        interval=(accuracy["interval"][0], accuracy["interval"][1]),
        checked=checked,
        difference=max(exact),
    )


def _check_free(target: Path, *, replace: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file; choose another --output")
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    foreign = [name for name in there if name not in OURS]
    if foreign:
        raise ExportError(f"{target} holds {foreign[0]!r}, which no export wrote; choose another --output")
    if there and not replace:
        raise ExportError(
            f"{target} holds an earlier export; add --overwrite to replace it, or choose another --output"
        )


def _check_place(target: Path) -> None:
    """Whether a folder can be made beside `target`; nothing stays."""
    place = target.absolute()
    missing = [folder for folder in place.parents if not folder.exists()]  # the deepest first
    with written(target):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f".{place.name}.{os.getpid()}")
            aside.mkdir()
            aside.rmdir()
        finally:
            for folder in missing:
                if folder.exists():
                    folder.rmdir()


def _swap(aside: Path, target: Path) -> None:
    """Put the finished folder in place; an earlier one goes only once the new one can no longer fail."""
    if not target.exists():
        aside.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _tidy(place: Path) -> None:
    """Remove what exports of this folder left beside it that were killed, where that can be listed."""
    try:
        for path in place.parent.iterdir():
            found = re.fullmatch(rf"\.{re.escape(place.name)}\.([0-9]+)(\.old)?", path.name)
            if (
                found
                and not is_running(int(found[1]))
                and path.is_dir()
                and {one.name for one in path.iterdir()} <= OURS
            ):
                shutil.rmtree(path, ignore_errors=True)
    except OSError:  # a folder that may be written to but not read: the export is in place all the same
        return
