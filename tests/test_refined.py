"""Full trainings on record, and what they say of a network together."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Records
from nas.refined import (
    Refined,
    add_refinement,
    front,
    measured_seed_std,
    networks,
    pick,
    recipe_hash,
    refinements,
    seed_std,
    settled,
)
from nas.tables import refinement_table
from tests import refining
from tests.refining import refinement

ROWS = refining.networks()
ACCURACIES = st.lists(st.integers(0, 200).map(lambda right: right / 200), min_size=1, max_size=8)


def refined(*accuracies: float, row: int = 0) -> Refined:
    """In the order of the replicates."""
    return Refined(ROWS[row], tuple(refinement(ROWS[row], value, i + 1) for i, value in enumerate(accuracies)))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    made = Records(f"sqlite:///{tmp_path / 'study.db'}")
    made.create()
    study = made.add_study("s", {}, {})
    for row in ROWS:
        made.add(study.id, row)
    return made


def test_what_is_written_is_read_again_in_order(records: Records) -> None:
    trainings = [refinement(ROWS[t], 0.5 + t / 10, r, epochs=e) for t in (1, 0) for e in (4, 8) for r in (2, 1)]
    for one in trainings:
        add_refinement(records, 1, one)
    found = refinements(records, 1)
    assert found == sorted(trainings, key=lambda one: (one.trial, one.recipe_hash, one.replicate))
    assert refinements(records, 2) == []
    assert found[0].recipe_hash == recipe_hash(dict(reversed(found[0].recipe.items())))


def test_one_that_was_done_again_replaces_the_earlier_one(records: Records) -> None:
    before, other = refinement(ROWS[0], 0.5), refinement(ROWS[0], 0.6, 2)
    again = replace(before, val_accuracy=0.75, weights_sha256="cd" * 32)
    for one in (before, other, again):
        add_refinement(records, 1, one)
    assert refinements(records, 1) == [again, other]


def test_a_database_of_an_older_layout_has_none(records: Records) -> None:
    with records.writing() as connection:
        refinement_table.drop(connection)
    assert refinements(records, 1) == []
    assert measured_seed_std(records, "s") is None


def test_mean_deviation_and_interval_are_students() -> None:
    values = (0.90, 0.92, 0.91, 0.95, 0.89)
    one = refined(*values)
    assert (one.mean, one.std) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    known = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert one.interval == pytest.approx(known)
    assert refined(0.99, 1.0, 1.0).interval[1] == 1.0
    assert refined(0.0, 0.01, 0.0).interval[0] == 0.0


@given(ACCURACIES)
def test_the_interval_holds_the_mean_and_one_training_has_none(values: list[float]) -> None:
    one = refined(*values)
    low, high = one.interval
    if len(values) == 1:
        assert math.isnan(low)
        assert math.isnan(high)
        assert math.isnan(one.std)
    else:
        assert 0 <= low <= one.mean + 1e-12
        assert one.mean - 1e-12 <= high <= 1
    assert min(values) - 1e-12 <= one.mean <= max(values) + 1e-12


def test_intervals_of_five_seeds_hold_the_truth_in_95_of_100_cases() -> None:
    drawn = np.random.default_rng(0).normal(0.8, 0.01, (2000, 5))
    inside = [low <= 0.8 <= high for low, high in (refined(*map(float, row)).interval for row in drawn)]
    assert 0.94 <= np.mean(inside) <= 0.96


@given(ACCURACIES)
def test_the_middle_training_is_the_median_one(values: list[float]) -> None:
    middle = refined(*values).middle.val_accuracy
    assert middle == sorted(values)[(len(values) - 1) // 2]


def test_a_network_counts_by_its_longest_recipe_of_as_many_trainings() -> None:
    short = [refinement(ROWS[1], 0.5, r, epochs=4) for r in (1, 2)]
    long = [refinement(ROWS[1], 0.7, r, epochs=16) for r in (2, 1)]
    only = refinement(ROWS[0], 0.6, epochs=4)
    found = networks(ROWS, [*long, *short, only])
    assert [(one.row.trial, [training.val_accuracy for training in one.trainings]) for one in found] == [
        (0, [0.6]),
        (1, [0.7, 0.7]),
    ]
    assert [training.replicate for training in found[1].trainings] == [1, 2]
    assert networks(ROWS, []) == []
    later = replace(long[0], recipe={**long[0].recipe, "batch": 64}, finished_at=long[0].finished_at + timedelta(1))
    assert networks(ROWS, [long[0], later])[0].trainings == (later,)


def test_a_longer_refinement_takes_the_place_of_a_whole_one_when_it_is_whole_too() -> None:
    short = [refinement(ROWS[1], 0.5, r, epochs=4) for r in range(1, 8)]
    long = [refinement(ROWS[1], 0.7, r, epochs=16) for r in range(1, 6)]
    assert networks(ROWS, [*short, *long[:4]])[0].mean == 0.5
    assert networks(ROWS, [*short, *long])[0].mean == 0.7


def test_the_front_is_by_means() -> None:
    found = [refined(0.7, 0.7, row=0), refined(0.6, 0.9, row=1), refined(0.74, 0.75, row=2)]
    assert [one.row.trial for one in front(found)] == [0, 1]


def test_one_lucky_training_wins_over_no_mean_of_five() -> None:
    """Nor does it stand on the front; by its number it is there."""
    outcome = Outcome("s", {}, {}, tuple(ROWS), tuple(ROWS[:3]))
    lucky, ready = refined(0.99, row=0), [refined(*[0.8] * 5, row=1), refined(*[0.7] * 9, row=2)]
    found = [lucky, *ready]
    assert settled(found) == ready
    assert front(found) == ready[:1]
    for word, expected in (("best", ready[0]), ("smallest:0.6", ready[0]), ("trial:0", lucky)):
        assert pick(outcome, found, word) is expected
    assert settled([lucky]) == [lucky]
    assert settled([]) == []


@pytest.mark.parametrize(
    ("word", "trial"), [("best", 2), ("trial:1", 1), ("under:1k", 0), ("smallest:0.75", 1), ("knee", 1)]
)
def test_picks_are_by_means(word: str, trial: int) -> None:
    outcome = Outcome("s", {}, {}, tuple(ROWS), tuple(ROWS[:3]))
    found = [refined(0.70, row=0), refined(0.79, row=1), refined(0.80, row=2)]
    assert pick(outcome, found, word).row.trial == trial


def test_a_pick_of_what_is_not_refined_says_what_to_do() -> None:
    outcome = Outcome("s", {}, {}, tuple(ROWS), tuple(ROWS[:3]))
    with pytest.raises(StudyError, match="no network of study 's' is refined yet; run `nas refine s`"):
        pick(outcome, [], "best")
    with pytest.raises(StudyError, match=r"trial 1 of study 's' is not refined; run .* trial:1`, or .* with --as-is"):
        pick(outcome, [refined(0.7)], "trial:1")
    with pytest.raises(StudyError, match="unknown pick 'nicest'"):
        pick(outcome, [refined(0.7)], "nicest")


@given(st.lists(ACCURACIES, max_size=4))
def test_the_deviation_between_seeds_is_pooled(groups: list[list[float]]) -> None:
    several = [values for values in groups if len(values) > 1]
    found = seed_std([refined(*values, row=row) for row, values in enumerate(groups)])
    if not several:
        assert found is None
        return
    residuals = np.concatenate([np.asarray(values) - np.mean(values) for values in several])
    assert found == pytest.approx(math.sqrt(sum(residuals**2) / (len(residuals) - len(several))), abs=1e-12)


def test_the_measured_deviation_of_a_study(records: Records) -> None:
    assert measured_seed_std(records, "s") is None
    add_refinement(records, 1, refinement(ROWS[0], 0.70))
    assert measured_seed_std(records, "s") is None
    add_refinement(records, 1, refinement(ROWS[0], 0.72, 2))
    assert measured_seed_std(records, "s") == pytest.approx(0.02 / math.sqrt(2))
