"""By how much a front is above a line: against an oracle in plain Python, and what must hold for any front and line."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from nas.baseline_rows import Baseline
from nas.headline import Advantage, Headline, advantage, headline, plain, said
from nas.records import Row
from tests import refining
from tests.fake_study import STARTED
from tests.refining import RECIPE, refinement

Points = list[tuple[int, list[float]]]
SEEDS = 3


def points(least: int = 1) -> st.SearchStrategy[Points]:
    accuracy = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
    network = st.tuples(st.integers(100, 1_000_000), st.lists(accuracy, min_size=SEEDS, max_size=SEEDS))
    return st.lists(network, min_size=least, max_size=6)


def between(front: Points, line: Points) -> Advantage | None:
    return advantage([c for c, _ in front], [a for _, a in front], [c for c, _ in line], [a for _, a in line])


def oracle(front: Points, line: Points) -> tuple[list[float], float, float] | None:
    """Differences by seed in points, and the common range, without numpy."""
    low = max(min(c for c, _ in front), min(c for c, _ in line))
    high = min(max(c for c, _ in front), max(c for c, _ in line))
    if low > high:
        return None
    knots = sorted({c for c, _ in line})
    mean_at = {c: [fmean(a[seed] for cost, a in line if cost == c) for seed in range(SEEDS)] for c in knots}
    each = [0.0] * SEEDS
    for step in range(32):
        cost = low * (high / low) ** (step / 31)
        cost = low if step == 0 else high if step == 31 else cost
        best = min(
            (member for member in front if member[0] <= cost), key=lambda one: (-round(fmean(one[1]), 12), one[0])
        )
        right = next((k for k in knots if k >= cost), knots[-1])
        left = max((k for k in knots if k <= cost), default=right)
        part = 0.0 if left == right else math.log(cost / left) / math.log(right / left)
        for seed in range(SEEDS):
            there = mean_at[left][seed] * (1 - part) + mean_at[right][seed] * part
            each[seed] += 100 * (best[1][seed] - there) / 32
    return each, low, high


@given(points(), points())
def test_it_is_what_plain_python_works_out(front: Points, line: Points) -> None:
    found, expected = between(front, line), oracle(front, line)
    if expected is None:
        assert found is None
        return
    assert found is not None
    each, low, high = expected
    assert found.each == pytest.approx(each, abs=1e-7)
    assert found.costs == (low, high)
    assert found.points == pytest.approx(fmean(found.each))
    if stdev(found.each) > 1e-9:
        interval = ttest_1samp(found.each, 0).confidence_interval(0.95)
        assert found.interval == pytest.approx((interval.low, interval.high))


@given(points(), points(), st.integers(-100, 100), st.integers(2, 50))
def test_a_shift_moves_it_and_a_unit_or_an_order_does_not(front: Points, line: Points, shift: int, unit: int) -> None:
    found = between(front, line)
    if found is None:
        return
    higher = between([(c, [x + shift / 100 for x in a]) for c, a in front], line)
    dearer = between([(c * unit, a) for c, a in front], [(c * unit, a) for c, a in line])
    assert higher is not None
    assert dearer is not None
    assert higher.points == pytest.approx(found.points + shift, abs=1e-6)
    assert higher.interval == pytest.approx([end + shift for end in found.interval], abs=1e-6)
    assert dearer.each == pytest.approx(found.each, abs=1e-6)
    turned = between(front, line[::-1])
    assert turned is not None
    assert turned.each == pytest.approx(found.each, abs=1e-9)


@given(points(), points(2), st.floats(0, 1))
def test_a_network_that_is_beaten_and_a_point_on_the_line_change_nothing(
    front: Points, line: Points, part: float
) -> None:
    found = between(front, line)
    if found is None:
        return
    best = max(front, key=lambda one: (fmean(one[1]), -one[0]))
    beaten = between([*front, (best[0], [x - 0.1 for x in best[1]])], line)
    assert beaten is not None
    assert beaten.each == pytest.approx(found.each, abs=1e-9)
    knots = sorted({c for c, _ in line})
    if len(knots) < 2 or len(knots) < len(line):
        return
    (left, low), (right, high) = ((c, next(a for cost, a in line if cost == c)) for c in knots[:2])
    cost = left * (right / left) ** part
    share = math.log(cost / left) / math.log(right / left)
    costs = [*(c for c, _ in line), cost]
    values = [*(a for _, a in line), [x * (1 - share) + y * share for x, y in zip(low, high, strict=True)]]
    more = advantage([c for c, _ in front], [a for _, a in front], costs, values)
    assert more is not None
    assert more.each == pytest.approx(found.each, abs=1e-6)


@given(points())
def test_a_rising_line_is_never_behind_its_own_points(line: Points) -> None:
    rising: Points = []
    for cost, values in sorted({cost: (cost, values) for cost, values in line}.values()):
        rising.append((cost, [max(value, before) for value, before in zip(values, rising[-1][1], strict=True)]
                       if rising else values))  # fmt: skip
    found = between(rising, rising)
    assert found is not None
    assert found.points <= 1e-9


def test_an_example_by_hand() -> None:
    # One step of the front at the range's upper end only: 31 of 32 costs see the first member.
    front: Points = [(100, [0.5, 0.6, 0.7]), (10_000, [0.9, 0.9, 0.9])]
    line: Points = [(100, [0.4, 0.4, 0.4]), (10_000, [0.4, 0.4, 0.4])]
    found = between(front, line)
    assert found is not None
    assert found.each == pytest.approx([(31 * x + 50) / 32 for x in (10, 20, 30)])
    assert found.costs == (100, 10_000)


def test_one_cost_in_common_is_enough_and_none_is_none() -> None:
    line: Points = [(100, [0.4] * 3), (10_000, [0.6] * 3)]
    found = between([(1000, [0.7] * 3)], line)
    assert found is not None
    assert found.costs == pytest.approx((1000, 1000), rel=0)
    assert found.each == pytest.approx([20.0] * 3)
    assert between([(99, [0.7] * 3)], line) is None
    assert between([(10_001, [0.7] * 3)], line) is None
    assert between([], line) is None
    assert between(line, []) is None


def test_one_seed_has_no_interval() -> None:
    found = advantage([10, 20], [[0.5], [0.6]], [10, 20], [[0.4], [0.5]])
    assert found is not None
    assert all(math.isnan(end) for end in found.interval)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"front_accuracies": [[0.5, 0.6]]}, "same seeds"),
        ({"front_accuracies": [[]], "line_accuracies": [[]]}, "same seeds"),
        ({"front_accuracies": [0.5]}, "shapes"),
        ({"front_costs": [1, 2]}, "shapes"),
        ({"front_costs": [0]}, "above 0"),
        ({"line_accuracies": [[math.nan]]}, "finite"),
        ({"line_costs": [math.inf]}, "finite"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    known = {"front_costs": [1], "front_accuracies": [[0.5]], "line_costs": [1], "line_accuracies": [[0.4]]}
    with pytest.raises(ValueError, match=words):
        advantage(**{**known, **change})


def baseline(row: Row, accuracy: float) -> Baseline:
    """A point of the line that was never trained, on this row's network."""
    return Baseline(
        kind="line", name=f"line {row.trial}", key=row.key, architecture=row.architecture, params=row.params,
        macs=row.macs, input_shape=(1, 8, 8), recipe_name="study", recipe=RECIPE.model_dump(mode="json"), replicate=0,
        seed=1, val_accuracy=accuracy, curve=((1, accuracy, 1.0),), seconds=1.0, device="cpu", threads=1, dataset="0",
        split="0", started_at=STARTED, finished_at=STARTED,
    )  # fmt: skip


