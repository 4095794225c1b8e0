"""Which image trains, validates or tests: by hashes of the contents, so that files may be renamed or moved.

The test side depends on nothing but the images. No study's test image is another study's training image, whatever
their seeds, limits and input sizes. Exact duplicates stay on one side, also where their classes differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nas.data.source import Source
from nas.errors import DataError


@dataclass(frozen=True, slots=True)
class Parts:
    """How much of a class's distinct images tests, and how much of the rest validates."""

    test: Fraction
    validation: Fraction


USUAL_PARTS = Parts(test=Fraction(1, 5), validation=Fraction(3, 20))


@dataclass(frozen=True, slots=True)
class Known:
    """Data by its own name, with the parts agreed on for it."""

    name: str
    parts: Parts


# Data whose split is agreed on elsewhere, by `Source.digest`. The CIFAR-10 training images as JPEG files come without
# the official test images; results on them compare only where all hold out the same 5,000 + 5,000 of the 50,000.
# The digest is of decoded pixels: Pillow's wheels all give these, a JPEG library that upsamples otherwise may not.
# Fashion-MNIST stands here so that a reader of its files that changes a pixel is found out; its test set is its own.
KNOWN: dict[str, Known] = {
    "8b8daa74d58ab573d1a44bbbc58a82c95718ac48e54a9d79d4a9ed424db6c8d8": Known(
        "CIFAR-10, JPEG copy", Parts(test=Fraction(1, 10), validation=Fraction(1, 9))
    ),
    "96881af89b6483e1fb5d15bdf202c73886191a5a3c035a5ee31a65fb90e49699": Known("Fashion-MNIST", USUAL_PARTS),
}


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of a source's images by side, each in the order of the contents' hashes.

    Args:
        dropped: training images that are exact duplicates of official test images, and so belong to no side.
        digest: SHA-256 of which content and label is on which side.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: int
    digest: str


def split(source: Source, *, seed: int = 0, train_limit: int | None = None) -> Split:
    """Divide a source's images.

    Test: the official test images, or the fifth of each class's distinct images whose hashes are lowest. Validation:
    15 % of each class's remaining ones, by SHA-256 of seed and content. Counts round half up and are at least one.
    A content that occurs in several classes counts for the first of them.

    Args:
        seed: of the validation side only.
        train_limit: keep this many training images, of every class the same part and at least one. A larger limit
            keeps all that a smaller one keeps. None, or more than there are, keeps all.

    Raises:
        DataError: a class with too few distinct images, or a limit under the number of classes.
    """
    if train_limit is not None and train_limit < 1:
        raise DataError(f"train limit must be at least 1, got {train_limit}: give a larger --train-limit")
    parts = KNOWN[source.digest].parts if source.digest in KNOWN else USUAL_PARTS
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, content in enumerate(source.hashes):
        rows_of[content].append(row)

    if source.official_test is None:
        contents = set(rows_of)
        test = _lowest(_by_class(source, rows_of, contents, needed=3), parts.test, key=bytes)
    else:
        test = {content for content, is_test in zip(source.hashes, source.official_test, strict=True) if is_test}
    rest = set(rows_of) - test
    validation = _lowest(
        _by_class(source, rows_of, rest, needed=2), parts.validation, key=lambda c: _keyed(f"validation {seed} ", c)
    )
    sides = {
        name: np.array([row for content in sorted(side) for row in rows_of[content]], np.int64)
        for name, side in (("train", rest - validation), ("validation", validation), ("test", test))
    }
    dropped = 0
    if source.official_test is not None:
        official = source.official_test[sides["test"]]
        dropped = int((~official).sum())
        sides["test"] = sides["test"][official]
    if train_limit is not None and train_limit < len(sides["train"]):
        sides["train"] = _limited(sides["train"], source, train_limit)

    digest = hashlib.sha256()
    for name, rows in sides.items():
        digest.update(f"{name} {len(rows)} ".encode())
        for content, label in sorted((source.hashes[row], int(source.labels[row])) for row in rows):
            digest.update(content + b"%d " % label)
    return Split(sides["train"], sides["validation"], sides["test"], dropped, digest.hexdigest())


def _keyed(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _by_class(
    source: Source, rows_of: dict[bytes, list[int]], contents: Iterable[bytes], needed: int
) -> list[list[bytes]]:
    """Distinct contents by class; a content of several classes counts for the first."""
    by_class: list[list[bytes]] = [[] for _ in source.classes]
    labels = source.labels.tolist()
    for content in contents:
        by_class[min(labels[row] for row in rows_of[content])].append(content)
    for name, members in zip(source.classes, by_class, strict=True):
        if len(members) < needed:
            kept = "training and validation" if needed == 2 else "training, validation and test"
            copies = "exact copies count once" + (", those of test images not at all" if needed == 2 else "")
            raise DataError(
                f"class {name!r} has {len(members)} distinct images, and {kept} need at least {needed}: add images "
                f"({copies}) or leave the class out"
            )
    return by_class


def _lowest(by_class: list[list[bytes]], part: Fraction, key: Callable[[bytes], bytes]) -> set[bytes]:
    """The part of each class whose keys are lowest."""
    chosen: set[bytes] = set()
    for members in by_class:
        count = max(1, int(part * len(members) + Fraction(1, 2)))
        chosen.update(sorted(members, key=key)[:count])
    return chosen


def _limited(rows: NDArray[np.int64], source: Source, limit: int) -> NDArray[np.int64]:
    """`limit` of the rows, stratified: the j-th of a class's n stands at j / n, and the lowest stay."""
    labels = source.labels[rows].tolist()
    sizes = Counter(labels)
    if limit < len(sizes):
        left = source.classes[sorted(sizes)[limit]]
        raise DataError(
            f"train limit {limit} leaves no image of class {left!r}: {len(sizes)} classes need a --train-limit of at "
            f"least {len(sizes)}"
        )
    seen: Counter[int] = Counter()
    places = []
    for place in sorted(range(len(rows)), key=lambda i: _keyed("train limit ", source.hashes[rows[i]])):
        label = labels[place]
        places.append((Fraction(seen[label], sizes[label]), label, place))
        seen[label] += 1
    return rows[sorted(place for _, _, place in sorted(places)[:limit])]
