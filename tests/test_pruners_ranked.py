"""The rules that rank trials among each other, against rankings by brute force on shuffled clouds, and by hand."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from nas.pareto import dominates
from nas.search.pruners import AshaPruner, MoashaPruner, RankMedianPruner
from nas.search.pruners.moasha import spread
from nas.search.pruners.rungs import Curves
from tests.pruner_studies import LAST, STEPS, record, study_of, verdict_of

SHUFFLES = range(40)


def curves_of(points, row, completed=None):
    """A cloud of (cost, value) at one rung, one of which asks; a value of None was not reached."""
    costs = np.array([cost for cost, _ in points], dtype=float)
    values = np.array([[math.nan if value is None else value] for _, value in points], dtype=float)
    finals = np.full(len(points), math.nan)
    finals[: len(points) if completed is None else completed] = 0.5
    return Curves(costs, (3,), values, finals, ("",) * len(points), tuple(range(len(points))), row)


def stops(rule, points, row, completed=None):
    return rule.judge(curves_of(points, row, completed), 0)[0]


def shuffled(seed, size=60):
    """A noisy front as networks make it, in random order, rounded so that ties occur, some not reaching the rung."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 25, size)
    values = np.round(0.4 + 0.1 * np.log(costs) - rng.exponential(0.05, size), 2)
    return [
        (int(cost), None if gone else float(value))
        for cost, value, gone in zip(costs, values, rng.random(size) < 0.1, strict=True)
    ]


POINTS = st.lists(
    st.tuples(st.integers(0, 9), st.one_of(st.integers(-4, 9), st.none())), min_size=1, max_size=25
).filter(lambda points: any(value is not None for _, value in points))


def judged(points):
    return [row for row, (_, value) in enumerate(points) if value is not None]


def peeled(points):
    """Front after front: lists of rows, by what dominance is."""
    left, fronts = judged(points), []
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        fronts.append(front)
        left = [i for i in left if i not in front]
    return fronts


# ---- asha


