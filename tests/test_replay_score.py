"""What a replayed search came to, against the definitions worked out one by one; intervals and tests against scipy."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import moocore
import numpy as np
import pytest
from scipy import stats

from nas.interval import part_interval
from nas.record_file import read
from nas.records import Row
from nas.search import standings
from nas.search.contest import Contest, Setting, near, play, searched, seed_std
from nas.search.pruners.conformal import NEAR
from nas.search.score import LEVELS, Point, Score, mean_interval, median_interval, paired, reached, score
from nas.search.table import Table
from tests.recorded import EPOCHS, GRID, table_file

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_file(tmp_path_factory.mktemp("table"), seeds=SEEDS)


@pytest.fixture(scope="module")
def table(path: Path) -> Table:
    return Table.read(path)


@pytest.fixture(scope="module")
def every(path: Path) -> list[tuple[int, Row]]:
    return list(read(path).rows)


def ends(every: Sequence[tuple[int, Row]]) -> dict[str, list[float]]:
    """Final accuracies by key, in the order of seeds."""
    found: dict[str, list[float]] = {}
    for _, row in sorted(every, key=lambda pair: pair[0]):
        found.setdefault(row.key, []).append(row.curve[-1][1])
    return found


def front_of(points: dict[str, tuple[int, float]]) -> set[str]:
    """By looking at every pair."""
    return {
        key
        for key, (cost, end) in points.items()
        if not any(c <= cost and e >= end and (c, e) != (cost, end) for c, e in points.values())
    }


def volume(table: Table, points: Sequence[tuple[int, float]]) -> float:
    """Hypervolume by moocore, as a part of its box."""
    low, high = map(math.log10, table.space.cost_range)
    chance = 1 - 1 / table.space.classes
    if not points:
        return 0.0
    corner = np.array([[max(math.log10(cost), low), 1 - accuracy] for cost, accuracy in points])
    return float(moocore.hypervolume(corner, ref=[high, chance]) / ((high - low) * chance))


@pytest.mark.parametrize("pruner", ["none", "conformal", "conformal-stop", "rank-median", "one-epoch"])
@pytest.mark.parametrize("seed", [0, 4])
def test_a_score_is_what_its_words_say(
    path: Path, table: Table, every: list[tuple[int, Row]], pruner: str, seed: int
) -> None:
    moments = searched(Contest(path, trials=14, workers=2), Setting("random", pruner), seed)
    eps = 0.01
    found = score(table, moments, seed, eps)
    cost = {row.key: row.cost for _, row in every}
    by_key = ends(every)
    truth = {key: sum(values) / len(values) for key, values in by_key.items()}
    points = {key: (cost[key], truth[key]) for key in cost}
    last = {moment.row.trial: moment.row for moment in moments}
    begun = {row.key for row in last.values()}
    kept = {row.key for row in last.values() if row.state == "complete"}
    assert (found.trials, found.complete) == (len(begun), len(kept)) == (14, found.complete)
    assert found.epochs == sum(len(row.curve) for row in last.values())
    assert found.epochs_part == found.epochs / (14 * EPOCHS)
    assert found.seconds == max(moment.seconds for moment in moments)
    best = front_of({key: points[key] for key in begun})
    assert found.recall == pytest.approx(len(best & kept) / len(best))
    whole = front_of(points)
    assert found.found == pytest.approx(len(whole & kept) / len(whole))
    assert found.hypervolume == pytest.approx(volume(table, [points[key] for key in kept]))
    assert found.ratio == pytest.approx(found.hypervolume / volume(table, [points[key] for key in begun]))
    seen = {key: by_key[key][seed % len(SEEDS)] for key in begun}
    close = {key for key in begun if max(seen[other] for other in begun if cost[other] <= cost[key]) - seen[key] <= eps}
    assert (found.near, found.lost) == (len(close), len(close - kept))
    assert sorted(found.points) == sorted(points[key] for key in kept)


@pytest.mark.parametrize("pruner", ["none", "conformal", "conformal-stop"])
def test_the_history_has_a_point_for_every_end_and_never_falls(path: Path, table: Table, pruner: str) -> None:
    moments = searched(Contest(path, trials=14, workers=3), Setting("random", pruner), 1)
    found = score(table, moments, 1, 0.01)
    told = [moment for moment in moments if moment.row.state != "paused"]
    assert [point.trials for point in found.history] == list(range(1, 15))
    assert [(point.epochs, point.seconds) for point in found.history] == [(m.epochs, m.seconds) for m in told]
    for before, after in itertools.pairwise(found.history):
        assert before.epochs <= after.epochs
        assert before.seconds <= after.seconds
        assert before.hypervolume <= after.hypervolume
    done: list[tuple[int, float]] = []
    for point, moment in zip(found.history, told, strict=True):
        if moment.row.state == "complete":
            done.append((moment.row.cost, table.truth[moment.row.key]))
        assert point.hypervolume == pytest.approx(volume(table, done))
    assert found.history[-1].hypervolume == found.hypervolume


def test_a_search_of_the_whole_grid_finds_all_of_it(path: Path, table: Table) -> None:
    contest = Contest(path, trials=GRID, workers=2, seeds=2)
    for run in play(contest, [Setting("tpe", "none")], jobs=1)[Setting("tpe", "none")]:
        assert (run.recall, run.found, run.ratio, run.epochs_part, run.lost) == (1, 1, 1, 1, 0)
        assert run.hypervolume == table.hypervolume(list(table.keys))
        assert reached(run.history, run.hypervolume) is not None


def test_nothing_completed_has_no_volume_and_no_nan(table: Table, path: Path) -> None:
    moments = searched(Contest(path, trials=3, workers=1), Setting("random", "one-epoch"), 0)
    stopped = [moment for moment in moments if moment.row.state == "paused"]
    found = score(table, stopped, 0, 0.005)
    assert (found.complete, found.recall, found.found, found.hypervolume, found.ratio) == (0, 0, 0, 0, 0)
    assert (found.near, found.history, found.points) == (found.lost, (), ())
    assert found.near >= 1  # the cheapest has nothing before it


def test_reached_is_the_first_point_as_high() -> None:
    history = [Point(1, 4, 1.0, 0.2), Point(2, 8, 2.0, 0.5), Point(3, 9, 3.0, 0.5)]
    assert reached(history, 0.5) is history[1]
    assert reached(history, 0.1) is history[0]
    assert reached(history, 0.51) is None
    assert reached([], 0.0) is None
    assert reached(history, 0.5 + 1e-15) is history[1]  # rounding


def test_processes_play_what_one_process_plays(path: Path) -> None:
    contest, settings = Contest(path, trials=8, seeds=2), [Setting("random", "none"), Setting("nsga2", "conformal")]
    one, two = play(contest, settings, jobs=1), play(contest, settings, jobs=2)
    assert list(one) == settings
    assert one == two
    assert one[settings[0]][0] != one[settings[0]][1]


def test_near_is_what_the_tables_noise_cannot_tell_apart(
    tmp_path: Path, table: Table, every: list[tuple[int, Row]]
) -> None:
    deviations = [np.std(values, ddof=1) for values in ends(every).values()]
    assert seed_std(table) == pytest.approx(math.sqrt(np.mean(np.square(deviations))))
    assert near(table) == pytest.approx(max(0.005, 1.5 / 200, seed_std(table)))
    once = Table.read(table_file(tmp_path, seeds=(5,), validation_images=10_000))
    assert (seed_std(once), near(once)) == (0, NEAR)
    few = Table.read(table_file(tmp_path, seeds=(5,), validation_images=50))
    assert near(few) == pytest.approx(0.03)


def test_the_interval_of_a_mean_is_the_bootstraps() -> None:
    values = list(np.random.default_rng(1).normal(size=20))
    mean, low, high = mean_interval(values, draws=20_000)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval([0.25]) == (0.25, 0.25, 0.25)
    assert mean_interval([0.5] * 7) == (0.5, 0.5, 0.5)
    assert all(math.isnan(number) for number in mean_interval([]))


def test_the_interval_of_a_median() -> None:
    values = list(np.random.default_rng(1).exponential(size=40))
    median, low, high = median_interval(values, draws=20_000)
    expected = stats.bootstrap((values,), np.median, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    assert median == np.median(values) != pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.05)
    assert all(math.isnan(number) for number in median_interval([]))


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (0, 40), (1, 1), (3, 40), (40, 40), (250, 1000)])
def test_the_interval_of_a_part_is_clopper_and_pearsons(hits: int, of: int) -> None:
    expected = stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    assert part_interval(hits, of) == pytest.approx((hits / of, expected.low, expected.high))


def test_a_part_of_nothing_is_unknown() -> None:
    part, low, high = part_interval(0, 0)
    assert math.isnan(part)
    assert (low, high) == (0, 1)


def test_paired_is_wilcoxons_signed_rank() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.6, 3.7, 4.8, 5.9]
    assert paired(a, b) == paired(b, a) == pytest.approx(2 / 2**5)  # all signs alike: 2 of 32 sequences
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=20), draw.normal(0.5, size=20)
    assert paired(list(x), list(y)) == pytest.approx(stats.wilcoxon(x, y).pvalue)
    assert paired([1, 2, 3], [1, 2, 3]) == 1
    assert paired([], []) == 1
    assert paired([1.0], [2.0]) == 1
    assert 0 < paired([1, 1, 1, 1, 2, 2], [1, 1, 2, 2, 3, 4]) <= 1  # equal pairs and ties, without a warning
    with pytest.raises(ValueError, match="two lists of one length, got 1 and 2"):
        paired([1], [1, 2])


def standing(path: Path, pruners: Sequence[str], trials: int = 12) -> tuple[Contest, Table, dict[Setting, list[Score]]]:
    contest = Contest(path, trials=trials, seeds=4, workers=2)
    settings = [Setting("random", pruner) for pruner in pruners]
    return contest, contest.check(settings), play(contest, settings, jobs=1)


def test_two_tables_that_fit_a_terminal(path: Path) -> None:
    _, table, scores = standing(path, ["none", "conformal-stop"])
    (kept, spent), (high, times) = standings.standings(table, scores)
    for columns, lines in ((kept, spent), (high, times)):
        assert columns[:2] == ("sampler", "pruner")
        assert [line[:2] for line in lines] == [["random", "none"], ["random", "conformal-stop"]]
        assert all(len(line) == len(columns) for line in lines)
        widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
        assert sum(widths) + 3 * len(widths) <= 120
    runs = scores[Setting("random", "conformal-stop")]
    mean, low, upper = mean_interval([run.hypervolume for run in runs])
    assert times[1][2] == f"{mean:.4f} ±{(upper - low) / 2:.4f}"
    assert times[0][3] == ""
    p = paired([run.hypervolume for run in scores[Setting("random", "none")]], [run.hypervolume for run in runs])
    assert times[1][3] == f"{p:.2g}"
    lost, near_front = sum(run.lost for run in runs), sum(run.near for run in runs)
    assert spent[1][6].startswith(f"{lost / near_front:.3f} (")


def test_the_time_to_a_hypervolume_is_the_median_over_all_searches_those_that_never_came_there_too(path: Path) -> None:
    _, table, scores = standing(path, ["none"], trials=6)
    runs = scores[Setting("random", "none")]
    whole = table.hypervolume(list(table.keys))
    words = standings.standings(table, scores)[1][1][0][4:]
    for level, cell in zip(standings.SHOWN, words, strict=True):
        points = [point for run in runs if (point := reached(run.history, level * whole))]
        if len(points) > len(runs) / 2:
            trials = sorted([point.trials for point in points] + [99] * (len(runs) - len(points)))
            assert cell.startswith(f"{np.median(trials):,.0f} / ")
        else:
            assert cell.startswith("never")
        assert cell.endswith(f"({len(points)} of 4)") == (len(points) < 4)
    assert words[0] != words[-1]
    assert any(cell == "never (0 of 4)" or "of 4)" in cell for cell in words)


def test_the_notes_say_what_was_measured_and_which_searches_ended_early(path: Path, table: Table) -> None:
    contest, _, scores = standing(path, ["none"])
    said = " ".join(standings.notes(contest, table, scores))
    assert "small: 18 networks (rule off), 18 of them trained more than once" in said
    assert "4 searches a setting, 12 trials, 2 workers" in said
    assert f"within {100 * near(table):.2f} points" in said
    assert "fewer trials" not in said
    short = Contest(path, trials=14, seeds=4, workers=2)
    assert "4 searches ended with fewer trials" in " ".join(standings.notes(short, table, scores))


def test_json_has_no_nan_and_all_that_is_printed(path: Path, table: Table) -> None:
    contest, _, scores = standing(path, ["none", "conformal"])
    data = standings.as_json(contest, table, scores)
    first, second = data["settings"]
    assert first["p"] == {"epochs": None, "hypervolume": None}
    assert set(second["p"]) == {"epochs", "hypervolume"}
    assert set(first["reached"]) == {f"{level:g}" for level in LEVELS}
    for setting in data["settings"]:
        for name in standings.MEASURES:
            mean, low, high = setting[name]
            assert low <= mean <= high
        assert len(setting["runs"]) == 4
        assert len(setting["runs"][0]["history"]) == 12
    nothing = {setting: [replace(run, near=0, lost=0) for run in runs] for setting, runs in scores.items()}
    json.dumps(standings.as_json(contest, table, nothing), allow_nan=False)
    assert standings.as_json(contest, table, nothing)["settings"][0]["false_prunes"] == [None, 0.0, 1.0]
