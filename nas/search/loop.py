"""The loop of one worker, whoever trains: takes a place, asks, follows a training, pauses or ends it, tells.

A search drives it with trainings; a replay with recorded curves and a clock of its own. So what is measured on recorded
curves is what a search does.
"""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from nas.architecture import Architecture
from nas.curve import EpochResult
from nas.errors import DataError, StudyError, TrialFailed
from nas.records import Row
from nas.search.evidence import LOSSES
from nas.search.known import Known, KnownOf
from nas.search.places import FAILURES, Places, TakenAway
from nas.search.pruners.base import FrontPruner, Verdict
from nas.search.reporting import pruned, report, trial_id
from nas.search.run import Ended as Ended
from nas.search.run import Plan as Plan
from nas.search.run import Run as Run
from nas.search.run import Step as Step
from nas.search.samplers import SAMPLERS, DistinctSampler, SpaceExhausted
from nas.search.stop import Interrupted as Interrupted
from nas.search.stop import Stop as Stop
from nas.search.worker_storage import WorkerStorage

INTERRUPTED = "the search was interrupted"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Loop(abc.ABC):
    """One worker.

    Args:
        plan: what to do.
        storage: Optuna's, with the study in it.
        places: shared by all workers of the study.
        pruner: the rule.
        number: this worker's place among those of its launcher, from 0: it seeds the sampler.
        facts: columns that are the same in every row this worker writes: device, threads, worker, versions.
        stop: asked to stop.
    """

    def __init__(
        self,
        plan: Plan,
        storage: BaseStorage,
        places: Places,
        pruner: FrontPruner,
        *,
        number: int,
        facts: Mapping[str, Any],
        stop: Stop,
    ) -> None:
        self._plan = plan
        self._places = places
        self._pruner = pruner
        self._facts = dict(facts)
        self._stop = stop
        self._claim = 0
        self._network: Architecture | None = None
        self._distributions = {name: FloatDistribution(0, 1) for name in plan.coordinates}
        so_far = len(storage.get_all_trials(storage.get_study_id_from_name(plan.study), deepcopy=False))
        # With the number of trials so far: a resume with the seed alone would replay the draws of the start-up phase.
        seed = (plan.seed + so_far + 1_000_003 * number) % 2**32
        self._study = optuna.load_study(
            study_name=plan.study,
            storage=storage,
            sampler=DistinctSampler(
                SAMPLERS[plan.sampler](seed, KnownOf(self._known, self._known_of), plan.reference),
                self._distributions,
                self._propose,
                seed=seed,
                first=[dict(zip(plan.coordinates, point, strict=True)) for point in plan.first],
            ),
            pruner=pruner,
        )
        self._storage = storage
        if isinstance(storage, WorkerStorage):
            storage.owner = str(facts["worker"])

    def steps(self, deadline: float | None = None) -> Generator[Step, None, str]:
        """Run trials; why it ended: ``done``, ``exhausted``, ``timeout`` or ``stopped``.

        A free worker resumes the paused trial that its pruner names, best first, and begins a new one otherwise. Where
        all places are taken and nothing trains any more, what is still paused is told as pruned.

        Args:
            deadline: by the worker's clock, after which no trial is begun or resumed.

        Raises:
            StudyError: ten trials failed in a row, or the database or disk gave out.
        """
        while True:
            if self._stop.asked:
                return "stopped"
            if deadline is not None and self._now() >= deadline:
                return "timeout"
            reasons = self._places.failures_in_a_row()
            if len(reasons) >= FAILURES:
                raise StudyError(f"{FAILURES} trials failed in a row, the last one: {reasons[0]}; mend that and go on")
            try:
                run = self._resumed(last=False) or self._new()
                if run == "full":
                    run = self._resumed(last=True)
                if run == "done":
                    return "done"
                if isinstance(run, Run):
                    yield from self._follow(run)
                elif self._places.busy():
                    yield Step(None)
                elif not self._settle() and self._places.exhausted():
                    return "exhausted"
            except Interrupted:
                return "stopped"
            except (TakenAway, UpdateFinishedTrialError):
                self._taken_away()

    @abc.abstractmethod
    def _now(self) -> float:
        """Seconds by this worker's clock."""

    @abc.abstractmethod
    def _decode(self, params: Mapping[str, float]) -> Architecture | None:
        """The network at these numbers; None where the study may not take it."""

    @abc.abstractmethod
    def _shape_of(self, architecture: Architecture) -> tuple[float, ...]:
        """See `Space.realised`."""

    @abc.abstractmethod
    def _seed_of(self, architecture: Architecture) -> int:
        """The seed of a network's training."""

    @abc.abstractmethod
    def _readings(self, run: Run) -> Iterator[EpochResult]:
        """Train: every reading after those in `run.curve`.

        Raises:
            TrialFailed, DataError, Interrupted: see `nas.training.Training`.
        """

    @abc.abstractmethod
    def _record(self, run: Run, row: Row, ended: Ended) -> None:
        """Keep the row and settle its claim, before Optuna is told; a paused one stays open."""

    @abc.abstractmethod
    def _describe(self, run: Run) -> None:
        """Set the attributes that a new trial has from its begin on."""

    def _began_trial(self, run: Run) -> None:  # noqa: B027  (nothing to do in a replay)
        """A trial has its network and is in the storage with it, or is taken up again."""

    def _taken_away(self) -> None:  # noqa: B027
        """Another host took this worker for dead and has settled its trial; the next one can be begun."""

    def _has_read(self, run: Run, reading: EpochResult) -> None:  # noqa: B027
        """A reading is in the storage."""

    def _told(self, run: Run, row: Row) -> None:  # noqa: B027
        """A trial has ended for both sides, or is set aside."""

    def _known(self, params: dict[str, float]) -> Known | None:
        """What a sampler may know of these numbers before they are tried."""
        network = self._decode(params)
        if network is None:
            return None
        cost = self._cost_of(network)
        other = network.macs if cost == network.params else network.params
        return Known(cost, (other,), network.key, self._shape_of(network))

    def _known_of(self, proposals: Sequence[dict[str, float]]) -> Sequence[Known | None]:
        """`_known` of each of several."""
        return [self._known(params) for params in proposals]

    def _propose(self, trial: int, params: dict[str, float]) -> bool:
        """Whether the study takes the network that these numbers decode to: allowed and new."""
        self._stop.check()
        self._network = self._decode(params)
        return self._network is not None and self._places.network(self._claim, trial, self._network.key)

    def _new(self) -> Run | Literal["full", "done"] | None:
        """Begin a trial."""
        place = "full" if self._places.exhausted() else self._places.place(self._plan.trials)
        if not isinstance(place, int):
            return place
        self._claim = place
        trial = self._study.ask()
        try:
            with self._at_once(trial):
                for name, distribution in self._distributions.items():
                    trial.suggest_float(name, distribution.low, distribution.high)
                assert self._network is not None  # the sampler has just proposed it
                run = Run(place, trial, self._network, self._seed_of(self._network), self._moment())
                self._describe(run)
        except SpaceExhausted as end:
            self._places.set_exhausted()
            self._forget(trial, str(end))
            return None
        except Interrupted:
            self._forget(trial, INTERRUPTED)
            raise
        self._began_trial(run)
        return run

    def _resumed(self, *, last: bool) -> Run | None:
        """Take up a paused trial again, where the pruner names one."""
        paused = self._places.paused()
        number = self._pruner.resume(self._study, paused, last=last) if paused else None
        taken = None if number is None else self._places.resume(number)
        if taken is None:
            return None
        run = self._taken(*taken)
        self._began_trial(run)
        return run

    def _taken(self, claim: int, row: Row) -> Run:
        study = self._storage.get_study_id_from_name(self._plan.study)
        number = self._storage.get_trial_id_from_study_id_trial_number(study, row.trial)
        if isinstance(self._storage, WorkerStorage):
            self._storage.hold(number)
        trial = Trial(self._study, number)
        curve = [EpochResult(epoch, accuracy, loss, 0.0) for epoch, accuracy, loss in row.curve]
        return Run(claim, trial, row.architecture, row.seed, self._moment(), curve, before=row)

    def _settle(self) -> bool:
        """Tell the paused trials that none will resume as pruned; whether there were any."""
        paused = sorted(self._places.paused())
        for number in paused:
            taken = self._places.resume(number)
            if taken is not None:
                run = self._taken(*taken)
                self._began_trial(run)
                # What it was stopped by is long out of date; it is pruned by what is known in the end.
                verdict = self._pruner.explain(self._study, self._storage.get_trial(trial_id(run.trial)))
                self._end(run, Ended("pruned", verdict.words or taken[1].reason, verdict))
        return bool(paused)

    def _forget(self, trial: Trial, reason: str) -> None:
        """End a trial that never had a network."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self._places.give_back(self._claim)

    def _follow(self, run: Run) -> Generator[Step, None, None]:
        ended = yield from self._train(run)
        self._end(run, ended)
        if ended.error:
            raise ended.error
        if ended.killed:
            raise Interrupted

    def _train(self, run: Run) -> Generator[Step, None, Ended]:
        """Follow a training, asking the pruner at each reading but the last."""
        resumed = run.before is not None
        spared: Verdict | None = None
        try:
            for reading in self._readings(run):
                yield Step(reading.seconds)
                run.curve.append(reading)
                report(run.trial, reading.val_accuracy, reading.epoch)
                self._has_read(run, reading)
                if reading.epoch == self._plan.epochs:
                    break
                verdict = self._pruner.explain(self._study, self._storage.get_trial(trial_id(run.trial)))
                spared = spared or (verdict if verdict.spared else None)
                if verdict.prune:
                    return Ended("paused" if self._pruner.pauses else "pruned", verdict.words, verdict)
        except TrialFailed as failure:
            return Ended("failed", failure.reason, again=not failure.deterministic)
        except DataError as error:  # an image file changed since the search began: no trial after this one could train
            return Ended("failed", str(error), again=True, error=error)
        except Interrupted:
            if resumed:  # as it was set aside: that checkpoint is still there
                return Ended("paused", INTERRUPTED, killed=True)
            return Ended("failed", INTERRUPTED, again=True, killed=True)
        return Ended("complete", verdict=spared)

    def _end(self, run: Run, ended: Ended) -> None:
        row = self._row(run, ended)
        with self._at_once(run.trial):
            run.trial.set_user_attr(LOSSES, [point.train_loss for point in run.curve])
            run.trial.set_user_attr("seconds", row.seconds)
            if row.state in ("pruned", "failed"):
                run.trial.set_user_attr("reason", row.reason)
            if ended.state == "pruned":
                pruned(run.trial)
        if ended.state == "paused" and isinstance(self._storage, WorkerStorage):
            self._storage.let_go(trial_id(run.trial))  # before it is on record as set aside: then others may take it
        self._record(run, row, ended)
        if ended.state == "complete":
            self._study.tell(run.trial, [float(row.val_accuracy or 0.0), float(row.cost)])
        elif ended.state != "paused":
            self._study.tell(run.trial, state=STATES[ended.state])
        self._told(run, row)

    def _row(self, run: Run, ended: Ended) -> Row:
        """What is recorded of a trial."""
        before, now = run.before, self._moment()
        grounds = ended.verdict.grounds if ended.verdict else None
        if before is not None and ended.killed:
            return before
        if before is not None and ended.state == "pruned" and len(run.curve) == len(before.curve):
            return replace(before, state="pruned", reason=ended.reason, stopped=grounds)
        return Row(
            trial=run.trial.number,
            key=run.architecture.key,
            architecture=run.architecture,
            state=ended.state,
            reason=ended.reason,
            val_accuracy=run.curve[-1].val_accuracy if run.curve else None,
            curve=tuple((point.epoch, point.val_accuracy, point.train_loss) for point in run.curve),
            params=run.architecture.params,
            macs=run.architecture.macs,
            cost=self._cost_of(run.architecture),
            seconds=(before.seconds if before else 0.0) + (now - run.began).total_seconds(),
            seed=run.seed,
            started_at=before.started_at if before else run.began,
            finished_at=now,
            killed=ended.killed,
            stopped=grounds,
            coordinates=dict(run.trial.params),
            source=run.source,
            confusion=run.confusion if ended.state == "complete" else None,
            **self._facts,
        )

    def _at_once(self, trial: Trial) -> AbstractContextManager[None]:
        """Other processes see all that is written to the trial within, or nothing of it."""
        storage = self._storage
        return storage.at_once(trial_id(trial)) if isinstance(storage, WorkerStorage) else nullcontext()

    @abc.abstractmethod
    def _cost_of(self, architecture: Architecture) -> int:
        """What the study makes small."""

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)
