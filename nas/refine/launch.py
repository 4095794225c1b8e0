"""Starts the workers of a refinement, hands them trainings one by one, and says what they do. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.baseline_rows import baselines
from nas.errors import StudyError, written
from nas.files import Files, elsewhere
from nas.metric import in_words
from nas.outage import Waiting
from nas.outcome import Outcome
from nas.records import Records
from nas.refine.display import Display
from nas.refine.options import RefineOptions, check_version
from nas.refine.plan import Outside, Plan, Task, make_plan, words
from nas.refined import Refinement, refinements
from nas.search.display import clock
from nas.search.machine import cores, threads
from nas.search.processes import Processes

MakePlan = Callable[[RefineOptions, Records, Outcome], Plan]
DEATHS = 3
"""So many workers killed over one training give it up; so many killed before any training end the refinement."""


def launch(options: RefineOptions, *, dry_run: bool = False) -> int:
    """Train what the options ask for and is not done yet.

    Args:
        dry_run: say what would be done and how long it should take, and stop; nothing is made.

    Returns:
        0 where all is done; 1 where a training failed, each said with its reason; 130 where it was interrupted, with
        its running trainings kept after their last whole epoch.

    Raises:
        NasError: what the user can mend; what was trained is kept.
    """
    return launch_plan(options, _plan, dry_run=dry_run)


def launch_plan(options: RefineOptions, make: MakePlan, *, dry_run: bool = False) -> int:
    """Train what a plan says; otherwise as `launch`.

    Args:
        make: the plan, made while no other process trains networks of the study here.
    """
    options.check()
    with closing(Records(options.url)) as records, nullcontext() if dry_run else _alone(options):
        records.check_version()
        outcome = Outcome.read(records, options.study)
        check_version(outcome)
        plan = make(options, records, outcome)
        shape = plan.networks[0].architecture.input_shape
        on_gpu = options.device.startswith("cuda")
        at_once = options.workers if on_gpu else min(options.workers, cores())
        with Display(plan, min(options.workers, len(plan.tasks)), in_words(outcome.metric)) as display:
            line = elsewhere(options.folder, outcome.settings)
            if line is not None:
                display.say(f"Warning: {line}")
            for line in words(plan, outcome, workers=options.workers, at_once=at_once, clock=clock):
                display.say(line)
            if dry_run or not plan.tasks:
                return 0
            records.create()  # a study of an older layout has no table for this
            _tidy(options, plan, Files(options.folder, outcome.settings))
            # By the workers that were asked for, however few trainings are left: threads decide a result's last bits.
            crew = _Crew(options, plan, threads(shape, options.workers), display)
            try:
                return crew.run()
            finally:
                crew.kill()


def _plan(options: RefineOptions, records: Records, outcome: Outcome) -> Plan:
    done = refinements(records, records.study(options.study).id)
    folder = options.folder
    there = Files(folder, outcome.settings).names("refined")
    line = [one for one in baselines(records, records.study(options.study).id) if one.kind == "line"]

    def has_weights(one: Refinement) -> bool:
        path = folder.refined(one.key, one.recipe_hash, one.replicate)
        return path.is_file() or path.name in there

    return make_plan(outcome, done, options, has_weights, line)


@contextmanager
def _alone(options: RefineOptions) -> Iterator[None]:
    """Hold the study's refinements for this process; the kernel lets go of a lock however its process ends.

    Raises:
        StudyError: another one holds them.
        NasError, OSError: the study's folder cannot be written.
    """
    path = options.folder.path / "refine.lock"
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)  # of a study in a database elsewhere
        file = path.open("a+", encoding="ascii")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            process = file.read().strip() or "unknown"
            raise StudyError(
                f"another `nas refine {options.study}` or `nas baselines line {options.study}` runs here "
                f"(process {process}); wait for its end, or stop it"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _tidy(options: RefineOptions, plan: Plan, files: Files) -> None:
    """Remove what a killed refinement left half written: nobody else writes there while the lock is held."""
    folder = options.folder
    for name in ("refined", "refining"):
        for path in (folder.path / name).glob(".*"):
            path.unlink(missing_ok=True)
    to_do, there = {(task.row.key, task.replicate) for task in plan.tasks}, files.names("refining")
    for row in plan.networks:  # killed between its row and this
        for replicate in plan.replicates:
            if (row.key, replicate) not in to_do:
                path = _checkpoint(options, plan, Task(row, replicate))
                if path.is_file() or path.name in there:
                    files.drop(path)


def _checkpoint(options: RefineOptions, plan: Plan, task: Task) -> Path:
    return options.folder.refining(task.row.key, plan.recipe_hash, task.replicate)


class _Crew:
    """The worker processes of one launcher."""

    def __init__(self, options: RefineOptions, plan: Plan, worker_threads: int, display: Display) -> None:
        self._options, self._plan, self._display = options, plan, display
        self._processes = Processes("nas.refine.worker", worker_threads)
        self._queue = deque(plan.tasks)
        self._held: dict[int, Task] = {}
        self._ready: set[int] = set()
        self._deaths: Counter[tuple[str, int] | None] = Counter()
        self._failed: list[str] = []
        self._waiting = Waiting(display.say, "the training")
        self._errors: list[str] = []
        self._stopping = 0

    def run(self) -> int:
        """Start all, hand out the trainings, follow the events until the last worker has ended."""
        with self._processes.heard():
            for number in range(min(self._options.workers, len(self._queue))):
                self._start(number)
            while self._processes.numbers:
                heard = self._processes.next(timeout=0.25)
                if heard is None:
                    self._display.refresh()
                elif heard[0] < 0:
                    self._stop()
                elif heard[1] is None:
                    self._ended(heard[0])
                else:
                    self._happened(heard[0], heard[1])
        if self._errors:
            raise StudyError(self._errors[0])
        for line in self._failed:
            self._display.say(f"failed: {line}")
        if self._stopping and self._queue:
            left = len(self._queue)
            show = f"nas refine {self._options.study} --show"
            if self._plan.brief:
                show = f"nas front {self._options.study} --with-baselines"
            self._display.say(
                f"Stopped with {left} training{'s' * (left != 1)} to do. The same command goes on where it stopped; "
                f"{show} prints what is done."
            )
            return 130
        return 1 if self._failed else 0

    def kill(self) -> None:
        """End whatever still runs, at once."""
        self._processes.kill()

    def _start(self, number: int) -> None:
        order = {"options": asdict(self._options), "recipe": dict(self._plan.recipe), "number": number}
        self._processes.start(number, order)

    def _hand_out(self, number: int) -> None:
        """The next training, or the word to end."""
        if self._queue and not self._stopping and not self._errors:
            task = self._held[number] = self._queue.popleft()
            outside = None
            if isinstance(task.row, Outside):
                outside = {"name": task.row.name, "architecture": task.row.architecture.to_json()}
            order = {"trial": task.row.trial, "replicate": task.replicate, "outside": outside}
            self._processes.say(number, json.dumps(order))
        else:
            self._processes.say(number, json.dumps("end"))

    def _stop(self) -> None:
        """Once: each worker ends its epoch and itself. Twice: killed; the checkpoint before is there."""
        self._stopping += 1
        if self._stopping == 1:
            self._display.say("stopping: running trainings are kept after this epoch; Ctrl-C again kills")
            for number in self._processes.numbers:
                self._processes.say(number, json.dumps("stop"))
        else:
            self._processes.kill(wait=False)

    def _happened(self, number: int, event: dict[str, Any]) -> None:
        kind, task = event["event"], self._held.get(number)
        if kind == "error":
            self._fail(event["message"])
        elif kind == "words":
            self._fail("a worker broke down, which is a fault of nas:\n" + "".join(event["lines"][-40:]))
        elif kind == "say":
            self._display.say(event["words"])
        elif kind == "outage":
            self._waiting.heard(number, event["words"])
        elif kind == "ready":
            self._ready.add(number)
            self._hand_out(number)
        elif task is not None and kind == "begun":
            self._display.begun(number, task, event["epoch"])
        elif task is not None and kind == "epoch":
            self._display.epoch(number, event["epoch"], event["accuracy"])
        elif task is not None and kind == "done":
            del self._held[number]
            self._display.done(number, task, event["accuracy"], event["seconds"])
            self._hand_out(number)
        elif task is not None and kind == "failed":
            del self._held[number]
            self._display.given_up(number, task)
            self._give_up(task, event["reason"])
            self._hand_out(number)

    def _give_up(self, task: Task, reason: str) -> None:
        self._display.dropped(task)
        self._failed.append(f"{' '.join(task.name.split())}, seed {task.replicate}: {reason}")
        self._display.say(self._failed[-1])

    def _fail(self, message: str) -> None:
        self._errors.append(message)
        self._processes.ask_to_end()

    def _ended(self, number: int) -> None:
        how = self._processes.ended(number)
        task = self._held.pop(number, None)
        was_ready = number in self._ready
        self._ready.discard(number)
        self._waiting.gone(number)
        if task is not None:
            self._display.given_up(number, task)
            self._queue.appendleft(task)
        if self._stopping or self._errors or not self._queue or (was_ready and task is None):
            return
        name = None if task is None else (task.row.key, task.replicate)
        self._deaths[name] += 1
        killed = f"its worker was killed {DEATHS} times ({how}), for want of memory perhaps"
        if self._deaths[name] < DEATHS:
            self._display.say(f"worker {number + 1} was killed ({how}); another takes its place")
        elif task is None:
            self._fail(f"{DEATHS} workers were killed before they trained ({how})")
            return
        else:
            self._queue.popleft()
            self._give_up(task, killed)
        if self._queue:
            self._start(number)
