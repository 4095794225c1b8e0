"""Image files -> classes with probabilities, a batch at a time, past files that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from nas.data.files import BROKEN, picture, why
from nas.data.source import fit
from nas.data.walk import SUFFIXES, images_under
from nas.deployed.onnx_model import OnnxModel
from nas.errors import DataError

BATCH = 64
"""Images in one pass, and the most that are in memory."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of one image.

    Args:
        path: as it was given or found.
        top: (class, probability 0..1), the likeliest first; of equal ones the first class.
    """

    path: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A file or folder that could not be read, and why in one line."""

    path: str
    reason: str


def image_paths(given: Iterable[str]) -> Iterator[str | Unread]:
    """The files that are named: a folder's images in the order of their paths; all else is taken for a file."""
    for path in given:
        if not os.path.isdir(path):
            yield path
            continue
        refused: list[DataError] = []
        found = sorted(images_under(path, refused.append), key=os.fsencode)
        yield from found
        for error in refused:
            yield Unread(path, str(error))
        if not found and not refused:
            yield Unread(path, f"the folder holds no image: known are {', '.join(sorted(SUFFIXES))}")


def predict(model: OnnxModel, paths: Iterable[str | Unread], *, top: int = 5) -> Iterator[Answer | Unread]:
    """What the model says of each image, in the order of the paths; no more than a batch of images is in memory.

    Pictures become the model's input exactly as in training: turned upright, the short side fitted, the centre cut out.

    Args:
        paths: of images; what is unread already is passed on.
        top: likeliest classes of each, at least 1; all of them where there are fewer.
    """
    remaining = iter(paths)
    while some := list(islice(remaining, BATCH)):
        read = [one if isinstance(one, Unread) else _pixels(one, model.input_shape) for one in some]
        pixels = [one for one in read if not isinstance(one, Unread)]
        rows: Iterator[NDArray[np.float64]] = iter(model.probabilities(np.stack(pixels))) if pixels else iter(())
        for path, one in zip(some, read, strict=True):
            yield one if isinstance(one, Unread) else Answer(str(path), _top(next(rows), model.classes, top))


def _pixels(path: str, input_shape: tuple[int, int, int]) -> NDArray[np.uint8] | Unread:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in a file whose pixels are fine
        try:
            return fit(picture(path), input_shape)
        except BROKEN as error:
            system = error.strerror if isinstance(error, OSError) else None  # the others' words name the path again
            return Unread(path, system or why(error, path))


def _top(row: NDArray[np.float64], classes: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    return tuple((classes[place], float(row[place])) for place in np.argsort(-row, kind="stable")[:top])
