"""One worker of a search: trains what the loop proposes, and keeps it in one database.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from nas.architecture import Architecture
from nas.cache import EvaluationCache
from nas.context import Context
from nas.costs import peak_memory_mb
from nas.curve import EpochResult
from nas.errors import DeviceFullError, NasError
from nas.metric import noise_images
from nas.outage import Patience
from nas.records import Row
from nas.refined import measured_seed_std
from nas.search.checkpoints import Checkpoints
from nas.search.claims import Claims
from nas.search.known import Known
from nas.search.liveness import Worker
from nas.search.loop import Ended, Interrupted, Loop, Plan, Run, Stop
from nas.search.options import SearchOptions
from nas.search.pruners import PRUNERS
from nas.search.recovery import recover
from nas.search.reporting import trial_attributes
from nas.search.setup import Setup, preview, set_up
from nas.search.study import optuna_explained
from nas.search.weights import FrontWeights
from nas.seeds import training_seed
from nas.training import Training

WAIT = 0.5
"""Seconds between two looks while the last places are held by other workers."""
DEAD = "it could not reach the database for long, and another machine has marked its trial as killed"


class SearchWorker(Loop):
    """The loop with real trainings.

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
        self._number = number
        self._emit = emit
        self._worker = worker
        self._claims = Claims(setup.opened.records, setup.opened.record.id, worker.id)
        self._weights = FrontWeights(setup.folder, setup.opened, setup.files)
        self._checkpoints = Checkpoints(setup.folder, setup.files)
        self._nearest_to = {one.member.architecture.key: one.names for one in setup.warm or ()}
        self._made, self._away = time.monotonic(), 0.0
        self._training: Training | None = None
        self._zero = time.time() - time.monotonic()
        self._answer: Row | None = None
        self._cache = None if options.no_cache else _cache(options, setup)
        images = noise_images(options.checked_metric, setup.dataset.validation.labels.bincount().tolist())
        super().__init__(
            Plan(
                study=setup.opened.study.study_name,
                coordinates=setup.space.coordinates,
                trials=options.trials,
                epochs=setup.space.recipe.epochs,
                seed=options.seed,
                sampler=options.sampler,
                reference=(1 / setup.space.classes, float(setup.space.cost_range[1])),
                first=tuple(one.member.vector for one in setup.warm or ()),
            ),
            setup.opened.storage,
            self._claims,
            PRUNERS[options.pruner].for_search(
                seed=options.seed,
                last_step=setup.space.recipe.epochs,
                validation_images=images,
                seed_std=measured_seed_std(setup.opened.records, setup.opened.record.name),
            ),
            number=number,
            facts={
                "device": setup.device_name,
                "threads": setup.threads,
                "worker": worker.id,
                "versions": setup.versions,
            },
            stop=stop,
        )

    @property
    def spent(self) -> dict[str, float]:
        """Seconds since this worker was made: all of them, and those of its `machinery`: neither training nor waiting.

        Proposals, pruner, records, weights, and the database's answers.
        """
        seconds = time.monotonic() - self._made
        return {"seconds": seconds, "machinery": seconds - self._away}

    def run(self, deadline: float | None) -> str:
        """Run trials; see `Loop.steps`.

        Args:
            deadline: seconds since 1970 after which no trial is begun.
        """
        steps = self.steps(deadline)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return str(end.value)
            if step.seconds is None:
                recover(self._setup.opened)
                time.sleep(WAIT)
                self._away += WAIT

    def _now(self) -> float:
        # Of the machine's clock only when this worker began: it may be set back meanwhile.
        return self._zero + time.monotonic()

    def _decode(self, params: Mapping[str, float]) -> Architecture | None:
        space = self._setup.space
        architecture = space.decode([params[name] for name in space.coordinates])
        # `decode` keeps the rule
        return architecture if space.budget.holds(architecture.params, architecture.macs) else None

    def _known_of(self, proposals: Sequence[dict[str, float]]) -> list[Known | None]:
        space = self._setup.space
        found = space.outlines([[params[name] for name in space.coordinates] for params in proposals])
        by_params = space.cost == "params"
        return [
            Known(*((one.params, (one.macs,)) if by_params else (one.macs, (one.params,))), one.widths, one.shape)
            if space.budget.holds(one.params, one.macs)
            else None
            for one in found
        ]

    def _shape_of(self, architecture: Architecture) -> tuple[float, ...]:
        return self._setup.space.realised(architecture)

    def _seed_of(self, architecture: Architecture) -> int:
        return training_seed(self._options.seed, architecture.key)

    def _cost_of(self, architecture: Architecture) -> int:
        return self._setup.space.cost_of(architecture)

    def _describe(self, run: Run) -> None:
        architecture = run.architecture
        nearest_to = self._nearest_to.get(architecture.key)
        if nearest_to is not None:
            run.trial.set_user_attr("nearest_to", list(nearest_to))
        known = trial_attributes(
            architecture,
            cost=self._cost_of(architecture),
            seed=run.seed,
            device=self._facts["device"],
            threads=self._facts["threads"],
            worker=self._facts["worker"],
        )
        for name, value in known.items():
            run.trial.set_user_attr(name, value)

    def _began_trial(self, run: Run) -> None:
        self._emit(
            {
                "event": "trial",
                "trial": run.trial.number,
                "params": run.architecture.params,
                "macs": run.architecture.macs,
                "resumed": run.before is not None,
            }
        )

    def _readings(self, run: Run) -> Iterator[EpochResult]:
        readings = self._trained(run)
        while True:
            began = time.monotonic()
            try:
                reading = next(readings)
            except StopIteration:
                return
            finally:
                self._away += time.monotonic() - began
            yield reading

    def _trained(self, run: Run) -> Iterator[EpochResult]:
        self._answer = self._cached(run)
        if self._answer is not None:
            run.source, run.confusion = self._answer.source, self._answer.confusion
            for epoch, accuracy, loss in self._answer.curve[len(run.curve) :]:
                self._stop.check()
                yield EpochResult(epoch, accuracy, loss, 0.0)
            return
        training = self._training = Training(
            run.architecture,
            self._setup.dataset,
            self._setup.space.recipe,
            seed=run.seed,
            device=self._setup.device,
            interrupt=self._stop.check,
            metric=self._options.checked_metric,
        )
        if run.before is not None:
            lost = self._checkpoints.restore(training, run.before.key)
            if lost is not None:
                self._emit({"event": "said", "words": f"trial {run.trial.number}: {lost}"})
        seen = run.curve[-1].epoch if run.curve else 0
        # A training whose checkpoint is lost begins anew: the same seed gives the same curve.
        for reading in training.fit():
            if reading.epoch == self._plan.epochs:
                run.confusion = training.confusion()
            if reading.epoch > seen:
                yield reading

    def _cached(self, run: Run) -> Row | None:
        """What another study has, if that is all that is needed: of a network on the front its weights too."""
        row = None if self._cache is None else self._cache.find(run.architecture.key, run.seed)
        if row is None or self._cache is None or len(row.curve) != self._plan.epochs:
            return None
        mine = replace(row, cost=self._cost_of(run.architecture))
        return mine if not self._weights.wants(mine) or self._cache.weights(row) is not None else None

    def _has_read(self, run: Run, reading: EpochResult) -> None:
        self._emit(
            {"event": "epoch", "trial": run.trial.number, "epoch": reading.epoch, "accuracy": reading.val_accuracy}
        )

    def _record(self, run: Run, row: Row, ended: Ended) -> None:
        """Weights, and the row: whatever dies after that, `recover` can finish."""
        training, self._training = self._training, None
        answer, self._answer = self._answer, None
        if row.state == "paused":
            if training is not None and not ended.killed:
                self._checkpoints.keep(training, row.key)
            self._claims.pause(run.claim, row)
            return
        if row.state == "complete" and training is not None:
            self._weights.keep(row, training.averaged_state())
        if row.state == "complete" and answer is not None and self._cache is not None:
            weights = self._cache.weights(answer)
            if weights is not None:
                self._weights.keep(row, weights)
        self._claims.finish(run.claim, row, again=ended.again)
        self._checkpoints.drop(row.key, was_paused=run.before is not None)

    def _taken_away(self) -> None:
        self._worker.beat()
        self._emit({"event": "said", "words": f"worker {self._number + 1} was taken for dead, and goes on: {DEAD}"})

    def _told(self, run: Run, row: Row) -> None:
        if row.state == "complete":
            self._weights.drop_beaten()
        self._emit(
            {
                "event": "end",
                "trial": row.trial,
                "state": row.state,
                "cost": row.cost,
                "accuracy": row.val_accuracy,
                "reason": row.reason,
                "seconds": row.seconds,
                "source": row.source,
            }
        )


