"""Two objectives, one front: dominance, hypervolume, and the picks a user takes from it. Plain arrays, no torch.

Everywhere: `costs` are finite and positive (parameters, or multiply-adds), minimised; `accuracies` are in 0..1,
maximised; both one-dimensional and of one length. Anything else, NaN first of all, is a ValueError: a network without
an accuracy has failed, and a front that ranks it anywhere is wrong.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether `a` has at most the cost and at least the accuracy of `b`, one of them strictly.

    Args:
        a: (cost, accuracy).
        b: (cost, accuracy). Equal points do not dominate each other.

    Raises:
        ValueError: a number is NaN.
    """
    if any(math.isnan(number) for number in (*a, *b)):
        raise ValueError(f"dominance needs numbers, got {a} and {b}: leave out networks without an accuracy")
    return a[0] <= b[0] and a[1] >= b[1] and tuple(a) != tuple(b)


def front(costs: ArrayLike, accuracies: ArrayLike) -> list[int]:
    """Indices of the networks that no other dominates, smallest cost first. O(n log n).

    Equal points do not dominate each other, so a point of the front that occurs twice appears with every one of its
    indices, in rising order. Without its duplicates the front rises strictly in both cost and accuracy. Of nothing
    the front is empty.

    Raises:
        ValueError: see the module.
    """
    cost, accuracy = _checked(costs, accuracies)
    if len(cost) == 0:
        return []
    order = np.lexsort((-accuracy, cost))  # stable: equal points keep the order of their indices
    cost, accuracy = cost[order], accuracy[order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracy)[:-1]])
    repeats = np.zeros(len(cost), dtype=bool)
    repeats[1:] = (cost[1:] == cost[:-1]) & (accuracy[1:] == accuracy[:-1])
    # A duplicate does not beat the point it repeats; it stands or falls with it.
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(cost))))
    return [int(index) for index in order[(accuracy > best_before)[first]]]


def ranks(costs: ArrayLike, accuracies: ArrayLike) -> list[int]:
    """The front that each network is on: 0 for those that no other dominates, 1 for the front without these, and so on.

    Equal points share a rank. Non-dominated sorting in O(n log n): in order of cost a network stands behind every front
    whose last accuracy is at least its own, and these are the first ones. (Jensen 2003, "Reducing the run-time
    complexity of multiobjective EAs", doi 10.1109/TEVC.2003.817234, for two objectives.)

    Args:
        costs: (n,), any finite numbers: unlike elsewhere in this module only their order counts.
        accuracies: (n,), the same; the negative of a loss will do.

    Raises:
        ValueError: two lengths, or a number that is NaN or infinite.
    """
    cost, accuracy = _numbers(costs, accuracies)
    for name, numbers in (("costs", cost), ("accuracies", accuracy)):
        _refuse(f"{name} must be finite", numbers, np.isfinite(numbers))
    order = np.lexsort((-accuracy, cost))
    found = [0] * len(cost)
    lasts: list[float] = []  # the last accuracy of each front, negated: rising
    cost_before, behind_before, rank = math.nan, math.nan, 0
    for index, at, behind in zip(order.tolist(), cost[order].tolist(), (-accuracy[order]).tolist(), strict=True):
        if at != cost_before or behind != behind_before:
            cost_before, behind_before = at, behind
            rank = bisect_right(lasts, behind)
            if rank == len(lasts):
                lasts.append(behind)
            else:
                lasts[rank] = behind
        found[index] = rank
    return found


def behind(costs: ArrayLike, accuracies: ArrayLike) -> FloatArray:
    """How far each network is behind the best of those with at most its cost: (n,) >= 0, 0 on the front.

    Args:
        costs: (n,), any finite numbers: as in `ranks` only their order counts.
        accuracies: (n,), the same; the negative of a loss will do.

    Raises:
        ValueError: two lengths, or a number that is NaN or infinite.
    """
    cost, accuracy = _numbers(costs, accuracies)
    for name, numbers in (("costs", cost), ("accuracies", accuracy)):
        _refuse(f"{name} must be finite", numbers, np.isfinite(numbers))
    order = np.lexsort((-accuracy, cost))  # of equal costs the best first: they see each other
    lead = np.empty(len(cost))
    lead[order] = np.maximum.accumulate(accuracy[order]) - accuracy[order]
    return lead


def hypervolume(costs: ArrayLike, accuracies: ArrayLike, *, cost_range: tuple[float, float], classes: int) -> float:
    """Part of the box between what is worth nothing and what is perfect that the networks dominate: 0..1.

    Measured in (log10 cost, error = 1 - accuracy). The box runs from the reference corner (the upper cost,
    1 - 1/classes, which is chance) down to (the lower cost, 0). A network beyond the corner in either direction adds
    nothing; one below the lower cost counts as if it stood at it. No networks: 0.

    Args:
        costs: (n,).
        accuracies: (n,).
        cost_range: lower and upper cost of the space, 0 < lower < upper.
        classes: number of classes, >= 2.

    Raises:
        ValueError: see the module; or an argument is out of its range.
    """
    low, high = cost_range
    _check_box(cost_range, classes)
    cost, accuracy = _checked(costs, accuracies)
    chance = 1 / classes
    inside = (cost < high) & (accuracy > chance)
    cost, accuracy = np.maximum(cost[inside], low), accuracy[inside]
    picked = front(cost, accuracy)
    left = np.log10(cost[picked])
    height = (accuracy[picked] - chance) / (1 - chance)
    # Each network adds a slab from its own cost to the upper one, as high as its lead over the one before.
    gains = np.diff(height, prepend=0.0)
    width = (math.log10(high) - left) / (math.log10(high) - math.log10(low))
    return float(np.clip(np.sum(gains * width), 0.0, 1.0))


