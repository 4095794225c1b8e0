"""What a study found, and how a user names one network of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas import pareto
from nas.architecture import Architecture
from nas.errors import StudyError
from nas.outcome import MODULE_COLUMNS, Outcome, count_of, modules_table, rule_verdict
from nas.records import Records, Row
from tests.fake_study import EPOCHS, architecture, rows, settings, write_study


def outcome(made: list[Row], **changes: object) -> Outcome:
    complete = [row for row in made if row.state == "complete"]
    front = pareto.front([row.cost for row in complete], [row.val_accuracy or 0.0 for row in complete])
    return Outcome("s", {}, {**settings("s"), **changes}, tuple(made), tuple(complete[i] for i in front))


def flat(*points: tuple[int, float]) -> list[Row]:
    """Complete trials at (cost, accuracy)."""
    return [
        replace(row, state="complete", cost=cost, val_accuracy=accuracy, reason=None)
        for row, (cost, accuracy) in zip(rows(len(points)), points, strict=True)
    ]


def test_it_reads_what_was_written(tmp_path: Path) -> None:
    made = rows(30)
    found = Outcome.read(Records(write_study(tmp_path, "fake", made).url), "fake")
    assert found.rows == tuple(made)
    assert found.count("complete") + found.count("pruned") + found.count("failed") == 30
    assert found.front
    for member in found.front:
        assert member.state == "complete"
        assert not any(
            pareto.dominates((row.cost, row.val_accuracy or 0), (member.cost, member.val_accuracy or 0))
            for row in made
            if row.state == "complete"
        )
    assert (found.rule, found.cost) == ("growing", "params")
    assert found.hypervolume is not None
    assert 0 < found.hypervolume < 1
    assert found.headline.startswith(f"Study fake: {found.count('complete')} complete, {found.count('pruned')} pruned")


def test_an_empty_study_is_no_error() -> None:
    empty = outcome([])
    assert (empty.front, empty.best, empty.knee, empty.hypervolume, empty.seconds) == ((), None, None, 0.0, 0.0)
    assert (empty.epochs_used, empty.epochs_unpruned) == (0, 0)
    with pytest.raises(StudyError, match="has no complete trial to pick from yet"):
        empty.pick("best")
    with pytest.raises(StudyError, match="has no finished trial 0; finished are none yet"):
        empty.trial(0)


def test_epochs_count_what_pruning_saved_and_not_what_failed() -> None:
    made = flat((100, 0.5), (200, 0.6), (300, 0.7))
    full = tuple((epoch, 0.5, 1.0) for epoch in range(1, EPOCHS + 1))
    made = [
        replace(made[0], curve=full),
        replace(made[1], state="pruned", curve=full[:3]),
        replace(made[2], state="failed", curve=full[:5]),
    ]
    found = outcome(made)
    assert (found.epochs_used, found.epochs_unpruned) == (EPOCHS + 3, 2 * EPOCHS)
    assert found.seconds == (made[2].finished_at - made[0].started_at).total_seconds()


def test_picks() -> None:
    found = outcome(flat((1000, 0.5), (2000, 0.85), (4000, 0.9), (8000, 0.91), (9000, 0.3)))
    assert found.pick("best").trial == 3
    assert found.pick("knee").trial == 1
    assert found.pick("trial:4").trial == 4  # not on the front, but complete
    assert found.pick("trial:" + "0" * 30 + "4").trial == 4
    assert found.pick("under:2k").trial == 1
    assert found.pick("under:7999").trial == 2


def test_a_budget_of_one_single_cost_has_no_hypervolume() -> None:
    assert outcome(flat((850, 0.5)), cost_range=[850, 850]).hypervolume is None


@pytest.mark.parametrize(
    "text", ["bst", "trial", "trial:x", "trial:-1", "under", "under:", "smallest:", "best:1", "knee:", ""]
)
def test_a_pick_that_is_none_is_said(text: str) -> None:
    with pytest.raises(StudyError, match=r"allowed: best, knee, smallest:0\.95, trial:N, under:500k") as said:
        outcome(flat((1000, 0.5))).pick(text)
    assert "\n" not in str(said.value)


def test_picks_that_name_nothing_are_said() -> None:
    made = flat((1000, 0.5), (2000, 0.6))
    found = outcome([made[0], replace(made[1], state="pruned")])
    with pytest.raises(StudyError, match="trial 1 is pruned and has no final network"):
        found.pick("trial:1")
    with pytest.raises(StudyError, match="no finished trial 9; finished are 0 to 1"):
        found.pick("trial:9")
    with pytest.raises(StudyError, match="costs at most 999; its smallest complete one costs 1,000"):
        found.pick("under:999")
    with pytest.raises(StudyError, match=r"reaches 0\.6; its best one has 0\.5000"):
        found.pick("smallest:0.6")


def test_the_smallest_with_an_accuracy() -> None:
    found = outcome(flat((1000, 0.5), (2000, 0.6), (4000, 0.9), (8000, 0.95)))
    assert found.pick("smallest:0.6").cost == 2000
    assert found.pick("smallest:0.61").cost == 4000
    assert found.pick("smallest:0").cost == 1000


@pytest.mark.parametrize(("text", "said"), [("95", "write 0.95"), ("-1", "0..1"), ("nan", "0..1"), ("high", "0..1")])
def test_an_accuracy_that_is_none_is_said(text: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        outcome(flat((1000, 0.5))).pick(f"smallest:{text}")


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("200000", 200_000), ("200k", 200_000), ("200K", 200_000), ("1.5M", 1_500_000), ("1_000", 1000)],
)
def test_counts(text: str, count: int) -> None:
    assert count_of(text) == count


@pytest.mark.parametrize("text", ["", "0", "k", "-5", "1.5", "1e6", "2x", "0.5", "nan", "٣", "1.0001k"])
def test_what_is_no_count_is_said(text: str) -> None:
    with pytest.raises(StudyError, match="is not a count; write a whole number of at least 1"):
        count_of(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, f"{'9' * 400}.5M", "10000000000000000"])
def test_a_count_beyond_any_network_is_said_in_short(text: str) -> None:
    with pytest.raises(StudyError, match=r"^'[0-9.M]+(\.\.\.)?' is too large a count; write") as said:
        outcome(flat((1000, 0.5))).pick(f"under:{text}")
    assert len(str(said.value)) < 200


def test_a_trial_beyond_any_study_is_said() -> None:
    for digits in (30, 5000):  # Python turns at most 4,300 digits into a number
        with pytest.raises(StudyError, match=r"has no finished trial 9+; finished are 0 to 0") as said:
            outcome(flat((1000, 0.5))).pick("trial:" + "9" * digits)
        assert len(str(said.value)) < 200


def test_a_module_a_line_and_the_rule_in_words() -> None:
    grows = architecture(1.0)
    table = modules_table(grows)
    assert [len(line) for line in table] == [len(MODULE_COLUMNS)] * 3
    first = grows.modules[0]
    assert table[0][:4] == ["1", "8x8x8", str(first.out_1x1), str(first.reduce_3x3)]
    assert [line[-1] for line in table] == [f"{float(share):.3f}" for share in grows.shares]
    assert rule_verdict(grows, "growing") == "Rule growing: holds."
    falls: Architecture = architecture(1.0, (0.6, 0.5, 0.4))
    assert rule_verdict(falls, "growing") == "Rule growing: broken, the share falls at module 2."
    assert rule_verdict(falls, "off") == "Rule off: the shares may fall."
