"""The order and the front of networks, by brief and by full training."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.refine.comparison import compare, kendall, said
from nas.refined import Refined
from tests import refining
from tests.refining import refinement

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=0, max_size=12)


def refined(points: tuple[tuple[int, float], ...], means: tuple[float, ...], seeds: int = 1) -> list[Refined]:
    return [
        Refined(row, tuple(refinement(row, mean, r + 1) for r in range(seeds)))
        for row, mean in zip(refining.networks(points), means, strict=True)
    ]


@given(PAIRS)
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    before, after = [a / 7 for a, _ in pairs], [b / 7 for _, b in pairs]
    found = kendall(before, after, draws=20)
    if len(pairs) < 3 or len(set(before)) == 1 or len(set(after)) == 1:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(stats.kendalltau(before, after).statistic)
    assert found.n == len(pairs)
    assert -1 <= found.low <= found.high <= 1


@given(PAIRS)
def test_tau_knows_no_direction_but_order(pairs: list[tuple[int, int]]) -> None:
    before, after = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    one, other = kendall(before, after, draws=50), kendall(after, before, draws=50)
    turned = kendall(before, [-value for value in after], draws=50)
    assert (one is None) == (other is None) == (turned is None)
    if one is not None and other is not None and turned is not None:
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
        assert (one.value, one.low, one.high) == pytest.approx((-turned.value, -turned.high, -turned.low), abs=1e-9)


def test_the_interval_is_the_bootstraps() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=12)
    after = before + rng.normal(size=12)
    found = kendall(before.tolist(), after.tolist())
    taus = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2000):
            rows = rng.integers(0, 12, 12)
            taus.append(stats.kendalltau(before[rows], after[rows]).statistic)
    low, high = np.nanquantile(taus, (0.025, 0.975))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)
    assert found == kendall(before.tolist(), after.tolist())  # of the same values always the same


def test_means_that_differ_by_rounding_are_level() -> None:
    assert 0.1 + 0.2 != 0.3
    assert kendall([0.3, 0.1 + 0.2, 0.5], [1, 2, 3]) == kendall([0.3, 0.3, 0.5], [1, 2, 3])


def test_values_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        kendall([1, 2], [1, 2, 3])


def test_who_left_and_who_came() -> None:
    points = ((1, 0.6), (2, 0.7), (3, 0.69), (4, 0.8))
    found = compare(refined(points, (0.9, 0.88, 0.91, 0.95), seeds=2))
    assert (found.brief_front, found.front) == ((0, 1, 3), (0, 2, 3))
    assert (found.left, found.came) == ((1,), (2,))
    assert (found.seed_std, found.seed_networks, found.seed_trainings) == (0.0, 4, 8)
    order, seeds, front = said(found)
    assert order.startswith("Order against brief training: Kendall's tau 0.33 (95 % interval ")
    assert order.endswith("bootstrap over 4 networks).")
    assert seeds == "Standard deviation between seeds: 0.00 points, pooled over 4 networks with 8 trainings."
    assert front == "Front by the means: 3 of the 4, without trial 1, now with trial 2 against brief training."


def test_what_is_not_done_yet_is_not_compared() -> None:
    ready = refined(((1, 0.6), (2, 0.7), (3, 0.8)), (0.8, 0.85, 0.9), seeds=5)
    with_one = [*refined(((1, 0.6), (2, 0.7), (3, 0.8), (4, 0.9)), (0, 0, 0, 0.99))[3:], *ready]
    found, whole = compare(with_one), compare(ready)
    assert (found.networks, found.unfinished) == (3, 1)
    assert (found.tau, found.front) == (whole.tau, whole.front)
    assert said(found) == [
        "1 network with fewer trainings than the others: not compared, not chosen from.",
        *said(whole),
    ]


def test_too_little_to_tell_is_said() -> None:
    few = compare(refined(((1, 0.6), (2, 0.7)), (0.9, 0.95)))
    assert (few.tau, few.seed_std) == (None, None)
    assert said(few) == [
        "How far brief training told their order cannot be said of 2 networks.",
        "Standard deviation between seeds: unknown, no network has two trainings.",
        "Front by the means: 2 of the 2, the same as by brief training.",
    ]
    level = compare(refined(((1, 0.6), (2, 0.7), (3, 0.8)), (0.9, 0.9, 0.9)))
    assert said(level)[0] == "How far brief training told their order cannot be said of networks that are all level."


def test_the_front_of_what_was_refined_is_compared_with_theirs_alone() -> None:
    # Trial 5 was behind networks that are not refined: it does not come to a front by being alone.
    alone = compare(refined(((9, 0.5),), (0.6,)))
    assert (alone.brief_front, alone.front, alone.left, alone.came) == ((0,), (0,), (), ())
    nothing = compare([])
    assert (nothing.front, nothing.tau, nothing.seed_std) == ((), None, None)
    assert not math.isnan(nothing.seed_trainings)