def hypervolumes(
    costs: ArrayLike, accuracies: ArrayLike, *, cost_range: tuple[float, float], classes: int
) -> FloatArray:
    """`hypervolume` of the first network, of the first two, and so on: (n,), never falling, 0..1.

    The front is kept and mended, so that all of them together take O(n log n).

    Args:
        costs: (n,), in the order in which the networks came.
        accuracies: (n,).
        cost_range, classes: see `hypervolume`.

    Raises:
        ValueError: see `hypervolume`.
    """
    _check_box(cost_range, classes)
    cost, accuracy = _checked(costs, accuracies)
    left, right = math.log10(cost_range[0]), math.log10(cost_range[1])
    at = np.log10(np.maximum(cost, cost_range[0]))
    heights = (accuracy - 1 / classes) / (1 - 1 / classes)
    xs: list[float] = []  # the front so far: both rise strictly
    ys: list[float] = []
    whole = 0.0
    found = np.empty(len(cost))
    for number, (x, y) in enumerate(zip(at.tolist(), heights.tolist(), strict=True)):
        before = bisect_right(xs, x)
        if x < right and y > 0 and (before == 0 or ys[before - 1] < y):
            first = last = bisect_left(xs, x)
            level = ys[first - 1] if first else 0.0
            while last < len(xs) and ys[last] <= y:  # these it dominates
                whole += (xs[last] - x) * (y - level)
                x, level, last = xs[last], ys[last], last + 1
            whole += ((xs[last] if last < len(xs) else right) - x) * (y - level)
            xs[first:last], ys[first:last] = [at.item(number)], [y]
        found[number] = whole / (right - left)
    return np.asarray(np.clip(found, 0.0, 1.0))


def best(costs: ArrayLike, accuracies: ArrayLike) -> int:
    """Index of the highest accuracy; ties go to the cheaper, then to the first.

    Raises:
        ValueError: see the module; or there are no networks.
    """
    cost, accuracy = _checked(costs, accuracies)
    if len(cost) == 0:
        raise ValueError("there is no best of no networks")
    return int(np.lexsort((cost, -accuracy))[0])


def under(costs: ArrayLike, accuracies: ArrayLike, limit: float) -> int | None:
    """Index of the `best` network with cost <= limit; None if none is that small.

    Raises:
        ValueError: see the module; or the limit is NaN.
    """
    if math.isnan(limit):
        raise ValueError("the limit must be a number, got nan")
    cost, accuracy = _checked(costs, accuracies)
    small = np.flatnonzero(cost <= limit)
    if len(small) == 0:
        return None
    return int(small[best(cost[small], accuracy[small])])


def knee(costs: ArrayLike, accuracies: ArrayLike) -> int:
    """Index of the network of the front farthest above the chord between the front's ends.

    Distances are taken in (log10 cost, accuracy), each scaled to 0..1 over the front; ties go to the cheaper, and of
    equal networks the first index is given. The ends lie on the chord, so where the front sags below it everywhere
    the cheaper end is the answer. Fewer than three distinct points on the front: `best`.

    Raises:
        ValueError: see the module; or there are no networks.
    """
    cost, accuracy = _checked(costs, accuracies)
    picked = front(cost, accuracy)
    distinct = [
        index for position, index in enumerate(picked) if position == 0 or cost[index] > cost[picked[position - 1]]
    ]
    if len(distinct) < 3:
        return best(cost, accuracy)
    right = np.log10(cost[distinct])
    up = accuracy[distinct]
    above = (up - up[0]) / (up[-1] - up[0]) - (right - right[0]) / (right[-1] - right[0])
    # Points on one line differ by rounding alone: without this a tie would go to whichever rounds up.
    return distinct[int(np.argmax(np.round(above, 12)))]


def _check_box(cost_range: tuple[float, float], classes: int) -> None:
    low, high = cost_range
    if not (0 < low < high < math.inf):
        raise ValueError(f"cost_range must be (lower, upper) with 0 < lower < upper, got {cost_range}")
    if classes < 2:
        raise ValueError(f"classes must be >= 2, got {classes}")


def _checked(costs: ArrayLike, accuracies: ArrayLike) -> tuple[FloatArray, FloatArray]:
    cost, accuracy = _numbers(costs, accuracies)
    _refuse("costs must be finite and positive", cost, np.isfinite(cost) & (cost > 0))
    _refuse("accuracies must be in 0..1", accuracy, (accuracy >= 0) & (accuracy <= 1))
    return cost, accuracy


def _numbers(costs: ArrayLike, accuracies: ArrayLike) -> tuple[FloatArray, FloatArray]:
    cost = np.asarray(costs, dtype=np.float64)
    accuracy = np.asarray(accuracies, dtype=np.float64)
    if cost.ndim != 1 or cost.shape != accuracy.shape:
        raise ValueError(
            f"costs and accuracies must be two lists of one length, got shapes {cost.shape}, {accuracy.shape}"
        )
    return cost, accuracy


def _refuse(rule: str, values: FloatArray, fine: NDArray[np.bool_]) -> None:
    wrong = np.flatnonzero(~fine)
    if len(wrong) > 0:
        raise ValueError(f"{rule}, got {values[wrong[0]]} at index {wrong[0]}: leave out networks without a result")
