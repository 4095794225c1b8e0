"""One worker: takes a place, asks, trains, tells, against one database, until the total is reached.

Run as ``python -m nas.search.worker``: reads its options as a line of JSON, then waits for the word to begin; says what
it does as lines of JSON; ends its trial and stops when its standard input closes, so that it never outlives whoever
started it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import Trial, TrialState
from optuna_dashboard import save_note
from torch import Tensor

from nas.architecture import Architecture
from nas.costs import peak_memory_mb
from nas.errors import DataError, NasError, StudyError, TrialFailed
from nas.evaluation import evaluate, training_seed
from nas.metric import noise_images
from nas.records import Row, State
from nas.search import pruned, report
from nas.search.claims import FAILURES, Claims
from nas.search.liveness import Worker
from nas.search.notes import note
from nas.search.options import SearchOptions
from nas.search.pruners import PRUNERS, Verdict
from nas.search.recovery import STATES, recover
from nas.search.reporting import trial_id
from nas.search.samplers import SAMPLERS, DistinctSampler, SpaceExhausted
from nas.search.setup import Setup, preview, set_up
from nas.search.study import OpenStudy, optuna_explained
from nas.search.weights import FrontWeights
from nas.training import EpochResult

INTERRUPTED = "the search was interrupted"
WAIT = 0.5
"""Seconds between two looks while the last places are held by other workers."""


class Interrupted(KeyboardInterrupt):
    """The search was asked to stop: the running trial is marked and the worker ends."""


@dataclass(slots=True)
class Stop:
    """Set from outside (a signal, the end of standard input), looked at once a batch and between trials."""

    asked: bool = False

    def ask(self, *_: object) -> None:
        """Ask; also a signal's handler."""
        self.asked = True

    def check(self) -> None:
        """Raise `Interrupted` where it was asked."""
        if self.asked:
            raise Interrupted


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a training ended: `again` where the network may be tried again, `killed` where it was ended from outside.

    `error` ends the search, once the trial is told.
    """

    state: State
    curve: list[EpochResult]
    reason: str | None = None
    verdict: Verdict | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    again: bool = False
    killed: bool = False
    error: NasError | None = None


class SearchWorker:
    """The loop of one worker.

    Args:
        options: what the search was asked to do.
        setup: images, space, device and study, as `set_up` made them.
        worker: this process's entry among the living.
        number: this worker's place among those of its launcher, from 0: it seeds the sampler.
        stop: asked to stop.
        emit: takes what the worker does, for whoever shows it.
    """

    def __init__(
        self,
        options: SearchOptions,
        setup: Setup,
        worker: Worker,
        number: int,
        stop: Stop,
        emit: Callable[[dict[str, Any]], None],
    ) -> None:
        self._options = options
        self._setup = setup
        self._opened: OpenStudy = setup.opened
        self._worker = worker
        self._stop = stop
        self._emit = emit
        self._claims = Claims(setup.opened.records, setup.opened.record.id, worker.id)
        self._began = time.time()
        self._claim = 0
        self._architecture: Architecture | None = None
        self._pruner = PRUNERS[options.pruner].for_search(
            seed=options.seed,
            last_step=setup.space.recipe.epochs,
            validation_images=noise_images(options.checked_metric, setup.dataset.validation.labels.bincount().tolist()),
        )
        self._weights = FrontWeights(setup.folder, setup.opened)
        so_far = len(setup.opened.study.get_trials(deepcopy=False))
        # With the number of trials so far: a resume with the seed alone would replay the draws of the start-up phase.
        seed = (options.seed + so_far + 1_000_003 * number) % 2**32
        self._distributions = {name: FloatDistribution(0, 1) for name in setup.space.coordinates}
        self._study = optuna.load_study(
            study_name=setup.opened.study.study_name,
            storage=setup.opened.storage,
            sampler=DistinctSampler(SAMPLERS[options.sampler](seed), self._distributions, self._propose, seed=seed),
            pruner=self._pruner,
        )

    def run(self, deadline: float | None) -> str:
        """Run trials; why it ended: ``done``, ``exhausted``, ``timeout`` or ``stopped``.

        Args:
            deadline: seconds since 1970 after which no trial is begun.

        Raises:
            StudyError: ten trials failed in a row, or the database or disk gave out.
        """
        while True:
            if self._stop.asked:
                return "stopped"
            if deadline is not None and time.time() >= deadline:
                return "timeout"
            reasons = self._claims.failures_in_a_row(self._began)
            if len(reasons) >= FAILURES:
                raise StudyError(f"{FAILURES} trials failed in a row, the last one: {reasons[0]}; mend that and go on")
            if self._claims.exhausted():
                return "exhausted"
            place = self._claims.place(self._options.trials)
            if place == "done":
                return "done"
            if place == "wait":
                recover(self._opened)
                time.sleep(WAIT)
                continue
            self._claim = place
            trial = self._study.ask()
            try:
                for name, distribution in self._distributions.items():
                    trial.suggest_float(name, distribution.low, distribution.high)
            except SpaceExhausted as end:
                self._claims.set_exhausted()
                self._forget(trial, str(end))
                return "exhausted"
            except Interrupted:
                self._forget(trial, INTERRUPTED)
                return "stopped"
            try:
                self._trial(trial)
            except Interrupted:
                return "stopped"

    def _propose(self, trial: int, params: dict[str, float]) -> bool:
        """Whether the study takes the network that these numbers decode to: inside the budget and new."""
        self._stop.check()
        space = self._setup.space
        architecture = space.decode([params[name] for name in space.coordinates])
        self._architecture = architecture
        return space.allows(architecture) and self._claims.network(self._claim, trial, architecture.key)

    def _forget(self, trial: Trial, reason: str) -> None:
        """End a trial that never had a network."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self._claims.give_back(self._claim)

    def _trial(self, trial: Trial) -> None:
        """Train, record and tell one trial."""
        architecture = self._architecture
        assert architecture is not None  # the sampler has just proposed it
        setup, started = self._setup, datetime.now(UTC)
        seed = training_seed(self._options.seed, architecture.key)
        known = {
            "cost": float(setup.space.cost_of(architecture)),
            "params": architecture.params,
            "macs": architecture.macs,
            "key": architecture.key,
            "seed": seed,
            "device": setup.device_name,
            "threads": setup.threads,
            "worker": self._worker.id,
            "architecture": json.dumps(architecture.to_json()),
        }
        for name, value in known.items():
            trial.set_user_attr(name, value)
        self._emit({"event": "trial", "trial": trial.number, "params": architecture.params, "macs": architecture.macs})
        ended = self._train(trial, architecture, seed)
        row = Row(
            trial=trial.number,
            key=architecture.key,
            architecture=architecture,
            state=ended.state,
            reason=ended.reason,
            val_accuracy=ended.curve[-1].val_accuracy if ended.curve else None,
            curve=tuple((point.epoch, point.val_accuracy, point.train_loss) for point in ended.curve),
            params=architecture.params,
            macs=architecture.macs,
            cost=setup.space.cost_of(architecture),
            seconds=(datetime.now(UTC) - started).total_seconds(),
            seed=seed,
            device=setup.device_name,
            threads=setup.threads,
            worker=self._worker.id,
            started_at=started,
            finished_at=datetime.now(UTC),
            killed=ended.killed,
            stopped=None if ended.verdict is None else _grounds(ended.verdict),
        )
        self._tell(trial, row, ended)
        if ended.error:
            raise ended.error
        if ended.killed:
            raise Interrupted

    def _train(self, trial: Trial, architecture: Architecture, seed: int) -> _Ended:
        """Train one network, reading by reading, asking the pruner."""
        curve: list[EpochResult] = []
        verdicts: list[Verdict] = []

        def read(last: EpochResult) -> None:
            curve.append(last)
            report(trial, last.val_accuracy, last.epoch)
            self._emit({"event": "epoch", "trial": trial.number, "epoch": last.epoch, "accuracy": last.val_accuracy})

        def should_stop(so_far: Sequence[EpochResult]) -> bool:
            read(so_far[-1])
            verdict = self._pruner.explain(self._study, trial.storage.get_trial(trial_id(trial)))
            if verdict.spared and "spared" not in trial.user_attrs:
                trial.set_user_attr("spared", _grounds(verdict))  # what an audit of the rule counts
            verdicts[:] = [verdict]
            return verdict.prune

        try:
            evaluation = evaluate(
                architecture,
                self._setup.dataset,
                self._setup.space.recipe,
                seed=seed,
                device=self._setup.device,
                should_stop=should_stop,
                interrupt=self._stop.check,
                metric=self._options.checked_metric,
            )
        except TrialFailed as failure:
            return _Ended("failed", curve, failure.reason, again=not failure.deterministic)
        except DataError as error:  # an image file changed since the search began: no trial after this one could train
            return _Ended("failed", curve, str(error), again=True, error=error)
        except Interrupted:
            return _Ended("failed", curve, INTERRUPTED, again=True, killed=True)
        if evaluation.stopped:
            return _Ended("pruned", curve, _words(verdicts[0]), verdict=verdicts[0])
        read(evaluation.curve[-1])  # the last reading, about which no pruner is asked
        return _Ended("complete", curve, weights=evaluation.weights)

    def _tell(self, trial: Trial, row: Row, ended: _Ended) -> None:
        """Attributes, weights, the row, and last Optuna's state: whatever dies between, `recover` can finish."""
        trial.set_user_attr("seconds", row.seconds)
        if row.reason is not None:
            trial.set_user_attr("reason", row.reason)
        save_note(trial, note(row))
        if row.state == "pruned":
            pruned(trial)
        elif row.state == "complete":
            self._weights.keep(row, ended.weights)
        self._claims.finish(self._claim, row, again=ended.again)
        if row.state == "complete":
            values = [float(row.val_accuracy or 0.0), float(row.cost)]
            self._study.tell(trial, values)
            self._weights.drop_beaten()
        else:
            self._study.tell(trial, state=STATES[row.state])
        self._emit(
            {
                "event": "end",
                "trial": row.trial,
                "state": row.state,
                "cost": row.cost,
                "accuracy": row.val_accuracy,
                "reason": row.reason,
                "seconds": row.seconds,
            }
        )


