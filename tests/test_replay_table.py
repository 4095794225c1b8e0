"""A table is what was recorded: the space's own networks at every point, one seed's curves, the mean as truth."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.architecture import first_fall
from nas.errors import StudyError
from nas.record_file import RecordFile, read, write
from nas.search.contest import Contest, Setting, searched
from nas.search.table import LARGEST_GRID, ROW, Table
from tests.recorded import GRID, networks, record_file, row, rows, space, table_file


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_file(tmp_path_factory.mktemp("table"), seeds=(7, 3))


@pytest.fixture(scope="module")
def table(path: Path) -> Table:
    return Table.read(path)


def test_a_point_of_the_grid_is_what_the_space_decodes(table: Table) -> None:
    assert table.is_grid
    found = set()
    draws = np.random.default_rng(0).random((300, 3))
    draws[:30] = np.random.default_rng(1).integers(0, 7, (30, 3)) / 6  # edges of levels, and both ends
    for vector in draws:
        network = table.networks(0).decode(dict(zip(table.coordinates, map(float, vector), strict=True)))
        assert network == table.space.decode(vector)
        found.add(network.key)
    assert found == set(table.keys)
    assert len(found) == GRID


@pytest.mark.parametrize("rule", ["growing", "growing-each"])
def test_a_rule_leaves_out_what_breaks_it(table: Table, rule: str) -> None:
    kept = table.under(rule)
    keep = {key for key, network in table.architectures.items() if first_fall(network, kept.rule) is None}
    assert set(kept.keys) == keep
    assert 0 < len(keep) < GRID
    assert kept.is_grid  # whole among those that keep it
    for vector in np.random.default_rng(0).random((100, 3)):
        network = table.space.decode(vector)
        drawn = kept.networks(0).decode(dict(zip(table.coordinates, map(float, vector), strict=True)))
        assert drawn == (network if network.key in keep else None)
    assert set(kept.front(list(kept.keys))) <= keep


def test_an_unknown_rule_is_said_and_so_is_one_that_nothing_keeps(table: Table) -> None:
    with pytest.raises(StudyError, match="unknown --rule 'growin': did you mean 'growing'"):
        table.under("growin")
    falling = {key: by_seed for key, by_seed in table.rows.items() if first_fall(table.architectures[key], "growing")}
    with pytest.raises(StudyError, match="no network of small keeps the rule 'growing'; take another"):
        replace(table, rows=falling).under("growing")


def test_a_search_sees_the_curves_of_one_seed_and_the_truth_is_their_mean(table: Table, path: Path) -> None:
    recorded = {(seed, row.key): row for seed, row in read(path).rows}
    for seed, study_seed in ((0, 3), (1, 7), (2, 3), (19, 7)):  # by their order, cyclically
        seen = table.networks(seed)
        assert len(seen.curves) == GRID
        assert seen.epochs == table.epochs == 4
        for key, curve in seen.curves.items():
            assert curve == tuple((accuracy, loss) for _, accuracy, loss in recorded[study_seed, key].curve)
            assert seen.seeds[key] == recorded[study_seed, key].seed
    for key in table.keys:
        assert table.truth[key] == pytest.approx(statistics.mean(recorded[seed, key].curve[-1][1] for seed in (3, 7)))
        assert table.costs[key] == table.architectures[key].params


def test_networks_may_have_different_seeds(tmp_path: Path) -> None:
    of = space(tmp_path)
    some = [pair for pair in rows(of, (0, 1)) if pair[0] == 0 or pair[1].trial < 3]
    write(tmp_path / "a.csv.gz", record_file(of, some))
    table = Table.read(tmp_path / "a.csv.gz")
    assert sorted(len(by_seed) for by_seed in table.rows.values()) == [1] * (GRID - 3) + [2] * 3
    first, second = table.networks(0).curves, table.networks(1).curves
    assert sum(first[key] != second[key] for key in table.keys) == 3


def test_networks_drawn_at_random_are_drawn_by_their_rows(tmp_path: Path) -> None:
    table = Table.read(table_file(tmp_path, count=25))
    assert not table.is_grid
    assert table.coordinates == (ROW,)
    decode = table.networks(0).decode
    for place in range(25):
        for unit in (place / 25 + 1e-9, (place + 0.999) / 25):
            assert decode({ROW: unit}) == table.architectures[table.keys[place]]
    assert decode({ROW: 1.0}) == table.architectures[table.keys[-1]]
    moments = searched(Contest(tmp_path / "small.csv.gz", trials=25, workers=2), Setting("random", "none"), 0)
    assert len({moment.row.key for moment in moments}) == 25


def test_a_grid_with_a_hole_is_no_grid(tmp_path: Path) -> None:
    of = space(tmp_path)
    write(tmp_path / "a.csv.gz", record_file(of, rows(of)[1:-1]))  # another one missing in each of two seeds
    assert Table.read(tmp_path / "a.csv.gz").is_grid
    write(tmp_path / "a.csv.gz", record_file(of, rows(of, (0,))[1:]))
    table = Table.read(tmp_path / "a.csv.gz")
    assert table.no_grid == "it lacks 1 of the 18 networks of its space's grid"
    assert table.coordinates == (ROW,)


def test_a_grid_too_large_to_decode_is_not_decoded(tmp_path: Path) -> None:
    of = space(tmp_path)
    large = of.toml.replace("levels = 3", "levels = 150")
    write(tmp_path / "a.csv.gz", record_file(of, rows(of, (0,)), space_toml=large))
    assert LARGEST_GRID < 2 * 150**2
    assert Table.read(tmp_path / "a.csv.gz").no_grid == f"the grid of its space has more than {LARGEST_GRID:,} points"


def test_a_line_is_one_shape_at_every_size(table: Table, tmp_path: Path) -> None:
    assert len(table.lines) == GRID // 2
    assert {key for line in table.lines for key in line} == set(table.keys)
    decoded = {network.key: point for point, network in networks(table.space)}
    for small, large in table.lines:
        assert table.costs[small] < table.costs[large]
        assert decoded[small]["size"] < decoded[large]["size"]
        assert {**decoded[small], "size": 0} == {**decoded[large], "size": 0}
    kept = table.under("growing")
    whole = [line for line in table.lines if set(line) <= set(kept.keys)]
    assert list(kept.lines) == whole
    assert len(whole) == 6
    assert Table.read(table_file(tmp_path, count=20)).lines == ()


def test_a_shape_that_keeps_the_rule_at_one_size_only_is_no_line(table: Table) -> None:
    some = table.lines[0]
    partly = replace(table, rows={key: row for key, row in table.rows.items() if key != some[1]})
    points = {point: network for point, network in table._points.items() if network.key != some[1]}
    partly.__dict__["_points"] = points
    assert partly.is_grid
    assert partly.lines == table.lines[1:]


def test_a_table_has_the_budget_rule_and_cost_of_its_study(tmp_path: Path) -> None:
    for number, of in enumerate(
        (
            space(tmp_path).narrowed(max_params=9000),
            space(tmp_path).narrowed(cost="macs"),
            space(tmp_path).narrowed(rule="growing"),
        )
    ):
        write(tmp_path / f"{number}.csv.gz", record_file(of, rows(of)))
        table = Table.read(tmp_path / f"{number}.csv.gz")
        assert table.space.identity() == of.identity()
        assert table.costs == {network.key: of.cost_of(network) for _, network in networks(of)}
        # under a rule a share is drawn by the rule first, so that its level is not the coordinate's
        assert table.is_grid == (of.rule == "off" and None not in of.levels)
    assert max(Table.read(tmp_path / "0.csv.gz").costs.values()) <= 9000


def test_seconds_are_those_on_record_or_fitted_to_what_was_trained(tmp_path: Path) -> None:
    of = space(tmp_path)
    assert Table.read(table_file(tmp_path, epoch_seconds=[0.25, 3e-6])).epoch_seconds == (0.25, 3e-6)
    assert Table.read(table_file(tmp_path)).epoch_seconds == pytest.approx((0.5, 2e-6))

    def fitted(change: Callable[[int, float], float], source: str | None = None) -> tuple[float, float]:
        changed = [
            (seed, replace(row, seconds=change(row.trial, row.seconds), source=source if row.trial % 2 else None))
            for seed, row in rows(of)
        ]
        write(tmp_path / "a.csv.gz", record_file(of, changed))
        return Table.read(tmp_path / "a.csv.gz").epoch_seconds

    # an evaluation that another study answered took no time
    assert fitted(lambda trial, seconds: 0.001 if trial % 2 else seconds, "other trial 3") == pytest.approx((0.5, 2e-6))
    a, b = fitted(lambda trial, seconds: 10 - seconds)  # other load: the larger the faster
    assert b == 0
    assert a > 0
    noise = np.random.default_rng(0).normal(0, 0.01, 99)
    assert fitted(lambda trial, seconds: seconds + noise[trial]) == pytest.approx((0.5, 2e-6), rel=0.05)


def file_with(folder: Path, change: Callable[[RecordFile], RecordFile]) -> Path:
    write(folder / "a.csv.gz", change(record_file(space(folder), rows(space(folder), (0,)))))
    return folder / "a.csv.gz"


def without(name: str) -> Callable[[RecordFile], RecordFile]:
    def change(file: RecordFile) -> RecordFile:
        return replace(file, settings={key: value for key, value in file.settings.items() if key != name})

    return change


def shorter(file: RecordFile) -> RecordFile:
    """A network that was trained for an epoch less, told as a pruned one."""
    (seed, first), *others = file.rows
    cut = replace(first, curve=first.curve[:-1], val_accuracy=first.curve[-2][1], state="pruned", reason="behind")
    return replace(file, rows=((seed, cut), *others))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("space_toml"), "header: settings.space_toml is missing or out of range; export the study again"),
        (without("validation_images"), "settings.validation_images is missing"),
        (shorter, "17 networks with whole curves and 1 pruned trials.*record a search with --pruner none"),
        (lambda file: replace(file, rows=()), "0 networks with whole curves and 0 pruned"),
        (
            lambda file: replace(file, settings={**file.settings, "space_toml": "network = 3"}),
            "header: its space does not serve .*space_toml.*; export the study again",
        ),
        (
            lambda file: replace(
                file, identity={**file.identity, "space": {**file.identity["space"], "budget": {"x": 1}}}
            ),
            "header: its space does not serve",
        ),
    ],
)
def test_what_is_no_table_is_said_in_one_line(
    tmp_path: Path, change: Callable[[RecordFile], RecordFile], words: str
) -> None:
    with pytest.raises(StudyError, match=words) as error:
        Table.read(file_with(tmp_path, change))
    assert "a.csv.gz" in str(error.value)
    assert "\n" not in str(error.value).strip()
    assert "/tmp/tmp" not in str(error.value)


def test_failed_trials_are_no_part_of_it(tmp_path: Path) -> None:
    of = space(tmp_path)
    point, network = networks(of)[0]
    failed = row(of, 90, point, network, 0, state="failed", reason="killed", killed=True, curve=(), val_accuracy=None)
    write(tmp_path / "a.csv.gz", record_file(of, [*rows(of, (0,)), (0, failed)]))
    assert len(Table.read(tmp_path / "a.csv.gz").rows) == GRID