def _cache(options: SearchOptions, setup: Setup) -> EvaluationCache:
    opened = setup.opened
    return EvaluationCache(
        Path(options.studies_dir),
        opened.records,
        opened.record.name,
        Context.of(opened.record.identity),
        device=setup.device.type,
        threads=setup.threads,
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

    def outage(words: str | None) -> None:
        emit({"event": "outage", "words": words})

    if not lines.readline():  # the word to begin: the first worker has made the study, or this is the first
        return 0
    threading.Thread(target=_watch, args=(lines, stop), daemon=True).start()
    try:
        if options.dry_run:
            emit({"event": "preview", "words": preview(options, stop.check)})
            emit({"event": "over", "why": "done", "peak_mb": peak_memory_mb()})
            return 0
        # All but the first are told to begin when the study is there.
        with Patience(outage, stop.check, known=order["known"] or number > 0) as patience:
            setup = set_up(options, number, lambda line: emit({"event": "said", "words": line}))
            patience.known = True
            facts = setup.facts
            deadline = order["deadline"]
            if order["measure"]:
                start = time.monotonic()
                facts["words"] += "".join(f"\n{line}" for line in setup.estimate(options, facts["states"], stop.check))
                deadline = None if deadline is None else deadline + time.monotonic() - start
            worker = Worker(setup.opened.records, setup.opened.record.id, setup.folder.workers)
            emit({"event": "ready", "worker": worker.id, **facts})
            url = options.storage or setup.folder.url
            with closing(setup.dataset), closing(setup.files), optuna_explained(url), worker:
                one = SearchWorker(options, setup, worker, number, stop, emit)
                end = one.run(deadline)
        emit({"event": "over", "why": end, "peak_mb": peak_memory_mb(), **one.spent})
    except Interrupted:  # before the first trial
        emit({"event": "over", "why": "stopped", "peak_mb": peak_memory_mb()})
    except NasError as error:
        if isinstance(error, DeviceFullError) and number > 0:  # the others go on: the first one has found room
            emit({"event": "said", "words": f"worker {number + 1} takes no part: {error}"})
            emit({"event": "over", "why": "no room", "peak_mb": peak_memory_mb()})
            return 0
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
