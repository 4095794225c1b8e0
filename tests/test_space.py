"""Vectors become networks inside the budget that keep the rule, for every space and rule; and what narrows a space."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas import rule as growth
from nas.architecture import RULES, Architecture
from nas.errors import SpaceError
from nas.space import Space, load_space
from tests.spaces import GRIDS, SPACES, edited_tiny, keeps, vectors

every_space_and_rule = pytest.mark.parametrize(("name", "rule"), [(s, r) for s in SPACES for r in RULES])


def check_space(name: str, rule: str, count: int) -> None:
    space = load_space(name).narrowed(rule=rule)
    low, high = space.budget.min_params, space.budget.max_params
    step = space.file.widths.step
    seen: dict[Architecture, str] = {}
    costs = []
    for vector in vectors(space, count):
        network = space.decode(vector)
        assert low <= network.params <= high
        assert (space.budget.min_macs or 0) <= network.macs <= (space.budget.max_macs or network.macs)
        assert keeps(network, rule, step)
        assert space.allows(network)
        seen[network] = network.key
        costs.append(network.params)
    assert len(set(seen.values())) == len(seen) > count / 2
    # the sizes cover the budget evenly on the log scale, from end to end
    places = np.log(np.array(costs) / low) / np.log(high / low)
    assert stats.kstest(places, "uniform").statistic < 0.15


@every_space_and_rule
def test_every_network_keeps_rule_and_budget(name: str, rule: str) -> None:
    check_space(name, rule, 4_000 // len(load_space(name).smallest().modules))  # a decode's time grows with them


@pytest.mark.parametrize("name", SPACES)
def test_every_network_keeps_the_budget_in_macs(name: str) -> None:
    space = load_space(name).narrowed(cost="macs")
    low, high = space.cost_range
    assert (low, high) == (space.file.macs.low, space.file.macs.high)
    macs = []
    for vector in vectors(space, 100):
        network = space.decode(vector)
        assert low <= network.macs <= high
        assert network.params <= space.file.params.high
        macs.append(network.macs)
    assert min(macs) < low * (high / low) ** 0.1
    assert max(macs) > low * (high / low) ** 0.8


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@every_space_and_rule
def test_every_one_of_many_networks_keeps_rule_and_budget(name: str, rule: str) -> None:
    space = load_space(name).narrowed(rule=rule)
    keys: dict[str, Architecture] = {}
    missed = 0
    for vector in vectors(space, 100_000, seed=1):
        network = space.decode(vector)
        assert network.params <= space.budget.max_params
        assert keeps(network, rule, space.file.widths.step)
        assert keys.setdefault(network.key, network) == network
        missed += not space.allows(network)
    # A shape of equal widths and high shares jumps from the smallest network over all of tiny's range at once.
    assert missed < 50


@every_space_and_rule
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_budgets_of_a_user_are_never_exceeded(name: str, rule: str, cost: str) -> None:
    whole = load_space(name)
    least, most = whole.smallest(), whole.budget.max_params
    random = np.random.default_rng(7)
    for number in range(4):
        max_params = int(least.params * (most / least.params) ** random.random())
        max_macs = int(least.macs * 30 ** random.random())
        space = whole.narrowed(rule=rule, cost=cost, max_params=max_params, max_macs=max_macs)
        for vector in vectors(space, 20, seed=number):
            network = space.decode(vector)
            assert network.params <= max_params
            assert network.macs <= max_macs
            assert keeps(network, rule, space.file.widths.step)


@every_space_and_rule
def test_equal_vectors_decode_equal(name: str, rule: str) -> None:
    space = load_space(name).narrowed(rule=rule)
    again = load_space(name).narrowed(rule=rule)
    for vector in vectors(space, 50):
        network = space.decode(vector)
        assert network == space.decode(list(vector)) == again.decode(tuple(vector))
        assert network.key == again.decode(vector).key


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("rule", RULES)
def test_real_shares_before_rounding(name: str, rule: str) -> None:
    """Sorted uniforms where the rule asks for growth, independent uniforms where it does not."""
    space = load_space(name).narrowed(rule=rule)
    shares = [s for s in ("share", "share_3x3", "share_5x5") if f"m1.{s}" in space.coordinates]
    assert shares == (["share_3x3", "share_5x5"] if rule == "growing-each" else ["share"])
    points = np.random.default_rng(3).random((4_000, len(space.coordinates)))
    drawn = [space.shapes.draw(point[1:]) for point in points]
    for share in shares:
        given = getattr(space.file.widths, share)
        values = np.array([draw[share] for draw in drawn])
        units = (values - given.low) / (given.high - given.low)
        count = units.shape[1]
        for k in range(count):
            law = stats.uniform() if rule == "off" else stats.beta(k + 1, count - k)
            assert stats.kstest(units[:, k], law.cdf).pvalue > 1e-3
        if rule == "off":
            assert abs(np.corrcoef(units.T) - np.eye(count)).max() < 0.07


def test_real_values_lie_in_their_ranges() -> None:
    space = load_space("digits")
    draws = [space.shapes.draw(vector[1:]) for vector in vectors(space, 500)]
    for name in ("width", "share", "five", "pool", "reduce_3x3", "reduce_5x5"):
        given = getattr(space.file.widths, name)
        values = np.array([draw[name] for draw in draws])
        assert given.low == pytest.approx(values.min())
        assert given.high == pytest.approx(values.max())
        assert (values >= given.low - 1e-12).all()
        assert (values <= given.high + 1e-12).all()
    widths = np.concatenate([space.shapes.draw(point)["width"] for point in np.random.default_rng(0).random((500, 18))])
    assert stats.kstest(np.log2(widths), stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_size_takes_the_dearest_multiple_that_fits(cost: str) -> None:
    """Against a plain search over all candidates, each counted as a network."""
    space = load_space("digits").narrowed(cost=cost)
    low, high = space.cost_range
    for vector in vectors(space, 40):
        target = round(low * (high / low) ** vector[0])
        rows = [space.shapes.architecture(w) for w in space.shapes.candidates(vector[1:]).widths]
        inside = [network for network in rows if space.allows(network)]
        fits = [network for network in inside if space.cost_of(network) <= target]
        expected = max(fits, key=space.cost_of) if fits else min(inside, key=space.cost_of)
        assert space.cost_of(space.decode(vector)) == space.cost_of(expected)


def test_candidates_go_from_the_smallest_network_to_the_widest() -> None:
    space = load_space("cifar10")
    found = space.shapes.candidates(np.full(len(space.coordinates) - 1, 0.3))
    assert space.shapes.architecture(found.widths[0]) == space.smallest()
    assert (found.widths[-1][:, [0, 2, 4, 5]].sum(axis=1) == space.file.widths.max_channels).all()
    for row in range(0, len(found.params), 40):
        network = space.shapes.architecture(found.widths[row])
        assert (network.params, network.macs) == (found.params[row], found.macs[row])


def test_totals_are_the_nearest_even_steps_to_a_multiple() -> None:
    space = load_space("cifar10")
    step, most = space.file.widths.step, space.file.widths.max_channels
    for vector in vectors(space, 20):
        width = space.shapes.draw(vector[1:])["width"]
        totals = space.shapes.candidates(vector[1:]).widths[:, :, [0, 2, 4, 5]].sum(axis=2)
        for total in totals:
            free = (total > 4 * step) & (total < most)
            if free.any():  # one multiple is within a step of every module
                assert ((total - step) / width)[free].max() <= ((total + step) / width)[free].min() + 1e-9


def test_smallest_and_largest() -> None:
    for name in SPACES:
        space = load_space(name)
        step = space.file.widths.step
        assert all(set(module.__getstate__()) == {step} for module in space.smallest().modules)
        widest = [space.shapes.architecture(space.shapes.candidates(v[1:]).widths[-1]) for v in vectors(space, 200)]
        for cost in ("params", "macs"):
            chosen = space.narrowed(cost=cost)
            assert all(chosen.cost_of(network) <= 1.001 * chosen.cost_of(chosen.largest()) for network in widest)
            assert all(chosen.cost_of(network) > chosen.cost_of(chosen.smallest()) for network in widest)


def test_coordinates_by_rule() -> None:
    space = load_space("tiny")
    module = ["width", "share", "five", "pool", "reduce_3x3", "reduce_5x5"]
    assert space.coordinates == ("size", *(f"m{m}.{name}" for m in (1, 2, 3) for name in module))
    assert space.narrowed(rule="off").coordinates == space.coordinates
    module[1:3] = ["share_3x3", "share_5x5"]
    each = space.narrowed(rule="growing-each")
    assert each.coordinates == ("size", *(f"m{m}.{name}" for m in (1, 2, 3) for name in module))


def test_fixed_ranges_have_no_coordinate(tmp_path: Path) -> None:
    space = load_space(
        str(
            edited_tiny(
                tmp_path,
                ("width = { low = 0.5, high = 2.0 }", "width = { low = 1.0, high = 1.0 }"),
                ("five = { low = 0.1, high = 0.5 }", "five = { low = 0.25, high = 0.25 }"),
                ("pool = { low = 0.2, high = 0.6 }", "pool = { low = 0.5, high = 0.5 }"),
                ("reduce_3x3 = { low = 0.25, high = 1.0 }", "reduce_3x3 = { low = 0.5, high = 0.5 }"),
                ("reduce_5x5 = { low = 0.25, high = 1.0 }", "reduce_5x5 = { low = 0.5, high = 0.5 }"),
            )
        )
    )
    assert space.coordinates == ("size", "m1.share", "m2.share", "m3.share")
    network = space.decode([1, 0.5, 0.5, 0.5])
    assert len({module.out_channels(0) for module in network.modules}) == 1


def test_levels(tmp_path: Path) -> None:
    """A grid: as many networks as levels allow, and evenly many vectors for each."""
    space = load_space(
        str(
            edited_tiny(
                tmp_path,
                ("width = { low = 0.5, high = 2.0 }", "width = { low = 0.5, high = 2.0, levels = 2 }"),
                ("share = { low = 0.25, high = 0.85 }", "share = { low = 0.25, high = 0.75, levels = 3 }"),
                ("five = { low = 0.1, high = 0.5 }", "five = { low = 0.25, high = 0.25 }"),
                ("pool = { low = 0.2, high = 0.6 }", "pool = { low = 0.5, high = 0.5 }"),
                ("reduce_3x3 = { low = 0.25, high = 1.0 }", "reduce_3x3 = { low = 0.5, high = 0.5 }"),
                ("reduce_5x5 = { low = 0.25, high = 1.0 }", "reduce_5x5 = { low = 0.5, high = 0.5 }"),
                ("low = 900\nhigh = 4_000", "low = 900\nhigh = 4_000\nlevels = 6"),
            )
        )
    ).narrowed(rule="off")
    assert space.identity()["size_levels"] == 6
    draws = [space.shapes.draw(vector[1:]) for vector in vectors(space, 600)]
    shares, counts = np.unique([draw["share"] for draw in draws], return_counts=True)
    assert shares == pytest.approx([0.25, 0.5, 0.75])
    assert counts.min() > 500
    assert np.unique([draw["width"] for draw in draws]) == pytest.approx([0.5, 2.0])
    targets = sorted({space._target(u) for u in np.linspace(0, 1, 601)})
    assert targets == [round(900 * (4000 / 900) ** (level / 5)) for level in range(6)]
    assert [space._target(u) for u in (0, 0.166, 0.167, 1)] == [targets[0], targets[0], targets[1], targets[5]]


@pytest.mark.parametrize("rule", RULES)
def test_a_shape_is_read_back_from_its_network(rule: str) -> None:
    """Up to rounding and repair: the drawn values, as places in their ranges."""
    space = load_space("imagenet").narrowed(rule=rule)
    apart: list[float] = []
    widths: list[float] = []
    for vector in vectors(space, 30):
        vector[0] = 1.0  # the largest: rounding matters least
        drawn = space.shapes.draw(vector[1:])
        found = space.realised(space.decode(vector))
        assert len(found) == len(space.coordinates) - 1
        places = dict(zip(space.coordinates[1:], found, strict=True))
        for name, values in drawn.items():
            given = getattr(space.file.widths, name)
            if given.fixed:
                continue
            there = [given.low + places[f"m{m}.{name}"] * (given.high - given.low) for m in range(1, len(values) + 1)]
            if name == "width":
                widths.append(float(np.corrcoef(there, np.log(values))[0, 1]))
            else:
                apart.extend(np.abs(np.array(there) - values))
    assert np.median(apart) < 0.03
    assert np.median(widths) > 0.95


@pytest.mark.parametrize("name", GRIDS)
def test_on_a_grid_levels_are_read_back(name: str) -> None:
    space = load_space(name)
    for point in itertools.islice(itertools.product(*((np.arange(n) + 0.5) / n for n in space.levels)), 0, None, 17):
        if point[0] < 0.8:
            continue
        places = space.realised(space.decode(point))
        levels = [int(place * n) / (n - 1) for place, n in zip(point[1:], space.levels[1:], strict=True) if n]
        assert np.abs(np.array(places) - levels).max() < 0.3


def test_the_first_target_is_the_low_end_and_the_last_the_high_end() -> None:
    for cost in ("params", "macs"):
        space = load_space("cifar10").narrowed(cost=cost)
        assert (space._target(0.0), space._target(1.0)) == space.cost_range


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.5] * 18, "takes a list of 19 numbers, got 18"),
        ([0.5] * 20, "takes a list of 19 numbers, got 20"),
        ([[0.5] * 19], "takes a list of 19 numbers"),
        ([], "got 0"),
        (["x"] * 19, "a vector must be numbers"),
        ([None] * 19, "coordinate 'size' must be in [0, 1], got nan"),
        ([0.5] * 18 + [float("nan")], "coordinate 'm3.reduce_5x5' must be in [0, 1], got nan"),
        ([1.0000001] + [0.5] * 18, "coordinate 'size' must be in [0, 1], got 1.0000001"),
        ([0.5, -1e-9] + [0.5] * 17, "coordinate 'm1.width' must be in [0, 1]"),
    ],
)
def test_vectors_that_are_none(vector: list[float], message: str) -> None:
    with pytest.raises(SpaceError) as error:
        load_space("tiny").decode(vector)
    assert message in str(error.value)


def test_a_broken_rule_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("tiny")
    monkeypatch.setattr(growth, "repair", lambda totals, shares: totals * 0 + 2)  # the same filters of ever more
    with pytest.raises(AssertionError, match="the rule 'growing' is broken at module 1"):
        space.decode([1.0, 0.0, *[0.5] * 5, 1.0, *[0.5] * 11])


def test_a_network_over_its_budget_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Space, "_choose", lambda self, params, macs, target: len(params) - 1)
    with pytest.raises(AssertionError, match="over its budget"):
        load_space("tiny").decode([0.5] * 19)


def test_counts_that_differ_are_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("tiny")
    network = space.decode([0.5] * 19)
    with pytest.raises(AssertionError, match="counts differ"):
        space._assert_kept(network, network.params + 1, network.macs)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_has_as_many_networks_as_points_each_inside_the_budget(name: str) -> None:
    """What `scripts/record_benchmark` trains; every network of a rule is one of them, so that rules can be replayed."""
    space = load_space(name)
    levels = [count for count in space.levels if count is not None]
    assert len(levels) == len(space.coordinates)
    points = itertools.product(*((np.arange(count) + 0.5) / count for count in levels))
    networks = {network.key: network for network in map(space.decode, points)}
    assert len(networks) == np.prod(levels) == 864
    assert all(space.allows(network) for network in networks.values())
    growing = space.narrowed(rule="growing")
    kept = {key for key, network in networks.items() if growing.allows(network)}
    assert len(kept) == 320
    found = {growing.decode(vector).key for vector in vectors(growing, 300)}
    assert found <= kept


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["tiny", "digits", "svhn"])
def test_outlines_are_those_of_the_networks(name: str, rule: str) -> None:
    space = load_space(name).narrowed(rule=rule)
    points = np.random.default_rng(3).random((24, len(space.coordinates)))
    points[20:] = points[:4]
    made = [space.decode(point) for point in points]
    found = space.outlines(points)
    assert [(one.params, one.macs, one.shape) for one in found] == [
        (network.params, network.macs, space.realised(network)) for network in made
    ]
    same = [[one.widths == other.widths for other in found] for one in found]
    assert same == [[network.key == other.key for other in made] for network in made]
    assert space.outlines([]) == []
    with pytest.raises(SpaceError, match="coordinate"):
        space.outlines([[2.0] * len(space.coordinates)])