NETWORKS = sorted(refining.networks([(0, 0.5)] * 8), key=lambda row: row.params)
FRONT = [replace(row, val_accuracy=0.5 + row.params / 1e6) for row in NETWORKS[1:4]]
LINE = [baseline(row, 0.4) for row in (NETWORKS[0], *NETWORKS[4:6])]
OTHERS = [replace(row, trial=-1) for row in (NETWORKS[0], *NETWORKS[4:6])]


def test_before_full_training_it_is_marked_as_optimistic() -> None:
    found = headline(FRONT, LINE, [])
    assert found is not None
    assert found.params is not None
    assert found.macs is not None
    expected = between([(r.params, [r.val_accuracy or 0] * 3) for r in FRONT], [(b.params, [0.4] * 3) for b in LINE])
    assert expected is not None
    assert found.params.points == pytest.approx(expected.points)
    words = "\n".join(said(found, "s"))
    assert "selected on the same reading" in words
    assert "optimistic" in words
    assert "nas refine s --with-line" in words
    assert "interval" not in words
    assert plain(found)["selected_on_the_same_reading"] is True


def test_full_trainings_of_both_with_the_same_seeds_make_the_headline() -> None:
    trainings = [refinement(row, 0.6 + r / 100, r) for row in FRONT for r in range(1, 6)]
    trainings += [refinement(row, 0.5 + r / 50, r) for row in OTHERS for r in range(1, 6)]
    found = headline(FRONT, LINE, trainings)
    assert found is not None
    assert (found.brief, found.seeds, found.epochs) == (False, 5, 8)
    assert found.params is not None
    assert found.macs is not None
    assert found.params.each == pytest.approx([9, 8, 7, 6, 5])
    assert found.macs.each == pytest.approx([9, 8, 7, 6, 5])
    words = "\n".join(said(found, "s"))
    assert "+7.00 points (95 % interval +5.04 to +8.96) at equal parameters" in words
    assert "optimistic" not in words
    assert "asks for" not in words


