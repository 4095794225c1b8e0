"""Shares: drawn as sorted uniforms, and repaired to the exact optimum when they become whole channel steps."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas import rule
from nas.rule import growing, repair, repair_each


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_growing_is_distributed_as_sorted_uniforms(count: int) -> None:
    drawn = growing(np.random.default_rng(0).random((20_000, count)))
    assert drawn.shape == (20_000, count)
    assert (np.diff(drawn, axis=1) >= 0).all()
    for k in range(count):
        # the k-th of n sorted uniforms follows Beta(k, n + 1 - k)
        assert stats.kstest(drawn[:, k], stats.beta(k + 1, count - k).cdf).pvalue > 1e-3
    if count > 1:  # and jointly: neighbours correlate as theirs do
        expected = np.sqrt((count - 1) / (2 * count))
        assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(expected, abs=0.03)


def test_growing_at_the_ends() -> None:
    assert growing(np.zeros(4)).tolist() == [0, 0, 0, 0]
    assert growing(np.ones(4)).tolist() == [1, 1, 1, 1]
    assert growing(np.array([0.0, 1.0, 0.5])).tolist() == [0, 1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_growing_never_falls_and_stays_inside(u: list[float]) -> None:
    drawn = growing(np.array(u))
    assert (np.diff(drawn) >= 0).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def distance(chosen: tuple[int, ...], totals: list[int], shares: list[float]) -> float:
    return sum((a / n - share) ** 2 for a, n, share in zip(chosen, totals, shares, strict=True))


def obeys(chosen: tuple[int, ...], totals: list[int]) -> bool:
    return all(chosen[k] * totals[k - 1] >= chosen[k - 1] * totals[k] for k in range(1, len(totals)))


def drawn(size: int, modules: int) -> st.SearchStrategy[tuple[list[int], list[float]]]:
    return st.tuples(
        st.lists(st.integers(2, size).map(lambda half: 2 * half), min_size=modules, max_size=modules),
        st.lists(st.floats(0, 1), min_size=modules, max_size=modules),
    )


@given(st.integers(1, 4).flatmap(lambda modules: drawn(6, modules)), st.booleans())
@settings(max_examples=200, deadline=None)
def test_repair_is_the_best_of_all(case: tuple[list[int], list[float]], growing_shares: bool) -> None:
    totals, shares = case
    if growing_shares:
        shares = sorted(shares)
    (chosen,) = repair(np.array([totals]), np.array([shares])).tolist()
    choices = product(*(range(2, n - 1) for n in totals))
    least = min(distance(choice, totals, shares) for choice in choices if obeys(choice, totals))
    assert all(2 <= a <= n - 2 for a, n in zip(chosen, totals, strict=True))
    assert obeys(chosen, totals)
    assert distance(chosen, totals, shares) == pytest.approx(least, abs=1e-12)


def test_repair_takes_many_rows_at_once() -> None:
    """As one by one, and many of them need it (else this would test rounding)."""
    random = np.random.default_rng(0)
    totals = 2 * random.integers(2, 40, (300, 6))
    shares = np.sort(random.random((300, 6)), axis=1)
    together = repair(totals, shares)
    for row in range(300):
        assert (repair(totals[row : row + 1], shares[row : row + 1])[0] == together[row]).all()
        assert obeys(tuple(together[row]), list(totals[row]))
    nearest = np.clip(np.floor(shares * totals + 0.5), 2, totals - 2)
    assert (nearest != together).any(axis=1).mean() > 0.2
    assert (repair(totals, shares[:1]) == repair(totals, np.repeat(shares[:1], 300, axis=0))).all()


def test_repair_leaves_what_obeys() -> None:
    totals, shares = np.array([[8, 16, 40]]), np.array([[0.25, 0.5, 0.9]])
    assert repair(totals, shares).tolist() == [[2, 8, 36]]


def both(size: int, modules: int) -> st.SearchStrategy[tuple[list[int], list[tuple[float, float]]]]:
    return st.tuples(
        st.lists(st.integers(1, size).map(lambda quarter: 4 * quarter), min_size=modules, max_size=modules),
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=modules, max_size=modules),
    )


@given(st.integers(1, 3).flatmap(lambda modules: both(3 if modules < 3 else 2, modules)), st.booleans())
@settings(max_examples=100, deadline=None)
def test_repair_of_two_chains_is_the_best_of_all(
    case: tuple[list[int], list[tuple[float, float]]], apart: bool
) -> None:
    totals, pairs = case
    scale = 0.4 if apart else 1.0  # small shares rarely meet in their sum, large ones always do
    threes, fives = ([scale * pair[side] for pair in pairs] for side in (0, 1))
    found = repair_each(np.array([totals]), np.array([threes]), np.array([fives]))
    three, five = (tuple(chain[0].tolist()) for chain in found)
    least = min(
        distance(tuple(a for a, _ in choice), totals, threes) + distance(tuple(b for _, b in choice), totals, fives)
        for choice in product(*([(a, b) for a in range(1, n - 2) for b in range(1, n - 1 - a)] for n in totals))
        if obeys(tuple(a for a, _ in choice), totals) and obeys(tuple(b for _, b in choice), totals)
    )
    assert all(a >= 1 and b >= 1 and a + b <= n - 2 for a, b, n in zip(three, five, totals, strict=True))
    assert obeys(three, totals)
    assert obeys(five, totals)
    assert distance(three, totals, threes) + distance(five, totals, fives) == pytest.approx(least, abs=1e-12)


def test_both_ways_of_repairing_two_chains_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the chains do not meet, the joint search is left out; where they do, it runs."""
    calls = []
    joint = rule._joint
    monkeypatch.setattr(rule, "_joint", lambda *arguments: calls.append(1) or joint(*arguments))
    totals = np.array([[8, 12, 16]])
    repair_each(totals, np.array([[0.2, 0.3, 0.4]]), np.array([[0.1, 0.2, 0.3]]))
    assert not calls
    three, five = repair_each(totals, np.array([[0.5, 0.6, 0.6]]), np.array([[0.5, 0.5, 0.6]]))
    assert calls
    assert (three + five <= totals - 2).all()
