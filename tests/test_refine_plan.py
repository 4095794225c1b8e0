"""Which networks are trained fully, in what order, and how long that should take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import pareto
from nas.errors import StudyError
from nas.outcome import Outcome
from nas.records import Row
from nas.refine.options import RefineOptions
from nas.refine.plan import Plan, make_plan, near_front, standard_error, words
from nas.refined import Refinement
from nas.search.display import clock
from tests import refining
from tests.fake_study import settings
from tests.refining import RECIPE, refinement


def outcome(rows: Sequence[Row], images: int = 100) -> Outcome:
    complete = [row for row in rows if row.state == "complete"]
    front = pareto.front([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    identity = {"space": {"recipe": RECIPE.model_dump(mode="json")}}
    known = {**settings("s"), "validation_images": images}
    return Outcome("s", identity, known, tuple(rows), tuple(complete[i] for i in front))


def plan(
    rows: Sequence[Row], trainings: Sequence[Refinement] = (), *, lost: Sequence[Refinement] = (), **options: object
) -> Plan:
    asked = RefineOptions("s", "sqlite:///none.db", **options)  # type: ignore[arg-type]
    return make_plan(outcome(rows), trainings, asked, lambda one: one not in lost)


def chosen(*points: tuple[int, float], trainings: Sequence[Refinement] = (), **options: object) -> list[int]:
    return [row.trial for row in plan(refining.networks(points), trainings, **options).chosen]


POINTS = ((1000, 0.80), (2000, 0.78), (3000, 0.90), (3000, 0.89), (4000, 0.70), (2000, 0.60))


def test_the_near_front_is_two_standard_errors_wide_until_the_deviation_is_measured() -> None:
    error = math.sqrt(81 / 102 * 21 / 102 / 100)
    assert standard_error(0.80, 100) == pytest.approx(error)
    assert near_front([1, 2, 2], [0.8, 0.8 - 1.99 * error, 0.8 - 2.01 * error], std=None, images=100) == [0, 1]
    assert chosen(*POINTS) == [0, 1, 2, 3]
    assert "2 standard errors of a reading on 100 images (3.10 to 4.04 points)" in plan(refining.networks(POINTS)).why


def test_a_deviation_measured_by_another_recipe_counts() -> None:
    rows = refining.networks(POINTS)
    measured = [refinement(rows[0], value, r, epochs=99) for r, value in enumerate((0.8, 0.8 + 0.004 * 2**0.5), 1)]
    found = plan(rows, measured)
    assert [row.trial for row in found.chosen] == [0, 2]
    assert "2 seed standard deviations (0.40 points, measured) behind the front" in found.why


def test_this_recipes_own_trainings_do_not_move_the_choice() -> None:
    # What is half done has to be the same work when the command is given again.
    rows = refining.networks(POINTS)
    own = [refinement(rows[0], value, r, epochs=8) for r, value in enumerate((0.8, 0.8), 1)]
    assert [row.trial for row in plan(rows, own, epochs=8).chosen] == [0, 1, 2, 3]
    assert [row.trial for row in plan(rows, own, epochs=9).chosen] == [0, 2]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=1, max_size=12), st.integers(0, 20))
def test_the_near_front_has_the_front_and_grows_with_the_deviation(points: list[tuple[int, int]], std: int) -> None:
    costs, accuracies = [cost for cost, _ in points], [right / 50 for _, right in points]
    near = near_front(costs, accuracies, std=std / 100, images=50)
    assert set(pareto.front(costs, accuracies)) <= set(near)
    assert set(near) <= set(near_front(costs, accuracies, std=(std + 1) / 100, images=50))
    for index in range(len(points)):
        best = max(a for c, a in zip(costs, accuracies, strict=True) if c <= costs[index])
        assert (index in near) == (best - accuracies[index] <= 2 * std / 100 + 1e-9)
    assert 0 < standard_error(accuracies[0], 50) < 0.1


@pytest.mark.parametrize(
    ("top", "trials"),
    [(1, [0]), (2, [0, 2]), (3, [0, 2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 5, 2, 3, 4])],
)
def test_top_takes_the_nearest_and_of_equals_the_cheaper(top: int, trials: list[int]) -> None:
    assert chosen(*POINTS, top=top) == trials


def test_top_takes_of_the_front_what_covers_most() -> None:
    # Trial 1 is level with a cheaper one: no less accurate, but not on the front.
    points = ((1000, 0.80), (1200, 0.80), (3000, 0.90))
    assert chosen(*points, top=2) == [0, 2]
    assert chosen(*points, top=3) == [0, 1, 2]
    crowd = ((1000, 0.50), (1010, 0.51), (1200, 0.90), (4000, 0.95))  # 0 and 1 are nearly the same
    assert [chosen(*crowd, top=top) for top in (1, 2, 3)] == [[2], [0, 2], [0, 2, 3]]


def test_picks_are_taken_once_each() -> None:
    assert chosen(*POINTS, picks=("best", "trial:4", "trial:2", "under:1k")) == [0, 2, 4]


def test_only_complete_networks_are_trained() -> None:
    rows = refining.networks(POINTS)
    rows[2] = replace(rows[2], state="pruned", reason="behind")
    assert [row.trial for row in plan(rows, top=9).chosen] == [0, 1, 5, 3, 4]
    with pytest.raises(StudyError, match="trial 2 is pruned and has no final network"):
        plan(rows, picks=("trial:2",))
    with pytest.raises(StudyError, match="has no complete trial to refine yet; run `nas search` longer"):
        plan([rows[2]])


def test_every_networks_first_seed_comes_before_any_second() -> None:
    rows = refining.networks(POINTS)
    found = plan(rows, top=3, seeds=2)
    assert [task.replicate for task in found.tasks] == [1, 1, 1, 2, 2, 2]
    for _, group in itertools.groupby(found.tasks, lambda task: task.replicate):
        macs = [task.row.macs for task in group]
        assert macs == sorted(macs, reverse=True)
    assert found.epochs == 8  # four times the study's
    assert found.recipe == {**RECIPE.model_dump(mode="json"), "epochs": 8}


def test_what_is_done_is_left_out_and_lost_weights_are_trained_again() -> None:
    rows = refining.networks(POINTS)
    done = [refinement(rows[0], 0.8), refinement(rows[2], 0.9), refinement(rows[0], 0.8, 2, epochs=7)]
    found = plan(rows, done, lost=done[1:2], top=2, seeds=2)
    assert [(task.row.trial, task.replicate) for task in found.tasks if task.replicate == 1] == [(2, 1)]
    assert {(task.row.trial, task.replicate) for task in found.tasks} == {(2, 1), (0, 2), (2, 2)}
    assert found.lost == 1
    said = words(found, outcome(rows), workers=2, at_once=2, clock=clock)
    assert "The weights of 1 recorded training are not in the study's folder: trained again." in said
    assert said[-1].startswith("3 trainings to do (1 of 4 are done) by 2 workers, in about ")
    more = plan(rows, done, top=2, seeds=3)
    assert {task.replicate for task in more.tasks} == {2, 3}


def test_the_time_is_that_of_the_searchs_own_trials() -> None:
    rows = refining.networks(POINTS)  # each took 1 second for 2 epochs
    found = plan(rows, top=3, seeds=2, epochs=10)
    assert found.seconds(rows, 1) == pytest.approx(30)
    assert found.seconds(rows, 2) == pytest.approx(15)
    assert found.seconds(rows, 99) == pytest.approx(5)  # no faster than one training
    cached = [replace(row, source="other trial 1", seconds=0.0) for row in rows]
    assert found.seconds(cached, 1) is None
    assert "in an unknown time" in words(found, outcome(cached), workers=1, at_once=1, clock=clock)[-1]
    cached[1] = rows[1]
    by_macs = sum(task.row.macs / rows[1].macs * 5 for task in found.tasks)
    assert found.seconds(cached, 1) == pytest.approx(by_macs)


def test_all_done_is_said() -> None:
    rows = refining.networks(POINTS)
    found = plan(rows, [refinement(rows[0], 0.8)], picks=("trial:0",), seeds=1)
    assert found.tasks == ()
    assert words(found, outcome(rows), workers=1, at_once=1, clock=clock) == [
        "1 network, picked by trial:0; 1 fresh seed each, 8 epochs.",
        "Nothing is left to do of 1 training.",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "--epochs 0: it must be a whole number of at least 1"),
        ({"seeds": 0}, "--seeds 0: it must be"),
        ({"top": 0}, "--top 0: it must be"),
        ({"workers": -1}, "--workers -1: it must be"),
        ({"top": 2, "picks": ("best",)}, "--pick and --top both choose the networks: give one of them"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        RefineOptions("s", "sqlite:///none.db", **options).check()  # type: ignore[arg-type]


def test_a_study_without_a_whole_recipe_is_said() -> None:
    asked = RefineOptions("s", "sqlite:///none.db")
    with pytest.raises(StudyError, match="study 's' keeps no whole recipe"):
        asked.recipe(replace(outcome(refining.networks()), identity={"space": {"recipe": {"epochs": 9}}}))
    with pytest.raises(StudyError, match="study 's' keeps no whole recipe"):
        asked.recipe(replace(outcome(refining.networks()), identity={}))