def test_the_search_s_own_networks_outside_its_front_do_not_count() -> None:
    trainings = [refinement(row, 0.6, r) for row in FRONT for r in range(1, 6)]
    trainings += [refinement(row, 0.5, r) for row in OTHERS for r in range(1, 6)]
    trainings += [refinement(NETWORKS[6], 0.99, r) for r in range(1, 6)]
    found = headline(FRONT, LINE, trainings)
    assert found is not None
    assert found.params is not None
    assert found.params.points == pytest.approx(10)


def test_a_few_seeds_and_networks_that_are_missing_are_said() -> None:
    trainings = [refinement(row, 0.6, r) for row in FRONT[:2] for r in range(1, 6)]
    trainings += [refinement(row, 0.5, r) for row in OTHERS[:2] for r in range(1, 4)]
    found = headline(FRONT, LINE, trainings)
    assert found is not None
    assert (found.seeds, found.members, found.line) == (3, 2, 2)
    words = "\n".join(said(found, "s"))
    assert "asks for 5" in words
    assert "2 of 3 on the front and 2 of 3 of the line took part" in words


def test_the_longest_trainings_that_both_have_count() -> None:
    short = [refinement(row, 0.6, 1) for row in (*FRONT, *OTHERS)]
    long = [refinement(row, 0.9, 1, epochs=20) for row in FRONT]
    found = headline(FRONT, LINE, [*short, *long])
    assert found is not None
    assert (found.epochs, found.brief) == (8, False)
    found = headline(FRONT, LINE, [*short, *long, *(refinement(row, 0.8, 1, epochs=20) for row in OTHERS)])
    assert found is not None
    assert found.params is not None
    assert found.epochs == 20
    assert found.params.points == pytest.approx(10)


def test_longer_trainings_that_are_not_done_take_no_others_place() -> None:
    done = [refinement(row, 0.6, r) for row in (*FRONT, *OTHERS) for r in range(1, 6)]
    begun = [refinement(row, 0.9, 1, epochs=20) for row in (*FRONT, *OTHERS)]
    found = headline(FRONT, LINE, [*done, *begun])
    assert found is not None
    assert (found.epochs, found.seeds) == (8, 5)
    more = [refinement(row, 0.9, r, epochs=20) for row in (*FRONT, *OTHERS) for r in range(1, 6)]
    found = headline(FRONT, LINE, [*done, *more])
    assert found is not None
    assert (found.epochs, found.seeds) == (20, 5)


def test_trainings_of_the_front_alone_leave_the_brief_headline() -> None:
    found = headline(FRONT, LINE, [refinement(row, 0.9, r) for row in FRONT for r in range(1, 6)])
    assert found is not None
    assert found.brief


def test_without_a_front_or_a_line_there_is_none() -> None:
    assert headline([], LINE, []) is None
    assert headline(FRONT, [], []) is None


def test_no_cost_in_common_is_said() -> None:
    assert "no cost in common" in said(Headline(None, None, True, 1, 3, 1, 1, 1, 1), "s")[0]


def test_the_numbers_are_plain_data() -> None:
    found = headline(FRONT, LINE, [refinement(row, 0.6, r) for row in (*FRONT, *OTHERS) for r in (1, 2)])
    assert found is not None
    given = plain(found)["at_equal_params"]
    assert isinstance(given, dict)
    assert np.allclose(given["interval"], [0, 0])