def _grounds(verdict: Verdict) -> dict[str, Any]:
    """Why a trial was pruned, or would have been, as JSON."""
    return {
        "rung": verdict.rung,
        "deficit": verdict.deficit,
        "margin": verdict.margin,
        "dominated_by": verdict.dominated_by,
    }


def _words(verdict: Verdict) -> str:
    margin = "" if verdict.margin is None else f", more than the margin of {100 * verdict.margin:.1f}"
    return (
        f"{100 * verdict.deficit:.1f} points behind trial {verdict.dominated_by}, which is no larger, "
        f"at epoch {verdict.rung}{margin}"
    )


def serve() -> int:
    """The process: options from standard input, events to standard output; 0 where the search went well."""
    stop = Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the launcher passes it on, once
    signal.signal(signal.SIGTERM, stop.ask)
    lines = sys.stdin
    # Events go where standard output went; whatever else a library prints goes to the words.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(lines.readline())
    options = SearchOptions(**order["options"])
    number = int(order["number"])

    def emit(event: dict[str, Any]) -> None:
        try:
            print(json.dumps(event), file=events, flush=True)
        except BrokenPipeError:
            stop.ask()

    if not lines.readline():  # the word to begin: the first worker has made the study, or this is the first
        return 0
    threading.Thread(target=_watch, args=(lines, stop), daemon=True).start()
    try:
        if options.dry_run:
            emit({"event": "preview", "words": preview(options, stop.check)})
            emit({"event": "over", "why": "done", "peak_mb": peak_memory_mb()})
            return 0
        setup = set_up(options, number)
        facts = setup.facts
        deadline = order["deadline"]
        if order["measure"]:
            start = time.time()
            facts["words"] += "".join(f"\n{line}" for line in setup.estimate(options, facts["states"], stop.check))
            deadline = None if deadline is None else deadline + time.time() - start
        emit({"event": "ready", **facts})
        url = options.storage or setup.folder.url
        records, study = setup.opened.records, setup.opened.record.id
        with closing(setup.dataset), optuna_explained(url), Worker(records, study, setup.folder.workers) as worker:
            end = SearchWorker(options, setup, worker, number, stop, emit).run(deadline)
        emit({"event": "over", "why": end, "peak_mb": peak_memory_mb()})
    except Interrupted:  # before the first trial
        emit({"event": "over", "why": "stopped", "peak_mb": peak_memory_mb()})
    except NasError as error:
        emit({"event": "error", "message": str(error)})
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        emit({"event": "error", "message": f"{error.filename}: {error.strerror}; free it and run the command again"})
        return 1
    return 0


def _watch(lines: IO[str], stop: Stop) -> None:
    """Ask to stop when standard input ends: whoever started this worker is gone, or wants it to end."""
    while lines.readline():
        pass
    stop.ask()


if __name__ == "__main__":
    code = serve()
    sys.stdout.flush()
    # The reader of standard input is still blocked in its read; leaving by the ordinary way would wait for it.
    os._exit(code)
