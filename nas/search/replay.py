"""A search on recorded curves: the loop, samplers and pruners of a real one, with a clock of its own.

Workers are simulated in the order in which they would finish. With one worker, the same seed and the same curves, it
proposes what a real search proposes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import optuna
from optuna.storages import InMemoryStorage

from nas.architecture import Architecture
from nas.curve import EpochResult
from nas.records import Row
from nas.search.loop import Ended, Loop, Plan, Run, Stop
from nas.search.pruners.base import FrontPruner
from nas.search.study import DIRECTIONS


@dataclass(frozen=True)
class Networks:
    """What a replayed search may find: one recorded training of each network.

    Args:
        coordinates: names of the numbers in [0, 1] that are proposed.
        decode: the network at these numbers; None where the search may not take it.
        curves: by key: (validation accuracy, training loss) of each epoch from 1.
        seeds: by key: of its training.
        cost_of: what the search makes small.
        shape_of: what a sampler sees of a network; see `nas.space.Space.realised`.
        epoch_seconds: of a network's training, on a quiet machine.
        validation_images: how many images each reading was taken on.
    """

    coordinates: tuple[str, ...]
    decode: Callable[[Mapping[str, float]], Architecture | None]
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    seeds: Mapping[str, int]
    cost_of: Callable[[Architecture], int]
    shape_of: Callable[[Architecture], tuple[float, ...]]
    epoch_seconds: Callable[[Architecture], float]
    validation_images: int

    @property
    def epochs(self) -> int:
        """Of every training."""
        return len(next(iter(self.curves.values())))


@dataclass(frozen=True, slots=True)
class Moment:
    """The end of a trial, or of a part of one.

    Args:
        seconds: by the simulated clock, from the search's start.
        epochs: trained to their end by then, in all trials together.
        row: the trial as it was then recorded.
    """

    seconds: float
    epochs: int
    row: Row


@dataclass
class _Clock:
    seconds: float = 0.0
    epochs: int = 0


@dataclass
class MemoryPlaces:
    """Places and networks of one study, as `nas.search.claims.Claims` keeps them, in memory."""

    _networks: dict[str, int] = field(default_factory=dict)  # key -> claim
    _trials: dict[int, int] = field(default_factory=dict)  # trial -> claim
    _rows: dict[int, Row] = field(default_factory=dict)  # trial -> its last record
    _held: set[int] = field(default_factory=set)  # claims
    _paused: dict[int, None] = field(default_factory=dict)  # trials, in the order in which they were set aside
    _done: int = 0
    _claims: int = 0
    _exhausted: bool = False

    def place(self, total: int) -> int | Literal["full", "done"]:
        """See `Places`."""
        if self._done >= total:
            return "done"
        if self._done + len(self._held) + len(self._paused) >= total:
            return "full"
        self._claims += 1
        self._held.add(self._claims)
        return self._claims

    def network(self, claim: int, trial: int, key: str) -> bool:
        """See `Places`."""
        if key in self._networks:
            return False
        self._networks[key] = claim
        self._trials[trial] = claim
        return True

    def give_back(self, claim: int) -> None:
        """See `Places`."""
        self._held.discard(claim)
        self._networks = {key: other for key, other in self._networks.items() if other != claim}
        self._trials = {trial: other for trial, other in self._trials.items() if other != claim}

    def busy(self) -> bool:
        """See `Places`."""
        return bool(self._held)

    def paused(self) -> list[int]:
        """See `Places`."""
        return list(self._paused)

    def resume(self, trial: int) -> tuple[int, Row] | None:
        """See `Places`."""
        if trial not in self._paused:
            return None
        del self._paused[trial]
        self._held.add(self._trials[trial])
        return self._trials[trial], self._rows[trial]

    def settle(self, claim: int, row: Row) -> None:
        """Keep the row of a trial that is complete, pruned or paused; its state is its claim's."""
        self._rows[row.trial] = row
        self._held.remove(claim)
        if row.state == "paused":
            self._paused[row.trial] = None
        else:
            self._done += 1

    def exhausted(self) -> bool:
        """See `Places`."""
        return self._exhausted

    def set_exhausted(self) -> None:
        """See `Places`."""
        self._exhausted = True

    def failures_in_a_row(self) -> list[str]:
        """None: a recorded training does not fail."""
        return []


class _Player(Loop):
    """One worker that reads curves."""

    def __init__(
        self,
        plan: Plan,
        storage: InMemoryStorage,
        places: MemoryPlaces,
        pruner: FrontPruner,
        number: int,
        networks: Networks,
        clock: _Clock,
        moments: list[Moment],
    ) -> None:
        self._networks = networks
        self._memory = places
        self._clock = clock
        self._moments = moments
        facts = {"device": "cpu", "threads": 1, "worker": str(number)}
        super().__init__(plan, storage, places, pruner, number=number, facts=facts, stop=Stop())

    def _now(self) -> float:
        return self._clock.seconds

    def _decode(self, params: Mapping[str, float]) -> Architecture | None:
        return self._networks.decode(params)

    def _shape_of(self, architecture: Architecture) -> tuple[float, ...]:
        return self._networks.shape_of(architecture)

    def _seed_of(self, architecture: Architecture) -> int:
        return self._networks.seeds[architecture.key]

    def _cost_of(self, architecture: Architecture) -> int:
        return self._networks.cost_of(architecture)

    def _describe(self, run: Run) -> None:  # what pruners read
        run.trial.set_user_attr("cost", float(self._cost_of(run.architecture)))
        run.trial.set_user_attr("key", run.architecture.key)

    def _readings(self, run: Run) -> Iterator[EpochResult]:
        seconds = self._networks.epoch_seconds(run.architecture)
        curve = self._networks.curves[run.architecture.key]
        for epoch, (accuracy, loss) in enumerate(curve[len(run.curve) :], len(run.curve) + 1):
            yield EpochResult(epoch, accuracy, loss, seconds)

    def _has_read(self, run: Run, reading: EpochResult) -> None:
        self._clock.epochs += 1

    def _record(self, run: Run, row: Row, ended: Ended) -> None:
        self._memory.settle(run.claim, row)
        self._moments.append(Moment(self._clock.seconds, self._clock.epochs, row))


def replay(plan: Plan, networks: Networks, pruner: FrontPruner, *, workers: int) -> list[Moment]:
    """Search recorded curves; every end or pause of a trial in the order in which they happen.

    Args:
        plan: what a worker is told; its study's name does not matter.
        pruner: asked as in a search.
        workers: how many train at once, at least 1. Of two that finish at the same second the lower number is first.

    Raises:
        ValueError: no worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    storage = InMemoryStorage()
    optuna.create_study(study_name=plan.study, storage=storage, directions=DIRECTIONS)
    clock, places, moments = _Clock(), MemoryPlaces(), list[Moment]()
    players = [
        _Player(plan, storage, places, pruner, number, networks, clock, moments).steps() for number in range(workers)
    ]
    ready = [(0.0, number) for number in range(workers)]
    waiting: list[int] = []
    while ready:
        clock.seconds, number = heapq.heappop(ready)
        step = next(players[number], None)
        if step is not None and step.seconds is None:
            waiting.append(number)
            continue
        if step is not None and step.seconds is not None:
            heapq.heappush(ready, (clock.seconds + step.seconds, number))
        for other in waiting:  # something has happened that may concern them
            heapq.heappush(ready, (clock.seconds, other))
        waiting.clear()
    return moments
