"""Starts the workers, on this machine or over a Ray cluster, shows what they do, and settles what they leave.

The launcher imports no torch: each worker does, at the same time, while the first one makes the study.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from typing import Any

from nas.database import parse_url, shown
from nas.errors import StudyError
from nas.metric import in_words
from nas.records import Records
from nas.search.display import Display
from nas.search.gpus import placed
from nas.search.liveness import forget
from nas.search.machine import threads
from nas.search.options import SearchOptions
from nas.search.processes import Processes
from nas.search.ray_cluster import RayOptions, on_ray
from nas.search.ray_crew import RayCrew
from nas.search.recovery import recover
from nas.search.study import open_study, optuna_explained
from nas.space import Space

DEATHS = 10
"""So many deaths of one worker without a trial ended in between end the search: the machine does not let it live."""


def launch(options: SearchOptions, ray: RayOptions | None = None) -> int:
    """Run a search to its end.

    Args:
        ray: where on a Ray cluster; None: on this machine.

    Returns:
        0 where it ended well; 130 where it was interrupted, with its running trials marked.

    Raises:
        NasError: what the user can mend; running trials are marked first.
    """
    space = options.check()
    folder = options.folder(space)
    url = parse_url(options.storage or folder.url)
    if ray is None:
        return _run(options, space, Processes("nas.search.worker", threads(space.input_shape, options.workers)))
    with on_ray(ray, options, space, url) as (everywhere, crew):
        return _run(everywhere, space, crew)


def _run(options: SearchOptions, space: Space, processes: Processes | RayCrew) -> int:
    folder = options.folder(space)
    url = options.storage or folder.url
    with Display(options.trials, space.recipe.epochs, options.workers, in_words(options.checked_metric)) as display:
        crew = _Crew(options, url, processes, display)
        try:
            code = crew.run()
        finally:
            crew.kill()
            if display.study_ready:
                try:
                    with optuna_explained(url):
                        opened = open_study(url, folder.name)
                        recover(opened)
                        display.settled(opened.records.points(folder.name))
                except StudyError as error:  # whatever ended the search is what is said last
                    display.say(f"Running trials are marked by the next command: {error}")
        display.end(folder.name, shown(parse_url(url)))
    return code


class _Crew:
    """The worker processes of one launcher."""

    def __init__(self, options: SearchOptions, url: str, processes: Processes | RayCrew, display: Display) -> None:
        self._options = options
        self._url = url
        self._processes = processes
        self._display = display
        self._deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self._waiting: set[int] = set()
        self._later: list[int] = []
        self._ids: dict[int, str] = {}
        self._deaths: Counter[int] = Counter()
        self._over: set[int] = set()
        self._errors: list[str] = []
        self._stopping = 0

    def run(self) -> int:
        """Start all, follow their events until the last one has ended."""
        with self._processes.heard():
            numbers = list(range(1 if self._options.dry_run else self._options.workers))
            if isinstance(self._processes, RayCrew):
                # Only one may make the study: others, begun before it, could have all the room there is.
                numbers, self._later = numbers[:1], numbers[1:]
                self._display.say(self._processes.words)
            for number in numbers:
                self._start(number)
            self._go(0)
            while self._processes.numbers:
                heard = self._processes.next(timeout=0.25)
                if heard is None:
                    self._display.refresh()
                    continue
                number, event = heard
                if number < 0:
                    self._stop()
                elif event is None:
                    self._ended(number)
                else:
                    self._happened(number, event)
        if self._errors:
            raise StudyError(self._errors[0])
        return 130 if self._stopping else 0

    def kill(self) -> None:
        """End whatever still runs, at once."""
        self._processes.kill()

    def _start(self, number: int) -> None:
        self._waiting.add(number)
        order: dict[str, Any] = {
            "options": asdict(self._options),
            "number": number,
            # on the clock as it stands now: it may have been set back since the search began
            "deadline": None if self._deadline is None else time.time() + self._deadline - time.monotonic(),
            # whoever joins a search begins at once: how long it takes was said where it was begun
            "known": self._display.study_ready,
            "measure": number == 0 and not self._display.study_ready and not self._options.joins,
        }
        if isinstance(self._processes, RayCrew):  # which gives each worker its part of a GPU
            self._processes.start(number, order)
            return
        device, environment = placed(self._options.device, number)
        order["options"]["device"] = device
        self._processes.start(number, order, environment)

    def _go(self, number: int) -> None:
        if number in self._waiting:
            self._waiting.discard(number)
            self._processes.say(number, "go")

    def _stop(self) -> None:
        """Once: each worker ends its trial and itself. Twice: killed, and `recover` marks what they held."""
        self._stopping += 1
        if self._stopping == 1:
            self._display.say("stopping: running trials are marked and can be taken up again; Ctrl-C again kills")
        self._processes.ask_to_end()
        if self._stopping > 1:
            self._processes.kill(wait=False)

    def _happened(self, number: int, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "error":
            self._fail(event["message"])
            return
        if kind == "words":
            self._fail("a worker broke down, which is a fault of nas:\n" + "".join(event["lines"][-40:]))
            return
        if kind == "ready":
            self._ids[number] = event["worker"]
            self._start_later()
            for other in sorted(self._waiting):
                self._go(other)
        elif kind == "over":
            self._over.add(number)
        elif kind == "end":
            self._deaths.clear()
        self._display.happened(number, event)

    def _start_later(self) -> None:
        if not self._errors and not self._stopping:
            for number in self._later:
                self._start(number)
            self._later = []

    def _fail(self, message: str) -> None:
        self._errors.append(message)
        self._processes.ask_to_end()

    def _ended(self, number: int) -> None:
        how = self._processes.ended(number)
        self._waiting.discard(number)
        self._display.gone(number)
        if number in self._over:
            return
        self._forget(number)
        if self._errors or self._stopping:
            return
        self._deaths[number] += 1
        if self._deaths[number] >= DEATHS:
            self._fail(f"worker {number + 1} was killed {DEATHS} times with no trial ended in between ({how})")
            return
        self._display.say(f"worker {number + 1} was killed ({how}); another takes its place")
        self._start(number)
        self._go(number)

    def _forget(self, number: int) -> None:
        """Let nobody wait for the beat of a dead worker: only Ray tells that one of another machine is dead."""
        worker = self._ids.pop(number, None)
        if worker is not None and isinstance(self._processes, RayCrew):
            try:
                with closing(Records(self._url)) as records:
                    forget(records, worker)
            except StudyError:  # out of reach just now: its beat tells in the end
                pass
