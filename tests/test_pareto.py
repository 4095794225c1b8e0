"""Fronts against a naive oracle, and the picks at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.pareto import behind, best, dominates, front, hypervolume, hypervolumes, knee, ranks, under

SEEDS = range(200)


def cloud(seed: int) -> tuple[list[int], list[float]]:
    """Few distinct integers, so that ties in cost, in accuracy and in both are common."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))
    return rng.integers(1, 12, size).tolist(), (rng.integers(0, 12, size) / 11).tolist()


def naive_front(costs, accuracies):
    points = list(zip(costs, accuracies, strict=True))
    kept = [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    return sorted(kept, key=lambda i: (costs[i], i))


@pytest.mark.parametrize("seed", SEEDS)
def test_front_is_what_no_other_dominates(seed):
    costs, accuracies = cloud(seed)
    assert front(costs, accuracies) == naive_front(costs, accuracies)


@pytest.mark.parametrize("seed", SEEDS)
def test_behind_is_the_lead_of_the_best_that_costs_no_more(seed):
    costs, accuracies = cloud(seed)
    points = list(zip(costs, accuracies, strict=True))
    naive = [max(other for limit, other in points if limit <= cost) - accuracy for cost, accuracy in points]
    assert behind(costs, accuracies).tolist() == pytest.approx(naive)
    assert behind([], []).tolist() == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_nothing_is_behind_what_is_no_number(wrong):
    with pytest.raises(ValueError, match="accuracies must be finite"):
        behind([1, 2], [0.5, wrong])
    with pytest.raises(ValueError, match="costs must be finite"):
        behind([1, wrong], [0.5, 0.5])


def test_equal_points_are_all_on_the_front_in_the_order_of_their_indices():
    assert front([5, 3, 5, 3, 4], [0.9, 0.5, 0.9, 0.5, 0.4]) == [1, 3, 0, 2]


def test_dominance_needs_one_strict_gain():
    assert dominates((1, 0.5), (2, 0.5))
    assert dominates((1, 0.6), (1, 0.5))
    assert not dominates((1, 0.5), (1, 0.5))
    assert not dominates((1, 0.4), (2, 0.5))
    with pytest.raises(ValueError, match="dominance needs numbers"):
        dominates((1, math.nan), (2, 0.5))


def peeled(points):
    """Front after front taken away: what `ranks` means, in O(n^3)."""
    found, left, rank = [None] * len(points), set(range(len(points))), 0
    while left:
        layer = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for i in layer:
            found[i] = rank
        left -= layer
        rank += 1
    return found


@given(st.lists(st.tuples(st.integers(-3, 6), st.sampled_from([-0.5, 0.0, 0.1, 0.2, 0.3, 0.7, 40.0])), max_size=30))
def test_ranks_are_what_peeling_front_after_front_finds(points):
    assert ranks([cost for cost, _ in points], [accuracy for _, accuracy in points]) == peeled(points)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_do_not_depend_on_the_order(seed):
    costs, accuracies = cloud(seed)
    points = list(zip(costs, accuracies, strict=True))
    expected = peeled(points)
    assert ranks(costs, accuracies) == expected
    assert sorted(i for i, rank in enumerate(expected) if rank == 0) == sorted(front(costs, accuracies))
    order = np.random.default_rng(seed).permutation(len(points))
    assert ranks(np.array(costs)[order], np.array(accuracies)[order]) == [expected[i] for i in order]


def test_ranks_by_hand():
    assert ranks([], []) == []
    assert ranks([3, 1, 2, 1, 3], [0.5, 0.5, 0.4, 0.5, 0.6]) == [1, 0, 1, 0, 0]
    assert ranks([4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4]) == [3, 2, 1, 0]
    assert ranks([0, -1], [-2.5, -2.5]) == [1, 0], "only order counts: a loss's negative, a cost of nothing"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_ranks_refuse_what_has_no_place(wrong):
    with pytest.raises(ValueError, match=r"costs must be finite, got .* at index 1"):
        ranks([1, wrong], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"accuracies must be finite, got .* at index 1"):
        ranks([1, 1], [0.5, wrong])


@pytest.mark.parametrize("seed", SEEDS)
def test_hypervolume_is_the_area_counted_cell_by_cell(seed):
    costs, accuracies = cloud(seed)
    # Powers of two at the cell borders in log cost, elevenths in accuracy: the grid resolves the area exactly.
    area = 0.0
    for column in range(8):
        for row in range(11):
            covered = any(
                c <= column + 1 and a >= (row + 1) / 11 - 1e-12 for c, a in zip(costs, accuracies, strict=True)
            )
            floor = max(row / 11, 0.5)
            area += covered * max((row + 1) / 11 - floor, 0)
    doubled = [2.0**cost for cost in costs]
    assert hypervolume(doubled, accuracies, cost_range=(2.0, 2.0**9), classes=2) == pytest.approx(area / 8 / 0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_history_of_hypervolumes_is_that_of_every_prefix(seed):
    costs, accuracies = cloud(seed)  # 11 costs, some beyond the box; 12 accuracies, some below chance
    box = {"cost_range": (3.0, 10.0), "classes": 5}
    history = hypervolumes(costs, accuracies, **box)
    prefixes = [hypervolume(costs[:end], accuracies[:end], **box) for end in range(1, len(costs) + 1)]
    assert history.tolist() == pytest.approx(prefixes, abs=1e-12)
    assert (np.diff(history) >= 0).all()


def test_hypervolume_edges():
    box = {"cost_range": (10, 1000), "classes": 10}
    assert hypervolume([], [], **box) == 0
    assert hypervolume([10], [1.0], **box) == 1
    assert hypervolume([1], [1.0], **box) == 1, "below the lower cost counts as at it"
    assert hypervolume([1000], [1.0], **box) == 0, "at the upper cost nothing is gained"
    assert hypervolume([10], [0.1], **box) == 0, "chance is worth nothing"
    assert hypervolume([100, 5000], [1.0, 1.0], **box) == pytest.approx(0.5)
    assert hypervolume([10, 100], [0.55, 1.0], **box) == pytest.approx(0.5 + 0.25)
    assert hypervolume([1, 100], [0.55, 1.0], **box) == pytest.approx(0.5 + 0.25)


@pytest.mark.parametrize("cost_range", [(0, 10), (10, 10), (10, 1), (1, math.inf), (math.nan, 10)])
def test_hypervolume_refuses_a_range_without_area(cost_range):
    with pytest.raises(ValueError, match="cost_range must be"):
        hypervolume([1], [0.5], cost_range=cost_range, classes=10)


def test_hypervolume_refuses_one_class():
    with pytest.raises(ValueError, match="classes must be >= 2, got 1"):
        hypervolumes([1], [0.5], cost_range=(1, 2), classes=1)
    with pytest.raises(ValueError, match="classes must be >= 2"):
        hypervolume([1], [0.5], cost_range=(1, 2), classes=1)


def test_best_goes_to_the_cheaper_then_to_the_first():
    assert best([9, 4, 4, 1], [0.8, 0.8, 0.8, 0.7]) == 1
    with pytest.raises(ValueError, match="no networks"):
        best([], [])


def test_under_takes_the_best_that_fits():
    costs, accuracies = [100, 200, 300], [0.5, 0.9, 0.95]
    assert under(costs, accuracies, 200) == 1
    assert under(costs, accuracies, 299.5) == 1
    assert under(costs, accuracies, math.inf) == 2
    assert under(costs, accuracies, 99) is None
    assert under([], [], 99) is None
    with pytest.raises(ValueError, match="limit must be a number"):
        under(costs, accuracies, math.nan)


def test_knee_is_farthest_above_the_chord():
    # Scaled: (0, 0), (1/3, 2/3), (2/3, 5/6), (1, 1); the second leads by a third.
    assert knee([10, 100, 1000, 10000], [0.3, 0.7, 0.8, 0.9]) == 1
    # A dominated network moves nothing, wherever it stands.
    assert knee([5000, 10, 100, 1000, 10000], [0.1, 0.3, 0.7, 0.8, 0.9]) == 2


def test_knee_ties_go_to_the_cheaper():
    assert knee([1, 10, 100, 1000], [0.0, 0.5, 0.8333333333333333, 1.0]) == 1
    assert knee([1000, 100, 10, 1], [4 / 17, 3 / 17, 2 / 17, 1 / 17]) == 3, "on one line all tie, but for rounding"


def test_knee_of_a_front_that_sags_is_its_cheaper_end():
    assert knee([1, 10, 100], [0.1, 0.2, 0.9]) == 0


def test_knee_of_fewer_than_three_points_is_the_best():
    assert knee([10, 100], [0.5, 0.9]) == 1
    assert knee([10, 10, 10, 100], [0.5, 0.5, 0.5, 0.9]) == 3, "duplicates are one point"
    with pytest.raises(ValueError, match="no networks"):
        knee([], [])


@pytest.mark.parametrize("seed", SEEDS)
def test_knee_is_on_the_front_and_no_point_of_it_is_higher(seed):
    costs, accuracies = cloud(seed)
    picked = naive_front(costs, accuracies)
    chosen = knee(costs, accuracies)
    assert chosen in picked
    points = sorted({(costs[i], accuracies[i]) for i in picked})
    if len(points) < 3:
        assert accuracies[chosen] == max(accuracies)
        return
    (c0, a0), (c1, a1) = points[0], points[-1]
    height = {p: (p[1] - a0) / (a1 - a0) - math.log(p[0] / c0) / math.log(c1 / c0) for p in points}
    assert height[costs[chosen], accuracies[chosen]] == pytest.approx(max(height.values()))


@pytest.mark.parametrize("size", [2, 5000])
@pytest.mark.parametrize(
    ("cost", "accuracy", "rule"),
    [
        (math.nan, 0.5, "costs must be"),
        (0, 0.5, "costs must be"),
        (math.inf, 0.5, "costs must be"),
        (1, math.nan, "accuracies must be"),
        (1, 1.5, "accuracies must be"),
        (1, -0.1, "accuracies must be"),
    ],
)
def test_values_that_are_no_result_are_refused(size, cost, accuracy, rule):
    costs, accuracies = [1.0] * (size - 1) + [cost], [0.5] * (size - 1) + [accuracy]
    calls = [
        lambda: front(costs, accuracies),
        lambda: hypervolume(costs, accuracies, cost_range=(1, 2), classes=2),
        lambda: hypervolumes(costs, accuracies, cost_range=(1, 2), classes=2),
        lambda: best(costs, accuracies),
        lambda: under(costs, accuracies, 10),
        lambda: knee(costs, accuracies),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"{rule}.*at index {size - 1}"):
            call()


def test_two_lengths_are_refused():
    with pytest.raises(ValueError, match="two lists of one length"):
        front([1, 2], [0.5])
    with pytest.raises(ValueError, match="two lists of one length"):
        ranks([1, 2], [0.5])