def asha_by_hand(points, row, reduction):
    ordered = sorted((points[i][1] for i in judged(points)), reverse=True)
    return points[row][1] < ordered[max(1, len(ordered) // reduction) - 1]


@settings(max_examples=200, deadline=None)
@given(POINTS, st.sampled_from([2, 3, 4]))
def test_asha_goes_on_with_the_best_part_by_value(points, reduction):
    for row in judged(points):
        assert stops(AshaPruner(reduction=reduction), points, row) == asha_by_hand(points, row, reduction)


@pytest.mark.parametrize("seed", SHUFFLES)
def test_asha_on_shuffled_clouds(seed):
    points = shuffled(seed)
    assert {stops(AshaPruner(), points, row) for row in judged(points)} == {True, False}
    for row in judged(points):
        assert stops(AshaPruner(), points, row) == asha_by_hand(points, row, 3)


def test_asha_goes_on_with_one_of_few_and_with_all_that_tie():
    assert [stops(AshaPruner(), [(1, 0.5), (1, 0.6)], row) for row in (0, 1)] == [True, False]
    points = [(1, 0.5)] * 5 + [(1, 0.4)]
    assert [stops(AshaPruner(), points, row) for row in range(6)] == [False] * 5 + [True]


def test_asha_stops_small_networks_that_are_on_the_front():
    """The counterexample: no network is as small as these two, and the rule stops both."""
    done = [record(10 * i, dict.fromkeys((*STEPS, LAST), 0.1 * i), TrialState.COMPLETE, 0.9) for i in range(3, 9)]
    study = study_of([*done, record(10, {1: 0.1}), record(20, {1: 0.2})])
    for number in (-2, -1):
        verdict = verdict_of(AshaPruner(), study, number)
        assert verdict.prune
        assert verdict.dominated_by is None
        assert not verdict_of(RankMedianPruner(), study, number).prune


# ---- moasha


def net_by_hand(front):
    """Points in epsilon-net order: scaled over the front, the best value first, then ever the farthest one."""
    lows = [min(point[k] for point in front) for k in (0, 1)]
    spans = [max(point[k] for point in front) - lows[k] or 1 for k in (0, 1)]
    at = {point: complex(*((point[k] - lows[k]) / spans[k] for k in (0, 1))) for point in front}
    order = [max(front, key=lambda point: point[1])]
    while len(order) < len(front):
        rest = sorted(set(front) - set(order))  # the cheaper first: `max` keeps the first of equals
        order.append(max(rest, key=lambda point: min(abs(at[point] - at[other]) for other in order)))
    return order


def moasha_by_hand(points, reduction):
    """Row -> whether it is stopped: all trials in one list, front by front, and each counted from its first equal."""
    listed = []
    for front in peeled(points):
        for point in net_by_hand(sorted({points[i] for i in front})):
            listed += [point] * sum(points[i] == point for i in front)
    quota = max(1, len(listed) // reduction)
    return {row: listed.index(points[row]) >= quota for row in judged(points)}


@settings(max_examples=300, deadline=None)
@given(POINTS, st.sampled_from([2, 3]))
def test_moasha_goes_on_with_the_best_part_by_front_and_spread(points, reduction):
    expected = moasha_by_hand(points, reduction)
    assert {row: stops(MoashaPruner(reduction=reduction), points, row) for row in expected} == expected


@pytest.mark.parametrize("reduction", [2, 3])
@pytest.mark.parametrize("seed", SHUFFLES)
def test_moasha_on_shuffled_clouds(seed, reduction):
    points = shuffled(seed)
    expected = moasha_by_hand(points, reduction)
    assert {row: stops(MoashaPruner(reduction=reduction), points, row) for row in expected} == expected
    assert set(expected.values()) == {True, False}


def test_the_clouds_cut_fronts_in_two():
    """Else nothing above would have tested the spread."""
    cut = 0
    for seed in SHUFFLES:
        points = shuffled(seed)
        expected = moasha_by_hand(points, 3)
        cut += any(len({expected[i] for i in front}) == 2 for front in peeled(points))
    assert cut > len(SHUFFLES) / 2


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("reduction", "quota"), [(2, 15), (3, 10)])
def test_moasha_reads_ranks_and_not_an_order_however_long_the_queue(seed, reduction, quota):
    """Each dominates the next, in random order: exactly the first of them go on."""
    order = np.random.default_rng(seed).permutation(30)
    points = [(int(place) + 1, 0.9 - 0.01 * float(place)) for place in order]
    rule = MoashaPruner(reduction=reduction)
    assert [stops(rule, points, row) for row in range(30)] == [place >= quota for place in order]


@pytest.mark.parametrize("seed", range(10))
def test_moasha_covers_all_of_a_front_that_is_too_large(seed):
    """Nine evenly spaced on one line: the ends and the middle go on, both objectives on whatever scale."""
    order = np.random.default_rng(seed).permutation(9)
    for cost, value in itertools.product((1, 1e6), (1, 1e-3, 1.7e308)):
        points = [(cost * (1 + int(place)), value * (float(place) / 4 - 1)) for place in order]
        going = {int(place) for row, place in enumerate(order) if not stops(MoashaPruner(), points, row)}
        assert going == {0, 4, 8}


def test_moasha_stops_networks_that_are_on_the_front():
    """The counterexample: all six are on the front, and only its ends go on."""
    done = [record(10 * i, dict.fromkeys((*STEPS, LAST), 0.1 * i), TrialState.COMPLETE, 0.9) for i in range(1, 6)]
    study = study_of([*done, record(35, {1: 0.35})])
    verdict = verdict_of(MoashaPruner(), study)
    assert verdict.prune
    assert verdict.dominated_by is None
    assert verdict.words == (
        "rank 1 of 1 fronts among 6 trials at epoch 1; the best 2 go on, 2 of the 6 on this front, spread evenly"
    )
    assert not verdict_of(RankMedianPruner(), study).prune


def test_spread_of_equal_points_takes_their_places_together():
    costs, values = np.array([3.0, 1.0, 2.0, 3.0]), np.array([0.3, 0.1, 0.2, 0.3])
    # The two best first, then the cheapest, then the one between.
    assert [spread(costs, values, me, 1) for me in range(4)] == [True, False, False, True]
    assert [spread(costs, values, me, 2) for me in range(4)] == [True, False, False, True]
    assert [spread(costs, values, me, 3) for me in range(4)] == [True, True, False, True]
    assert [spread(costs, values, me, 4) for me in range(4)] == [True] * 4


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.integers(0, 10**6), min_size=1, max_size=40),
    st.sets(st.integers(0, 10**6), min_size=40, max_size=40),
    st.integers(1, 40),
)
def test_spread_of_large_fronts_is_the_greedy_order(costs, values, places):
    front = list(zip(sorted(costs), sorted(values), strict=False))
    chosen = net_by_hand(front)[:places]
    costs, values = np.array(front, dtype=float).T
    assert [spread(costs, values, me, places) for me in range(len(front))] == [point in chosen for point in front]


