"""Expected improvement of the hypervolume, against areas counted on a grid and sampled values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.search.improvement import expected_improvement

CORNER = (10.0, 0.0)
numbers = st.floats(-1, 12, allow_nan=False)
fronts = st.lists(st.tuples(numbers, st.floats(-0.5, 1.5)), max_size=6)


def area(points: list[tuple[float, float]]) -> float:
    """Dominated area inside the corner, strip by strip."""
    edge, bottom = CORNER
    places = sorted({cost for cost, _ in points if cost < edge} | {edge})
    total = 0.0
    for left, right in pairwise(places):
        height = max((value for cost, value in points if cost <= left), default=bottom)
        total += (right - left) * max(0.0, height - bottom)
    return total


def expected(point: tuple[float, float], std: float, front: list[tuple[float, float]]) -> float:
    costs, values = (np.array([pair[index] for pair in front], dtype=np.float64) for index in (0, 1))
    found = expected_improvement(
        np.array([point[0]]),
        np.array([point[1]]),
        np.array([std]),
        front_costs=costs,
        front_values=values,
        corner=CORNER,
    )
    return float(found[0])


@given(st.tuples(numbers, st.floats(-0.5, 1.5)), fronts)
def test_a_known_value_adds_its_area(point: tuple[float, float], front: list[tuple[float, float]]) -> None:
    assert abs(expected(point, 0.0, front) - (area([*front, point]) - area(front))) < 1e-9


@given(st.tuples(numbers, st.floats(0, 1)), st.floats(0.01, 0.5), fronts)
def test_an_uncertain_value_adds_the_mean_area(
    point: tuple[float, float], std: float, front: list[tuple[float, float]]
) -> None:
    quantiles = np.linspace(-5, 5, 401)
    weights = np.exp(-0.5 * quantiles**2)
    gains = [area([*front, (point[0], point[1] + std * z)]) - area(front) for z in quantiles]
    assert abs(expected(point, std, front) - np.average(gains, weights=weights)) < 2e-3


def test_what_lies_beyond_the_corner_adds_nothing() -> None:
    assert expected((10.0, 1.0), 0.1, []) == 0
    assert expected((11.0, 1.0), 0.1, [(1.0, 0.5)]) == 0
