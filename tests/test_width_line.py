"""GoogLeNet's proportions at any width, in a space's own stem and budget."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from nas.errors import SpaceError
from nas.references import GOOGLENET_STAGES
from nas.space import list_spaces, load_space
from nas.width_line import line

GOOGLENET = [astuple(module) for stage in GOOGLENET_STAGES for module in stage]


def test_its_modules_are_googlenets_times_one_number_in_channel_steps() -> None:
    points = line(load_space("tiny"), 8)
    for point in points:
        widths = [astuple(module) for module in point.architecture.modules]
        by_hand = [
            tuple(max(1, int(width * point.multiplier / 2 + 0.5)) * 2 for width in GOOGLENET[taken])
            for taken in (0, 4, 8)  # 3a, 4c and 5b stand for three modules
        ]
        assert widths == by_hand


def test_with_nine_modules_it_passes_through_googlenets_own_widths() -> None:
    space = load_space("imagenet")
    assert sum(space.file.network.stages) == 9
    point = min(line(space, 400), key=lambda one: abs(one.multiplier - 1))
    off = np.array([astuple(m) for m in point.architecture.modules]) - np.array(GOOGLENET)
    assert abs(off).max() <= space.file.widths.step


@pytest.mark.parametrize("name", list_spaces())
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_it_spans_every_shipped_space(name: str, cost: str) -> None:
    space = load_space(name).narrowed(cost=cost)
    points = line(space, 8)
    costs = [space.cost_of(point.architecture) for point in points]
    low, high = space.cost_range
    assert len(points) == 8
    assert costs == sorted(set(costs))
    assert all(space.budget.holds(p.architecture.params, p.architecture.macs) for p in points)
    assert costs[0] < low * (high / low) ** 0.25
    assert costs[-1] > low * (high / low) ** 0.75 or cost == "macs"  # there [params] bounds it too
    steps = np.diff(np.log(costs))
    assert steps.max() < 3 * np.log(costs[-1] / costs[0]) / 7
    assert len({point.name for point in points}) == 8


def test_the_stem_and_all_else_are_the_spaces() -> None:
    space = load_space("cifar10").with_classes(7)
    network = space.decode([0.5] * len(space.coordinates))
    (point,) = line(space, 1)
    for name in ("input_shape", "classes", "stem", "stage_pools", "batch_norm", "dropout"):
        assert getattr(point.architecture, name) == getattr(network, name)


def test_more_points_than_there_are_gives_all_of_them() -> None:
    space = load_space("tiny").narrowed(max_params=1_500)
    found = line(space, 1_000)
    assert 3 < len(found) < 20
    assert {p.name for p in line(space, 4)} < {p.name for p in found}  # a network has one name


def test_a_narrow_budget_may_hold_none() -> None:
    with pytest.raises(SpaceError, match=r"no network of GoogLeNet's proportions .* 1,020 to 1,100 params"):
        line(load_space("tiny").narrowed(min_params=1_020, max_params=1_100), 8)


def test_no_points_are_no_line() -> None:
    with pytest.raises(SpaceError, match="--points 0: it must be a whole number of at least 1"):
        line(load_space("tiny"), 0)