# ---- rank-median


def median_by_hand(points, row):
    rank = {i: number for number, front in enumerate(peeled(points)) for i in front}
    ahead = [i for i in rank if points[i][0] <= points[row][0] and points[i][1] > points[row][1]]
    return bool(ahead) and rank[row] > statistics.median(rank.values())


@settings(max_examples=200, deadline=None)
@given(POINTS)
def test_rank_median_stops_what_is_behind_the_median_rank(points):
    for row in judged(points):
        assert stops(RankMedianPruner(startup=1), points, row) == median_by_hand(points, row)


@settings(max_examples=200, deadline=None)
@given(POINTS)
def test_rank_median_never_stops_the_front(points):
    for row in peeled(points)[0]:
        assert not stops(RankMedianPruner(startup=1), points, row)


@pytest.mark.parametrize("seed", SHUFFLES)
def test_rank_median_on_shuffled_clouds(seed):
    points = shuffled(seed)
    assert {stops(RankMedianPruner(), points, row) for row in judged(points)} == {True, False}
    for row in judged(points):
        assert stops(RankMedianPruner(), points, row) == median_by_hand(points, row)


def test_rank_median_waits_for_completed_trials():
    points = [(1 + i, 0.9 - 0.1 * i) for i in range(8)]
    assert not stops(RankMedianPruner(), points, 7, completed=4)
    assert stops(RankMedianPruner(), points, 7, completed=5)
    assert RankMedianPruner().judge(curves_of(points, 7, 4), 0)[1] == (
        "4 completed trials at epoch 3, too few to judge by: 5 are needed"
    )
    assert not stops(RankMedianPruner(startup=9), points, 7)
    assert stops(RankMedianPruner(startup=8), points, 7)


def test_rank_median_lets_a_tie_with_a_smaller_network_go_on():
    """The largest of eight equal values is seven fronts down by the letter, and behind nobody."""
    points = [(1 + i, 0.5) for i in range(8)]
    stopped, why = RankMedianPruner().judge(curves_of(points, 7), 0)
    assert not stopped
    assert why == (
        "rank 8 of 8 fronts among 8 trials at epoch 3; those up to 4.5, the median, go on, "
        "as does this one, since no network that is no larger is ahead"
    )


# ---- arguments


@pytest.mark.parametrize("kind", [AshaPruner, MoashaPruner])
@pytest.mark.parametrize("reduction", [1, 0, -3, 2.5, math.nan, math.inf])
def test_a_reduction_that_keeps_no_part_is_refused(kind, reduction):
    with pytest.raises(ValueError, match=f"reduction must be a whole number >= 2, got {reduction}"):
        kind(reduction=reduction)


@pytest.mark.parametrize("startup", [0, -1, math.nan])
def test_a_startup_of_nothing_is_refused(startup):
    with pytest.raises(ValueError, match=f"startup must be >= 1, got {startup}"):
        RankMedianPruner(startup=startup)


# ---- who is named


def test_the_dominating_trial_is_the_cheapest_of_the_best_then_by_key():
    base = [record(50, dict.fromkeys((*STEPS, LAST), 0.2), TrialState.COMPLETE, 0.9, key="done")]
    rivals = [record(cost, {1: 0.8}, TrialState.PRUNED, key=key) for cost, key in [(40, "a"), (30, "c"), (30, "b")]]
    for kind in (AshaPruner, MoashaPruner, RankMedianPruner):
        assert verdict_of(kind(), study_of([*base, *rivals, record(60, {1: 0.1})])).dominated_by == 3
        # Its equal in both is no rival, its equal in value alone is one where it is smaller.
        assert verdict_of(kind(), study_of([*base, record(60, {1: 0.1}), record(60, {1: 0.1})])).dominated_by == 0
        assert verdict_of(kind(), study_of([*base, record(50, {1: 0.2})])).dominated_by is None
        assert verdict_of(kind(), study_of([*base, record(51, {1: 0.2})])).dominated_by == 0
        assert verdict_of(kind(), study_of([*base, record(50, {1: 0.1})])).dominated_by == 0
