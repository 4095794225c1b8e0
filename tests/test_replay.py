"""A replay's clock against a simulation by brute force; its places against those of a real search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.records import Records, Row
from nas.search.claims import Claims
from nas.search.loop import Plan
from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.pruners.none import NonePruner
from nas.search.replay import MemoryPlaces, Moment, Networks, replay
from nas.search.samplers import SAMPLERS
from nas.search.table import Table
from tests.recorded import EPOCHS, GRID, table_file
from tests.test_claims import row as claimed_row


class ByKey(FrontPruner):
    """Stops two thirds of all networks after their first or second epoch, whatever their accuracy."""

    def explain(self, study: Study, trial: FrozenTrial) -> Verdict:
        rung = max(trial.intermediate_values)
        return Verdict(rung=rung, prune=stopped_at(trial.user_attrs["key"]) == rung, why="by its key")


class PausingByKey(ByKey):
    """Sets them aside; in the end it goes on with all that stand at their first epoch, the latest trial first."""

    pauses = True

    def resume(self, study: Study, paused: Sequence[int], *, last: bool) -> int | None:
        trials = study.get_trials(deepcopy=False)
        early = [number for number in paused if len(trials[number].intermediate_values) == 1]
        return max(early) if early and last else None


def stopped_at(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0] % 3


PRUNERS: dict[str, type[FrontPruner]] = {"none": NonePruner, "pruning": ByKey, "pausing": PausingByKey}
End = tuple[float, int, int, str, int]  # second, trial, worker, state, epochs so far


def by_brute_force(keys: Mapping[int, str], second: Mapping[str, float], pruner: str, workers: int) -> list[End]:
    """What must happen, by looking at all workers for whichever has its next epoch first.

    Args:
        keys: networks by trial, in the order in which they are proposed.
        second: what an epoch of each takes.
    """
    todo, aside, ends = list(keys), dict[int, int](), list[End]()
    works: dict[int, tuple[float, int, int]] = {}  # worker -> (when its epoch is over, trial, epochs before it)
    free = dict.fromkeys(range(workers), 0.0)
    now, epochs = 0.0, 0
    while True:
        for worker in sorted(free):
            if todo:
                trial, before = todo.pop(0), 0
            elif any(read == 1 for read in aside.values()):
                trial = max(number for number, read in aside.items() if read == 1)
                before = aside.pop(trial)
            else:
                continue
            works[worker] = (now + second[keys[trial]], trial, before)
            del free[worker]
        if not works:
            ends += [(now, trial, -1, "pruned", epochs) for trial in sorted(aside)]
            return ends
        worker = min(works, key=lambda w: works[w][0])
        now, trial, read = works.pop(worker)
        read, epochs = read + 1, epochs + 1
        if read == EPOCHS:
            ends.append((now, trial, worker, "complete", epochs))
        elif pruner != "none" and stopped_at(keys[trial]) == read:
            ends.append((now, trial, worker, "pruned" if pruner == "pruning" else "paused", epochs))
            if pruner == "pausing":
                aside[trial] = read
        else:
            works[worker] = (now + second[keys[trial]], trial, read)
            continue
        free[worker] = now


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table.read(table_file(tmp_path_factory.mktemp("table")))


def played(
    networks: Networks, pruner: FrontPruner, *, workers: int, trials: int = 12, sampler: str = "random", seed: int = 3
) -> list[Moment]:
    plan = Plan("s", networks.coordinates, trials, networks.epochs, seed, sampler, (0.1, 12_000.0))
    return replay(plan, networks, pruner, workers=workers)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_trials_end_in_the_order_of_a_simulation_by_brute_force(table: Table, pruner: str, workers: int) -> None:
    networks = table.networks(0)
    moments = played(networks, PRUNERS[pruner](), workers=workers)
    rows = {moment.row.trial: moment.row for moment in moments}
    assert sorted(rows) == list(range(12))
    second = {key: networks.epoch_seconds(architecture) for key, architecture in table.architectures.items()}
    assert len(set(second.values())) > 12  # or the order would be anyone's
    found = [(m.seconds, m.row.trial, int(m.row.worker), m.row.state, m.epochs) for m in moments]
    expected = by_brute_force({trial: rows[trial].key for trial in sorted(rows)}, second, pruner, workers)
    # what is left aside is told as pruned by whoever looks last, and keeps the name of who trained it
    assert [end[:2] + end[3:] for end in found] == [pytest.approx(end[:2] + end[3:]) for end in expected]
    assert all(mine[2] == theirs[2] for mine, theirs in zip(found, expected, strict=True) if theirs[2] >= 0)
    states = [moment.row.state for moment in moments]
    assert ("pruned" in states) == (pruner != "none")
    assert ("paused" in states) == (pruner == "pausing")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_row_is_what_a_search_would_have_recorded(table: Table, workers: int) -> None:
    networks = table.networks(1)
    for moment in played(networks, ByKey(), workers=workers):
        row = moment.row
        recorded = table.rows[row.key][1]
        length = EPOCHS if row.state == "complete" else stopped_at(row.key)
        assert row.curve == recorded.curve[:length]
        assert (row.seed, row.cost, row.val_accuracy) == (recorded.seed, recorded.cost, recorded.curve[length - 1][1])
        assert row.coordinates is not None
        assert table.space.decode(list(row.coordinates.values())) == row.architecture
        assert row.seconds == pytest.approx(length * networks.epoch_seconds(row.architecture), abs=1e-5)
        assert row.finished_at.timestamp() == pytest.approx(moment.seconds, abs=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_is_the_same_search_and_another_is_another(table: Table, sampler: str) -> None:
    networks = table.networks(0)
    first, again, other = (played(networks, NonePruner(), workers=2, sampler=sampler, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert [moment.row.key for moment in first] != [moment.row.key for moment in other]


def test_workers_share_networks_and_a_grid_ends(table: Table) -> None:
    moments = played(table.networks(0), NonePruner(), workers=3, trials=GRID)
    keys = [moment.row.key for moment in moments]
    assert len(keys) == len(set(keys)) == GRID
    # more trials than networks: the space is exhausted, and the search ends well
    moments = played(table.networks(0), PausingByKey(), workers=3, trials=GRID + 5)
    assert len({moment.row.trial for moment in moments if moment.row.state != "paused"}) == GRID


def test_more_workers_than_trials(table: Table) -> None:
    moments = played(table.networks(0), NonePruner(), workers=5, trials=2)
    assert len(moments) == 2
    assert {int(moment.row.worker) for moment in moments} == {0, 1}


def test_no_worker_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        played(table.networks(0), NonePruner(), workers=0)


class InDatabase(Claims):
    """Claims with the one way to settle that a replay has."""

    def settle(self, claim: int, row: Row) -> None:
        if row.state == "paused":
            self.pause(claim, row)
        else:
            self.finish(claim, row)


Both = MemoryPlaces | InDatabase


@pytest.fixture(params=["memory", "database"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    if request.param == "memory":
        yield MemoryPlaces()
        return
    records = Records(f"sqlite:///{tmp_path / 'study.db'}")
    records.create()
    records.add_study("s", {"space": {"cost": "params"}}, {})
    yield InDatabase(records, 1, "w")
    records.close()


def held(places: Both, total: int, trial: int | None = None) -> int:
    """A place, with a network of its own where a trial is named."""
    place = places.place(total)
    assert isinstance(place, int)
    if trial is not None:
        assert places.network(place, trial, claimed_row(trial).key)
    return place


def test_places_are_full_while_held_or_paused_and_done_when_all_have_ended(places: Both) -> None:
    assert not places.busy()
    first, second, third = (held(places, 3, trial) for trial in range(3))
    assert len({first, second, third}) == 3
    assert places.busy()
    assert places.place(3) == "full"
    places.settle(first, claimed_row(0))
    assert places.place(3) == "full"
    places.settle(second, claimed_row(1, state="paused", reason="behind"))
    assert places.busy()
    assert places.place(3) == "full"
    places.settle(third, claimed_row(2, state="pruned", reason="behind"))
    assert places.place(3) == "full"  # the paused one has not ended
    assert not places.busy()
    taken = places.resume(1)
    assert taken is not None
    places.settle(taken[0], claimed_row(1, state="pruned", reason="behind"))
    assert places.place(3) == "done"
    assert not places.busy()
    assert isinstance(places.place(4), int)


def test_a_network_is_claimed_once_however_its_trial_ended(places: Both) -> None:
    for trial, state in enumerate(("complete", "pruned", "paused")):
        places.settle(held(places, 9, trial), claimed_row(trial, state=state, reason="behind"))
    place = held(places, 9, 3)  # and one is still held
    for trial in range(4):
        assert not places.network(held(places, 9), 9 + trial, claimed_row(trial).key)
    places.give_back(place)


def test_what_is_given_back_is_free_again_with_its_network(places: Both) -> None:
    place = held(places, 1, 0)
    assert places.place(1) == "full"
    places.give_back(place)
    assert not places.busy()
    place = held(places, 1, 1)
    assert places.place(1) == "full"
    places.give_back(place)
    place = held(places, 1)
    assert places.network(place, 2, claimed_row(0).key)
    assert places.paused() == []


def test_a_paused_trial_is_resumed_once_with_what_is_known_of_it(places: Both) -> None:
    for trial in (0, 1):
        places.settle(held(places, 5, trial), claimed_row(trial, state="paused", reason="behind"))
    held(places, 5, 2)
    assert sorted(places.paused()) == [0, 1]
    assert places.resume(2) is None  # it is trained
    assert places.resume(7) is None  # there is none
    taken = places.resume(0)
    assert taken is not None
    claim, row = taken
    assert (row.trial, row.key, row.state) == (0, claimed_row(0).key, "paused")
    assert places.paused() == [1]
    assert places.resume(0) is None
    places.settle(claim, claimed_row(0, state="paused", reason="behind again"))
    assert sorted(places.paused()) == [0, 1]
    again = places.resume(0)
    assert again is not None
    assert (again[0], again[1].reason) == (claim, "behind again")
    places.settle(claim, claimed_row(0))
    assert places.resume(0) is None
    assert places.paused() == [1]


def test_what_is_exhausted_is_told_to_all(places: Both) -> None:
    assert not places.exhausted()
    places.set_exhausted()
    assert places.exhausted()
    assert isinstance(places.place(1), int)  # the loop asks before it takes a place
    assert places.failures_in_a_row() == []
