"""The member of a space nearest to a known network: feasible, itself where it is a member, and none nearer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from nas.architecture import RULES, Architecture
from nas.errors import SpaceError
from nas.projection import module_widths, nearest, spread, warm_starts
from nas.references import REFERENCES
from nas.rule import growing, nearest_growing, ungrown
from nas.space import Space, list_spaces, load_space

INCEPTION = [name for name, one in REFERENCES.items() if one.architecture(10) is not None]


def distance(space: Space, member: Architecture, other: Architecture) -> float:
    """As `nearest` states it, worked out anew."""
    modules = sum(space.file.network.stages)
    here, there = (space.shapes.realised(module_widths(one, modules)) for one in (member, other))
    low, high = space.cost_range
    size = math.log(space.cost_of(member) / space.cost_of(other)) / math.log(high / low)
    return float(((here - there) ** 2).sum()) + size**2


@pytest.mark.parametrize(
    ("modules", "taken"),
    [
        (1, (0,)),
        (2, (0, 8)),
        (3, (0, 4, 8)),
        (4, (0, 3, 5, 8)),
        (5, (0, 2, 4, 6, 8)),
        (9, tuple(range(9))),
        (17, (0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8)),  # halves are rounded up
    ],
)
def test_googlenets_modules_are_spread_over_any_number(modules: int, taken: tuple[int, ...]) -> None:
    assert spread(9, modules) == taken


def test_what_passes_unreduced_counts_by_its_channels() -> None:
    naive = REFERENCES["inception-naive-module"].architecture(10)
    assert naive is not None
    assert module_widths(naive, 2).tolist() == [[64, 256, 64, 256, 64, 256]] * 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_growing_sequence_leads_back_to_its_numbers(numbers: list[float]) -> None:
    shares = growing(np.array(numbers))
    assert growing(ungrown(shares)) == pytest.approx(shares, abs=1e-6)
    assert ((ungrown(shares) >= 0) & (ungrown(shares) <= 1)).all()


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=9))
def test_the_nearest_growing_sequence_is_scipys(values: list[float]) -> None:
    found = nearest_growing(np.array(values))
    assert found == pytest.approx(isotonic_regression(values).x, abs=1e-9)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("name", list_spaces())
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_every_shipped_space_has_warm_starts_inside_rule_and_budget(name: str, rule: str, cost: str) -> None:
    try:
        space = load_space(name).narrowed(rule=rule, cost=cost)
    except SpaceError:  # it states no ranges for this rule
        return
    found, without = warm_starts(space)
    assert sorted([*without, *(name for one in found for name in one.names)]) == sorted(INCEPTION)
    assert len({one.member.architecture.key for one in found}) == len(found)
    for one in found:
        assert space.allows(one.member.architecture)
        assert space.decode(one.member.vector) == one.member.architecture
    assert not without


@pytest.mark.parametrize("rule", RULES)
def test_a_member_of_the_space_is_nearest_to_itself(rule: str) -> None:
    space = load_space("tiny").narrowed(rule=rule)
    rng = np.random.default_rng(0)
    for _ in range(60):
        network = space.decode(rng.random(len(space.coordinates)))
        member = nearest(space, network)
        assert member is not None
        assert distance(space, member.architecture, network) < 1e-3
        assert member.architecture == network


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", INCEPTION)
def test_none_of_many_others_is_nearer(name: str, rule: str) -> None:
    space = load_space("digits").narrowed(rule=rule)
    network = REFERENCES[name].architecture(space.classes)
    assert network is not None
    member = nearest(space, network)
    assert member is not None
    rng = np.random.default_rng(1)
    at = np.array(member.vector)
    here = distance(space, member.architecture, network)
    assert here < min(distance(space, space.decode(rng.random(len(at))), network) for _ in range(150))
    # Around it rounding to channel steps may give a little.
    around = [(at + rng.normal(0, scale, len(at))).clip(0, 1) for scale in (0.03, 0.1, 0.3) for _ in range(40)]
    assert here < min(distance(space, space.decode(other), network) for other in around) + 0.5


def test_sizes_that_are_levels_are_kept() -> None:
    space = load_space("bench")
    assert any(levels is not None for levels in space.levels)
    for one in warm_starts(space)[0]:
        network = REFERENCES[one.names[0]].architecture(space.classes)
        assert network is not None
        rng = np.random.default_rng(2)
        others = [space.decode(rng.random(len(space.coordinates))) for _ in range(300)]
        least = min(distance(space, other, network) for other in others)
        assert distance(space, one.member.architecture, network) < least + 0.1


def test_a_budget_that_no_size_of_a_shape_meets_leaves_its_reference_out() -> None:
    space = load_space("tiny").narrowed(min_params=2_000, max_params=2_100, max_macs=19_000)
    found, without = warm_starts(space)
    assert without
    assert sorted([*without, *(name for one in found for name in one.names)]) == sorted(INCEPTION)
    assert all(space.allows(one.member.architecture) for one in found)
