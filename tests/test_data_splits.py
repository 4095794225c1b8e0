"""Splits by content: properties over random sources with copies, and a hand-written count."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data.source import Source
from nas.data.splits import KNOWN, USUAL_PARTS, Split, split
from nas.errors import DataError

Image = tuple[int, int, bool]  # content, label, official test


def source(images: list[Image], classes: int, official: bool) -> Source:
    contents, labels, test = zip(*images, strict=True)
    return Source(
        name="made",
        classes=tuple(f"class {n}" for n in range(classes)),
        pixels=np.zeros((len(images), 1, 1, 1), np.uint8),
        labels=np.array(labels, np.int64),
        hashes=tuple(hashlib.sha256(str(content).encode()).digest() for content in contents),
        official_test=np.array(test) if official else None,
    )


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """Two to four classes with three distinct contents each at the least, then copies at random."""
    classes, official = draw(st.integers(2, 4)), draw(st.booleans())
    images: list[Image] = [(10 * label + n, label, False) for label in range(classes) for n in range(3)]
    images += [(1000 + label, label, True) for label in range(classes)]
    more = st.tuples(st.integers(100, 160), st.integers(0, classes - 1), st.booleans())
    images += draw(st.lists(more, max_size=60))
    return source(draw(st.permutations(images)), classes, official)


def contents(made: Source, rows: np.ndarray) -> set[bytes]:
    return {made.hashes[row] for row in rows}


def sides(parts: Split) -> tuple[list[int], list[int], list[int]]:
    return parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()


@settings(max_examples=150, deadline=None)
@given(made=sources(), seed=st.integers(0, 3))
def test_no_image_twice_and_no_content_on_two_sides(made: Source, seed: int) -> None:
    parts = split(made, seed=seed)
    rows = [row for side in sides(parts) for row in side]
    assert len(rows) == len(set(rows)) == len(made.labels) - parts.dropped
    held = [contents(made, side) for side in (parts.train, parts.validation, parts.test)]
    assert sum(len(side) for side in held) == len(set(made.hashes))
    for side in (parts.train, parts.validation):
        assert set(made.labels[side]) == set(range(len(made.classes)))
    if made.official_test is None:
        assert parts.dropped == 0
    else:
        assert parts.test.tolist() == sorted(np.flatnonzero(made.official_test), key=lambda r: (made.hashes[r], r))


@settings(max_examples=150, deadline=None)
@given(made=sources(), seed=st.integers(0, 3))
def test_parts_of_the_distinct_contents_of_each_class(made: Source, seed: int) -> None:
    """Counted the slow way: a content counts for its first class."""
    parts = split(made, seed=seed)
    first: dict[bytes, int] = {}
    for content, label in zip(made.hashes, made.labels.tolist(), strict=True):
        first[content] = min(label, first.get(content, label))
    held = [Counter(first[c] for c in contents(made, side)) for side in (parts.train, parts.validation, parts.test)]
    for label in range(len(made.classes)):
        train, validation, test = (side[label] for side in held)
        rest = train + validation
        assert validation == max(1, int(Fraction(15, 100) * rest + Fraction(1, 2)))
        if made.official_test is None:
            assert test == max(1, int(Fraction(20, 100) * (rest + test) + Fraction(1, 2)))


@settings(max_examples=100, deadline=None)
@given(made=sources(), data=st.data())
def test_neither_order_nor_seed_nor_limit_touches_the_test_side(made: Source, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(made.labels))))
    other = Source(
        name="shuffled",
        classes=made.classes,
        pixels=made.pixels,
        labels=made.labels[order],
        hashes=tuple(made.hashes[row] for row in order),
        official_test=None if made.official_test is None else made.official_test[order],
    )
    assert made.digest == other.digest
    assert split(made).digest == split(other).digest
    limit = data.draw(st.integers(len(made.classes), len(made.labels)))
    moved = split(other, seed=data.draw(st.integers(1, 9)), train_limit=limit)
    assert contents(made, split(made).test) == contents(other, moved.test)


@settings(max_examples=100, deadline=None)
@given(made=sources(), data=st.data())
def test_a_limit_keeps_every_class_in_proportion(made: Source, data: st.DataObject) -> None:
    whole = split(made)
    limit = data.draw(st.integers(len(made.classes), len(whole.train) + 2))
    kept, fewer = split(made, train_limit=limit), split(made, train_limit=max(limit - 1, len(made.classes)))
    assert len(kept.train) == min(limit, len(whole.train))
    assert set(fewer.train) <= set(kept.train) <= set(whole.train)
    sizes, counts = Counter(made.labels[whole.train]), Counter(made.labels[kept.train])
    # the rarest place that stayed and the first that went differ by less than one image of any class
    for one in sizes:
        for other in sizes:
            if counts[other] < sizes[other]:
                assert Fraction(counts[one] - 1, int(sizes[one])) <= Fraction(counts[other], int(sizes[other]))


def test_test_contents_are_those_with_the_lowest_hashes() -> None:
    made = source([(n, n % 2, False) for n in range(40)], 2, official=False)
    by_class: dict[int, list[bytes]] = defaultdict(list)
    for content, label in zip(made.hashes, made.labels, strict=True):
        by_class[label].append(content)
    lowest = {content for members in by_class.values() for content in sorted(members)[:4]}
    assert contents(made, split(made).test) == lowest


def test_adding_an_image_moves_few_others() -> None:
    """A folder that grows keeps its test images but for the one or two at the border."""
    images: list[Image] = [(n, n % 2, False) for n in range(400)]
    before, after = (source(part, 2, official=False) for part in (images[:380], images))
    lost = contents(before, split(before).test) - contents(after, split(after).test)
    assert len(lost) <= 4


def test_validation_is_chosen_afresh_by_each_seed() -> None:
    made = source([(n, n % 2, False) for n in range(400)], 2, official=False)
    one, other = (contents(made, split(made, seed=seed).validation) for seed in (0, 1))
    assert len(one) == len(other) == 48
    assert 0 < len(one & other) < 20  # 7 expected of two independent choices


def test_a_class_of_copies_alone_is_too_small() -> None:
    images = [(n, 0, False) for n in range(10)] + [(n, 1, False) for n in range(10)]
    with pytest.raises(DataError, match=r"'class 1' has 0 distinct images.*copies count once"):
        split(source(images, 2, official=False))


def test_digest_tells_labels_sides_and_classes() -> None:
    images: list[Image] = [(n, n % 2, n > 6) for n in range(10)]
    made = source(images, 2, official=True)
    flipped = source([(c, 1 - label if c == 0 else label, t) for c, label, t in images], 2, official=True)
    moved = source([(c, label, t or c == 0) for c, label, t in images], 2, official=True)
    unofficial = source(images, 2, official=False)
    named = source(images, 3, official=True)
    assert len({s.digest for s in (made, flipped, moved, unofficial, named)}) == 5


def test_digest_tells_a_label_that_leaves_the_order_as_it_is() -> None:
    made = source([(n, 0, False) for n in range(8)], 2, official=False)
    hashes = tuple(sorted(made.hashes))
    labels = [np.array([0] * zeros + [1] * (8 - zeros)) for zeros in (4, 5)]
    one, other = (replace(made, hashes=hashes, labels=given) for given in labels)
    assert one.digest != other.digest
    assert split(one).digest != split(other).digest


def test_known_parts_are_named_and_leave_most_for_training() -> None:
    assert all(known.name and known.parts.test + known.parts.validation < Fraction(1, 2) for known in KNOWN.values())
    assert USUAL_PARTS.test == Fraction(1, 5)
